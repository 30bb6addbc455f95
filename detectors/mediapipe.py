"""MediaPipe Pose as a detector: frames -> ``People``, one person, no download; see ``detectors.follower``."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from detectors.body import BODY, MIRRORED
from detectors.follower import Body, Follower, grow
from detectors.people import People

logger = logging.getLogger(__name__)
# COCO-17 out of MediaPipe's 33 landmarks, by name; both have the left joint of a pair first.
LANDMARKS = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8,
    "left_shoulder": 11, "right_shoulder": 12, "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16,
    "left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26, "left_ankle": 27, "right_ankle": 28,
}  # fmt: skip
MODELS = ("pose_detection/pose_detection.tflite", "pose_landmark/pose_landmark_full.tflite")
GRAPH = "modules/pose_landmark/pose_landmark_cpu.binarypb"
MODEL_COMPLEXITY = 1  # "full", the only one inside the wheel; 0 and 2 would be downloaded
MIN_VISIBLE_JOINTS = 5  # of nose and limbs, inside the picture; fewer is not a person one can lift
VISIBLE_SCORE = 0.3
OFF_SCREEN_SCORE = 0.2  # joints outside the picture are guesses, but MediaPipe reports visibility up to 0.9 there
BOX_MARGIN = 0.1  # around the keypoints [box sizes]: the head's top and the feet lie outside of them
MIN_CROP_PX = 16
TRIALS = 5  # pictures to find the better number of threads
BLANK = np.zeros((64, 64, 3), np.uint8)


def clip(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Return box (4,) as whole pixels x0, y0, x1, y1 (x1 and y1 exclusive) inside the picture."""
    x0, x1 = np.clip([np.floor(box[0]), np.ceil(box[2]) + 1], 0, width).astype(int)
    y0, y1 = np.clip([np.floor(box[1]), np.ceil(box[3]) + 1], 0, height).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def to_body(landmarks: np.ndarray, crop: tuple[int, int, int, int], height: int, width: int) -> Body | None:
    """Return landmarks of a crop as a body in the whole picture; None if too little of it is inside.

    Args:
        landmarks: (17, 3) x and y in [0, 1] of the crop, visibility.
        crop: x0, y0, x1, y1 px.
        height: Height of the whole picture [px].
        width: Width of the whole picture [px].
    """
    x0, y0, x1, y1 = crop
    keypoints = landmarks[:, :2] * (x1 - x0, y1 - y0) + (x0, y0) - 0.5  # the first pixel's centre is (0, 0)
    inside = ((keypoints >= -0.5) & (keypoints <= (width - 0.5, height - 0.5))).all(axis=1)
    scores = np.where(inside, landmarks[:, 2], np.minimum(landmarks[:, 2], OFF_SCREEN_SCORE)).clip(0, 1)
    if (scores[BODY] >= VISIBLE_SCORE).sum() < MIN_VISIBLE_JOINTS:
        return None
    return Body(keypoints.astype(np.float32), scores.astype(np.float32))


def to_people(body: Body | None, height: int, width: int) -> People:
    """Return a frame with this one person, or nobody; the box has a margin and lies inside the picture."""
    if body is None:
        return People.nobody()
    limits = np.array([width - 1, height - 1, width - 1, height - 1], np.float32)
    box = np.clip(grow(body.box, BOX_MARGIN), 0, limits).astype(np.float32)
    score = body.scores[BODY].mean(dtype=np.float32)
    return People(box[None], np.array([score], np.float32), body.keypoints[None], body.scores[None])


class MediaPipeEyes:
    """MediaPipe itself: one instance that tracks and one without memory."""

    def __init__(self) -> None:
        threads = _num_threads()
        self._tracker = _pose(is_video=True, num_threads=threads)
        self._looker = _pose(is_video=False, num_threads=threads)

    def track(self, frame: np.ndarray) -> Body | None:
        """See ``Eyes``."""
        height, width = frame.shape[:2]
        return _run(self._tracker, frame, (0, 0, width, height), mirrored=False)

    def restart(self, frame: np.ndarray | None = None, box: np.ndarray | None = None) -> None:
        """See ``Eyes``. A blank picture makes MediaPipe lose its target in 15 ms; its reset() takes 130 ms."""
        self._tracker.process({"image": BLANK})
        if frame is not None and box is not None:
            x0, y0, x1, y1 = clip(box, *frame.shape[:2])
            masked = np.zeros_like(frame)
            masked[y0:y1, x0:x1] = frame[y0:y1, x0:x1]
            self._tracker.process({"image": masked})

    def look(self, frame: np.ndarray, box: np.ndarray, mirrored: bool) -> Body | None:
        """See ``Eyes``."""
        return _run(self._looker, frame, clip(box, *frame.shape[:2]), mirrored)

    def close(self) -> None:
        """Free the graphs."""
        self._tracker.close()
        self._looker.close()


def _run(pose: Any, frame: np.ndarray, crop: tuple[int, int, int, int], mirrored: bool) -> Body | None:
    """Return what MediaPipe finds in a crop of ``frame``, in pixels of the whole frame."""
    x0, y0, x1, y1 = crop
    if min(x1 - x0, y1 - y0) < MIN_CROP_PX:
        return None
    pixels = frame[y0:y1, x0:x1]
    found = pose.process({"image": np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)}).pose_landmarks
    if found is None:
        return None
    points = [found.landmark[index] for index in LANDMARKS.values()]
    landmarks = np.array([(point.x, point.y, point.visibility) for point in points])  # (17, 3)
    if mirrored:
        landmarks[:, 0] = 1 - landmarks[:, 0]
        landmarks = landmarks[MIRRORED]
    return to_body(landmarks, crop, *frame.shape[:2])


def _pose(is_video: bool, num_threads: int, threshold: float = 0.5) -> Any:
    """Return MediaPipe's pose graph, warmed up, so that what it logs on its first picture is over.

    Graph and inputs are those of ``mediapipe.solutions.pose.Pose``, a class that cannot set the number of threads.
    """
    with _quiet():
        from mediapipe.calculators.tensor.inference_calculator_pb2 import InferenceCalculatorOptions
        from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
        from mediapipe.python._framework_bindings.validated_graph_config import ValidatedGraphConfig
        from mediapipe.python.solution_base import SolutionBase

        validated = ValidatedGraphConfig()
        validated.initialize(binary_graph_path=str(_package_folder() / GRAPH))
        graph = CalculatorGraphConfig.FromString(validated.binary_config)
        for node in graph.node:
            if node.calculator == "InferenceCalculatorCpu":
                options = node.options.Extensions[InferenceCalculatorOptions.ext]
                options.delegate.xnnpack.num_threads = num_threads
        by_roi = "poselandmarkbyroicpu__tensorstoposelandmarksandsegmentation__"
        pose = SolutionBase(
            graph_config=graph,
            side_inputs={
                "model_complexity": MODEL_COMPLEXITY,
                "smooth_landmarks": is_video,
                "enable_segmentation": False,
                "smooth_segmentation": False,
                "use_prev_landmarks": is_video,
            },
            calculator_params={
                "posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh": threshold,
                f"{by_roi}ThresholdingCalculator.threshold": threshold,
            },
            outputs=["pose_landmarks"],
        )
        pose.process({"image": BLANK})
    return pose


@cache
def _num_threads() -> int:
    """Return 2 if a second thread makes MediaPipe faster right now, else 1; its answers are the same, bit by bit.

    1, too, if OMP_NUM_THREADS says that this process has one core to itself, as a worker beside others does. It waits
    by spinning: 1.6 times faster with a core to spare, 2.5 times slower without (measured on 2 cores). Hence the trial,
    which also uses up what MediaPipe logs once per process: at thresholds of 0 anything is a person.
    """
    best = {}
    for threads in (1,) if os.environ.get("OMP_NUM_THREADS") == "1" else (1, 2):
        with _quiet(), _pose(is_video=False, num_threads=threads, threshold=0.0) as pose:
            picture = BLANK[: len(BLANK) // 2]  # not square: that is what it warns of
            pose.process({"image": picture})
            times = []
            for _ in range(TRIALS):
                began = time.perf_counter()
                pose.process({"image": picture})
                times.append(time.perf_counter() - began)
            best[threads] = statistics.median(times)
    return 2 if best.get(2, math.inf) < 0.95 * best[1] else 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what C++ writes to the process's stderr meanwhile; environment variables do not stop all of it."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # started without a stderr: nothing to keep quiet
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


class MediaPipeDetector:
    """Frames -> ``People``; every call is a new video.

    Attributes:
        provenance: ``detector``, ``version`` of mediapipe, ``weights``: file name -> SHA-256.
    """

    def __init__(self, provenance: dict[str, Any]) -> None:
        self.provenance = provenance

    def __call__(self, frames: Iterable[np.ndarray], /) -> Iterator[People]:
        """Yield one People per frame, with one person or nobody.

        Args:
            frames: RGB uint8 pictures (H, W, 3) in order; all of one size.

        Raises:
            ValueError: A frame has another shape or dtype.
        """
        eyes = MediaPipeEyes()
        follower = Follower(eyes)
        try:
            for frame in frames:
                if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
                    raise ValueError(f"frames must be uint8 of shape (H, W, 3), got {frame.dtype} {frame.shape}")
                yield to_people(follower.step(frame), *frame.shape[:2])
            logger.info("mediapipe: %s", dict(follower.events) or "no jumps")
        finally:
            eyes.close()


def build(weights: Sequence[Path] = (), device: str = "cpu") -> MediaPipeDetector:
    """Return the detector.

    Args:
        weights: Must be empty: the models lie inside the mediapipe package.
        device: Ignored: MediaPipe runs on the CPU.

    Raises:
        ValueError: ``weights`` were given.
        RuntimeError: mediapipe is installed without its models.
    """
    if weights:
        raise ValueError(f"the mediapipe detector carries its weights and takes none, got {weights}; leave weights out")
    return MediaPipeDetector(
        {"detector": "mediapipe", "version": version("mediapipe"), "weights": {p.name: _sha256(p) for p in _models()}}
    )


def _models() -> list[Path]:
    """Return the model files that are used."""
    paths = [_package_folder() / "modules" / model for model in MODELS]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise RuntimeError(
            f"mediapipe {version('mediapipe')} has no {', '.join(absent)}; 0.10.21 is the last release with models: "
            "in the checkout, pip install -e '.[mediapipe]'"
        )
    return paths


def _package_folder() -> Path:
    spec = find_spec("mediapipe")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
