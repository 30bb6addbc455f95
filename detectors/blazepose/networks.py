"""BlazePose, the networks inside the mediapipe package, as two graphs: pictures to ``PoseDetection``.

    person detector   a picture or a part of it to a ``RotatedRoi`` per person
    landmarker        a ``RotatedRoi`` that may hold somebody to the landmarks of that person

Both come from the one graph file of the package (``mediapipe.solutions.pose``). The package has one landmark network,
``full``; the file of another, ``lite`` or ``heavy``, may take its place: same inputs, same outputs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from detectors.blazepose.types import VISIBLE_SCORE, PoseDetection, RotatedRoi
from detectors.pose_geometry import BODY

# COCO-17 out of MediaPipe's 33 landmarks, by name; both have the left joint of a pair first.
LANDMARKS = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8,
    "left_shoulder": 11, "right_shoulder": 12, "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16,
    "left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26, "left_ankle": 27, "right_ankle": 28,
}  # fmt: skip
PERSON_DETECTOR, FULL = "pose_detection/pose_detection.tflite", "pose_landmark/pose_landmark_full.tflite"
GRAPH = "modules/pose_landmark/pose_landmark_cpu.binarypb"
REGION, POSE, CIRCLE = "pose_rect", "unfiltered_pose_landmarks", "unfiltered_auxiliary_landmarks"  # streams of it
DETECTIONS = "pose_detections"  # of the same graph: everybody, of whom MediaPipe itself takes the first
MIN_PERSON_SCORE = 0.3
PRESENCE = "poselandmarkbyroicpu__tensorstoposelandmarksandsegmentation__ThresholdingCalculator.threshold"
MODEL_COMPLEXITY = 1  # "full"; 0 and 2 are files that the wheel lacks
MIN_PRESENCE = 0.5  # MediaPipe's default
MIN_VISIBLE_JOINTS = 5  # of nose and limbs, inside the picture; fewer is not a person one can lift ...
BUST, HIPS = np.array([0, 5, 6]), np.array([11, 12])  # ... but a head and shoulders that the border cuts off the hips
OFF_SCREEN_SCORE = 0.2  # joints outside the picture are guesses, but MediaPipe reports visibility up to 0.9 there
MIN_CROP_PX = 16
TRIALS = 8  # looks to find the better number of threads
BLANK = np.zeros((32, 64, 3), np.uint8)  # not square: that is what MediaPipe warns of once


class Landmarker:
    """Landmarks of the person in a part of a picture, without memory.

    Args:
        landmarks: File of the landmark network, None for the package's own.
        threads: Threads of the network; None takes ``num_threads()``.
    """

    def __init__(self, landmarks: Path | None = None, threads: int | None = None) -> None:
        self._graph = _landmarker(threads or num_threads(), landmarks)

    def __call__(self, frame: np.ndarray, region: RotatedRoi) -> tuple[PoseDetection, RotatedRoi] | None:
        """Return who is in ``region`` of ``frame`` (H, W, 3) and the region that fits the body; None if nobody is."""
        if region.side < MIN_CROP_PX:
            return None
        height, width = frame.shape[:2]
        found = self._graph.process({"image": np.ascontiguousarray(frame), REGION: _rect(region, height, width)})
        pose, circle = getattr(found, POSE), getattr(found, CIRCLE)
        body = None if pose is None else to_body(coco_landmarks(pose), height, width)
        if body is None:
            return None
        (x, y), rim = (np.array([point.x * width, point.y * height]) - 0.5 for point in circle.landmark[:2])
        return body, RotatedRoi.of_circle(x, y, rim[0], rim[1])

    def close(self) -> None:
        """Free the graph."""
        self._graph.close()


class PersonDetector:
    """Regions of everybody in a part of a picture, without memory; sees who fills at least a quarter of it."""

    def __init__(self) -> None:
        self._graph = _person_detector()

    def __call__(self, frame: np.ndarray, part: tuple[int, int, int, int]) -> list[RotatedRoi]:
        """Return one region per person in ``part`` (x0, y0, x1, y1) of ``frame`` (H, W, 3), the surest first."""
        x0, y0, x1, y1 = part
        found = getattr(self._graph.process({"image": np.ascontiguousarray(frame[y0:y1, x0:x1])}), DETECTIONS) or []
        regions = []
        for detection in sorted(found, key=lambda each: -each.score[0]):
            points = [
                (x0 + point.x * (x1 - x0) - 0.5, y0 + point.y * (y1 - y0) - 0.5)
                for point in detection.location_data.relative_keypoints[:2]  # middle of the hips, rim of the body
            ]
            regions.append(RotatedRoi.of_circle(*points[0], *points[1]))
        return regions

    def close(self) -> None:
        """Free the graph."""
        self._graph.close()


def coco_landmarks(found: Any) -> np.ndarray:
    """Return COCO-17 (17, 3) x and y in [0, 1] of the picture, visibility."""
    points = [found.landmark[index] for index in LANDMARKS.values()]
    return np.array([(point.x, point.y, point.visibility) for point in points])


def to_body(landmarks: np.ndarray, height: int, width: int) -> PoseDetection | None:
    """Return landmarks as a body in pixels; None if too little of it is inside the picture.

    Args:
        landmarks: (17, 3) x and y in [0, 1] of the picture, visibility.
        height: Of the picture [px].
        width: Of the picture [px].
    """
    keypoints = landmarks[:, :2] * (width, height) - 0.5  # the first pixel's center is (0, 0)
    inside = ((keypoints >= -0.5) & (keypoints <= (width - 0.5, height - 0.5))).all(axis=1)
    scores = np.where(inside, landmarks[:, 2], np.minimum(landmarks[:, 2], OFF_SCREEN_SCORE)).clip(0, 1)
    visible = scores >= VISIBLE_SCORE
    is_bust = visible[BUST].all() and not inside[HIPS].any()
    if visible[BODY].sum() < MIN_VISIBLE_JOINTS and not is_bust:
        return None
    return PoseDetection(keypoints.astype(np.float32), scores.astype(np.float32))


def _landmarker(num_threads: int, landmarks: Path | None) -> Any:
    """Return the part of the graph behind the detector, warmed up: the region of a person becomes an input."""
    with quiet():
        from mediapipe.python.solution_base import SolutionBase

        graph = _published_graph(num_threads, landmarks)
        nodes = _nodes_between(graph, REGION, (POSE, CIRCLE))
        needed = {_stream(name) for node in nodes for name in node.input_side_packet}
        side_inputs = [name for name in graph.input_side_packet if _stream(name) in needed]
        for field, kept in (
            (graph.node, nodes), (graph.input_side_packet, side_inputs),
            (graph.output_stream, [f"LANDMARKS:{POSE}", f"AUXILIARY_LANDMARKS:{CIRCLE}"]),
        ):  # fmt: skip
            del field[:]
            field.extend(kept)
        graph.input_stream.append(f"ROI:{REGION}")
        landmarker = SolutionBase(
            graph_config=graph, side_inputs={"model_complexity": MODEL_COMPLEXITY},
            calculator_params={PRESENCE: MIN_PRESENCE}, outputs=[POSE, CIRCLE],
        )  # fmt: skip
        landmarker.process({"image": BLANK, REGION: _rect(RotatedRoi(32, 16, 64), *BLANK.shape[:2])})
    return landmarker


def _person_detector() -> Any:
    """Return the part of the graph that finds everybody in a picture, warmed up; one thread, as it takes 10 ms."""
    with quiet():
        from mediapipe.python.solution_base import SolutionBase

        graph = _published_graph(1, None)
        for node in graph.node:
            for place, name in enumerate(node.input_stream):
                node.input_stream[place] = name.replace("image_for_pose_detection", "image")  # in every frame
        nodes = _nodes_between(graph, REGION, (DETECTIONS,))
        for field, kept in (
            (graph.node, nodes), (graph.input_side_packet, []), (graph.output_stream, [f"DETECTIONS:{DETECTIONS}"]),
        ):  # fmt: skip
            del field[:]
            field.extend(kept)
        threshold = "posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh"
        detector = SolutionBase(
            graph_config=graph, calculator_params={threshold: MIN_PERSON_SCORE}, outputs=[DETECTIONS]
        )
        detector.process({"image": BLANK})
    return detector


def _rect(region: RotatedRoi, height: int, width: int) -> Any:
    """Return a region as MediaPipe wants it: in picture sizes, edges of pixels counted from 0."""
    from mediapipe.framework.formats.rect_pb2 import NormalizedRect

    return NormalizedRect(
        x_center=(region.x + 0.5) / width, y_center=(region.y + 0.5) / height,
        width=region.side / width, height=region.side / height, rotation=region.angle,
    )  # fmt: skip


def _nodes_between(graph: Any, start: str, ends: Iterable[str]) -> list[Any]:
    """Return copies of the nodes that ``ends`` depend on, if stream ``start`` is given, in their order."""
    maker = {_stream(name): i for i, node in enumerate(graph.node)
             for name in (*node.output_stream, *node.output_side_packet)}  # fmt: skip
    del maker[start]
    wanted, kept = list(ends), set()
    while wanted:
        index = maker.get(wanted.pop())
        if index is not None and index not in kept:
            kept.add(index)
            wanted += map(_stream, (*graph.node[index].input_stream, *graph.node[index].input_side_packet))
    return [type(graph.node[i]).FromString(graph.node[i].SerializeToString()) for i in sorted(kept)]


def _stream(name: str) -> str:
    """Return the name of a stream that may be written with a tag: TAG:index:name."""
    return name.rpartition(":")[2]


def _published_graph(num_threads: int, landmarks: Path | None) -> Any:
    """Return the graph of the package, all of its parts unfolded, whose networks use so many threads.

    The file of the landmark network is a constant of the graph, one for each model complexity. They name files inside
    the package; an absolute path is taken as it is.
    """
    from mediapipe.calculators.core.constant_side_packet_calculator_pb2 import ConstantSidePacketCalculatorOptions
    from mediapipe.calculators.tensor.inference_calculator_pb2 import InferenceCalculatorOptions
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
    from mediapipe.python._framework_bindings.validated_graph_config import ValidatedGraphConfig

    validated = ValidatedGraphConfig()
    validated.initialize(binary_graph_path=str(_package_folder() / GRAPH))
    graph = CalculatorGraphConfig.FromString(validated.binary_config)
    for node in graph.node:
        if node.calculator == "InferenceCalculatorCpu":
            options = node.options.Extensions[InferenceCalculatorOptions.ext]
            options.delegate.xnnpack.num_threads = num_threads
        elif landmarks is not None and node.calculator == "ConstantSidePacketCalculator":
            for packet in node.options.Extensions[ConstantSidePacketCalculatorOptions.ext].packet:
                if packet.string_value.endswith(".tflite"):
                    packet.string_value = str(landmarks.resolve())
    return graph


@cache
def num_threads() -> int:
    """Return 2 if a second thread makes MediaPipe faster right now, else 1; its answers are the same, bit by bit.

    1, too, if OMP_NUM_THREADS says that this process has one core to itself, as a worker beside others does. It waits
    by spinning: 1.6 times faster with a core to spare, 2.5 times slower without (measured on 2 cores). Hence the trial.
    The network takes pictures of one size, so that any picture will do for it.
    """
    if os.environ.get("OMP_NUM_THREADS") == "1":
        return 1
    fastest = {}
    for threads in (1, 2):
        landmarker = Landmarker(threads=threads)
        times = []
        for _ in range(TRIALS):
            began = time.perf_counter()
            landmarker(BLANK, RotatedRoi(32, 16, 64))
            times.append(time.perf_counter() - began)
        landmarker.close()
        fastest[threads] = min(times)
    return 2 if fastest[2] < 0.9 * fastest[1] else 1


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what C++ writes to the process's stderr inside the block; environment variables do not stop all of it."""
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


def model_files(landmarks: Path | None = None) -> list[Path]:
    """Return the model files that are used, where ``landmarks`` may take the place of the package's own network.

    Raises:
        RuntimeError: mediapipe is installed without its models.
    """
    modules = _package_folder() / "modules"
    paths = [modules / PERSON_DETECTOR, landmarks or modules / FULL]
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
