"""The detector registry, the follower's decisions (on scripted backend) and MediaPipe itself on rendered clips."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import detectors
from detectors import DETECTORS, load_detector
from detectors.blazepose.networks import LANDMARKS, to_body
from detectors.blazepose.single_person import (
    AUDIT_FRAMES,
    LEFT_PATIENCE_FRAMES,
    MAX_STRIKES,
    PATIENCE_FRAMES,
    SinglePersonTracker,
)
from detectors.blazepose.types import PoseDetection
from detectors.boxes.types import BoxDetections
from detectors.mediapipe import MediaPipeMultiPerson, to_people
from detectors.pose_geometry import MIRRORED
from detectors.shot_boundaries import ShotBoundaryDetector
from detectors.tracking.build_tracks import build_tracks
from lifter.skeletons import COCO17
from tests.people import body

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "assets" / "walk_wave.mp4"
VIDEOS = ROOT.parent / "shared" / "data" / "videos"

needs_mediapipe = pytest.mark.skipif(find_spec("mediapipe") is None, reason="the mediapipe extra is not installed")
HEIGHT, WIDTH = 480, 640
FRAME = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
PERSON_PX = 160


class ScriptedBackend:
    """A tracker that reports what the script says; looks see the real people of the frame.

    Args:
        tracked: What MediaPipe's tracker reports in each frame.
        present: The people really there in each frame; as tracked if left out.
    """

    def __init__(self, tracked: list[PoseDetection | None], present: list[list[PoseDetection]] | None = None):
        self.tracked = tracked
        self.present = present or [[seen] if seen else [] for seen in tracked]
        self.frame = -1
        self.num_looks = 0
        self.seeded_at: list[int] = []

    def track(self, frame):
        self.frame += 1
        return self.tracked[self.frame]

    def restart(self, frame=None, box=None):
        if box is not None:
            self.seeded_at.append(self.frame)

    def look(self, frame, box, mirrored):
        self.num_looks += 1
        for person in self.present[self.frame]:
            x, y = person.keypoints[11:13].mean(axis=0)
            if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
                return person
        return None


def follow(
    backend: ScriptedBackend, frames: list[np.ndarray] | None = None
) -> tuple[list[float | None], SinglePersonTracker]:
    """Return the x of the followed person's hips in every frame, and the follower."""
    follower = SinglePersonTracker(backend)
    found = [follower.step(frame) for frame in frames or [FRAME] * len(backend.tracked)]
    return [None if person is None else round(float(person.keypoints[11:13, 0].mean())) for person in found], follower


@pytest.mark.parametrize("fps", [10, 25, 60])
def test_walker_is_followed_at_any_frame_rate_for_the_price_of_tracking(fps):
    walk = [body(60 + t / fps * 1.4 / 1.55 * PERSON_PX) for t in range(3 * fps)]
    backend = ScriptedBackend(walk)
    found, follower = follow(backend)
    assert None not in found
    assert not follower.events
    assert backend.num_looks == 1 + (len(walk) - 1) // AUDIT_FRAMES  # the welcome and the audits


MAIN, OTHER, SMALL = body(150), body(500), body(500, height=110)
LEAVING = [body(x) for x in (60, 45, 30, 15)]
# What the tracker reports, who is there (as reported if None), whom the follower must follow, and its events.
SCRIPTS = {
    "a jump to a bystander is undone": (
        [MAIN] * 5 + [SMALL] + [MAIN] * 4, [[MAIN, SMALL]] * 10, [150] * 10, {"jump": 1, "repair": 1},
    ),
    "a bystander is not taken while the main person is hidden": (
        [MAIN] * 5 + [OTHER] * 4 + [MAIN] * 4, [[MAIN]] * 5 + [[OTHER]] * 4 + [[MAIN]] * 4,
        [150] * 5 + [None] * 4 + [150] * 4, {"jump": 4},
    ),
    "a lost person still in view is found by looking": (
        [MAIN] * 3 + [None] * 3, [[MAIN]] * 6, [150] * 6, {"loss": 3, "repair": 3},
    ),
    "somebody else is accepted after patience": (
        [MAIN] * 3 + [OTHER] * (PATIENCE_FRAMES + 2), None, [150] * 3 + [None] * PATIENCE_FRAMES + [500] * 2,
        {"jump": PATIENCE_FRAMES},
    ),
    "patience is short with a person who walked out of the picture": (
        LEAVING + [OTHER] * (LEFT_PATIENCE_FRAMES + 2), None,
        [60, 45, 30, 15] + [None] * LEFT_PATIENCE_FRAMES + [500] * 2, {"jump": LEFT_PATIENCE_FRAMES},
    ),
    "a person who enters an empty picture is accepted at once": (
        [None] * 40 + [body(300)] * 2, None, [None] * 40 + [300] * 2, {},
    ),
    "a hallucinated body is nobody": ([body(300)] * 5, [[]] * 5, [None] * 5, {"stranger": 5}),
    "a neighbor in the crop does not make a ghost": (
        [body(300)] * 31, [[body(300)]] + [[body(340, height=200)]] * 30, [300] * 31, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tracked", "present", "expected", "events"), SCRIPTS.values(), ids=SCRIPTS)
def test_one_person_is_followed(tracked, present, expected, events):
    found, follower = follow(ScriptedBackend(tracked, present))
    assert found == expected
    assert follower.events == events


def test_the_tracker_is_sent_back_to_the_main_person():
    backend = ScriptedBackend([MAIN] * 5 + [SMALL] + [MAIN] * 4, [[MAIN, SMALL]] * 10)
    follow(backend)
    assert backend.seeded_at == [5]


def test_drift_onto_furniture_ends_at_the_audit():
    person = body(300)
    num_frames = AUDIT_FRAMES + MAX_STRIKES + 5
    found, follower = follow(ScriptedBackend([person] * num_frames, [[person]] + [[]] * (num_frames - 1)))
    assert follower.events["ghost"] == 1
    assert found[AUDIT_FRAMES + MAX_STRIKES - 1] is None


def test_suspicious_motion_is_audited_at_once():
    backend = ScriptedBackend([body(300), body(300 + 0.25 * PERSON_PX), body(300 + 0.25 * PERSON_PX)])
    found, _ = follow(backend)
    assert found == [300, 340, 340]
    assert backend.num_looks == 2  # the welcome and the second frame


def test_cut_changes_the_person_at_once():
    pictures = [np.full_like(FRAME, 30)] * 5 + [np.full_like(FRAME, 200)] * 3
    found, follower = follow(ScriptedBackend([body(150)] * 5 + [body(500)] * 3), pictures)
    assert found == [150] * 5 + [500] * 3
    assert follower.events == {"cut": 1}


def test_steady_change_is_no_cut():
    noise = np.random.default_rng(0)
    pictures = [np.full((90, 160, 3), 100 + 30 * (t % 2), np.uint8) for t in range(20)]
    pictures += [noise.integers(0, 30, (90, 160, 3), np.uint8) + np.uint8(100)] * 3
    cuts = ShotBoundaryDetector()
    assert [t for t, picture in enumerate(pictures) if cuts.is_cut(picture)] == [1]  # nothing was known before it


def test_landmarks_are_coco_17_in_order_and_mirror_like_it():
    assert tuple(LANDMARKS) == COCO17.names
    assert tuple(MIRRORED) == COCO17.mirrored


def test_landmarks_of_a_crop_become_pixels_with_the_first_center_at_zero():
    landmarks = np.tile([0.5, 0.25, 0.9], (17, 1))
    seen = to_body(landmarks, (100, 40, 300, 240), HEIGHT, WIDTH)
    np.testing.assert_array_equal(seen.keypoints, np.tile([199.5, 89.5], (17, 1)))


def test_joints_outside_the_picture_score_low_and_too_few_inside_are_nobody():
    landmarks = np.column_stack([np.linspace(0.1, 1.3, 17), np.full(17, 0.5), np.full(17, 0.9)])
    seen = to_body(landmarks, (0, 0, WIDTH, HEIGHT), HEIGHT, WIDTH)
    outside = seen.keypoints[:, 0] > WIDTH - 0.5
    assert (seen.scores[outside] <= 0.2).all()
    assert (seen.scores[~outside] > 0.8).all()
    landmarks[:, 0] += 0.6
    assert to_body(landmarks, (0, 0, WIDTH, HEIGHT), HEIGHT, WIDTH) is None


def test_box_lies_inside_the_picture_and_nobody_is_an_empty_frame():
    found = to_people(body(10), HEIGHT, WIDTH)
    assert found.boxes[0, 0] == 0
    assert found.boxes[0, 2] < WIDTH
    assert len(to_people(None, HEIGHT, WIDTH)) == 0


@pytest.mark.process
def test_registry_imports_no_mediapipe():
    code = "import sys, detectors; raise SystemExit('mediapipe' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_unknown_detector_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown detector 'media'; choose from .*mediapipe"):
        load_detector("media")


@pytest.mark.parametrize("python_below", [None, (3, 10)])
def test_missing_package_says_what_to_do(monkeypatch, python_below):
    spec = replace(DETECTORS["mediapipe"], package="no_such_package", python_below=python_below)
    monkeypatch.setitem(detectors.DETECTORS, "absent", spec)
    with pytest.raises(RuntimeError, match=r"pip install -e '\.\[mediapipe\]'") as caught:
        load_detector("absent")
    assert ("no wheel for Python 3.10 or newer" in str(caught.value)) == (python_below is not None)


def decode(path: Path, num_frames: int | None = None) -> list[np.ndarray]:
    if not path.exists():
        pytest.skip(f"{path.name} is not on this machine")
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), num_frames)]


def raw_mediapipe(frames: list[np.ndarray]) -> list[float | None]:
    """Return the x of the nose [picture widths] from MediaPipe's own tracker, None where it finds nobody."""
    from mediapipe.python.solutions.pose import Pose

    with Pose(model_complexity=1) as pose:
        landmarks = [pose.process(frame).pose_landmarks for frame in frames]
    return [None if found is None else found.landmark[0].x for found in landmarks]


@needs_mediapipe
def test_provenance_names_version_and_weights():
    provenance = load_detector("mediapipe").provenance
    assert provenance["detector"] == "mediapipe"
    assert set(provenance["weights"]) == {"pose_detection.tflite", "pose_landmark_full.tflite"}
    assert all(len(sha256) == 64 for sha256 in provenance["weights"].values())


@needs_mediapipe
def test_it_takes_one_network_of_each_kind(tmp_path):
    takes = r"'mediapipe' takes at most one of yolo26n, .*yolox-nano; at most one of mediapipe-lite, mediapipe-heavy .*"
    for given in (["yolox-nano", tmp_path / "boxes.onnx"], ["mediapipe-lite", tmp_path / "pose.tflite"]):
        with pytest.raises(ValueError, match=takes + "got 2"):
            load_detector("mediapipe", given)


@needs_mediapipe
def test_frames_of_a_wrong_type_are_refused():
    with pytest.raises(ValueError, match="uint8 of shape"):
        next(load_detector("mediapipe")([FRAME.astype(np.float32)]))


@needs_mediapipe
@pytest.mark.process
def test_stderr_stays_clean_and_usable():
    code = (
        "import sys, numpy as np; from detectors import load_detector\n"
        "from detectors.blazepose.networks import Landmarker; from detectors.blazepose.types import RotatedRoi\n"
        "frame = np.zeros((48, 64, 3), np.uint8); list(load_detector('mediapipe')([frame] * 2))\n"
        "Landmarker()(frame, RotatedRoi(30, 20, 40)); sys.stderr.write('mine')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stderr == "mine"


@needs_mediapipe
def test_every_frame_of_the_sample_clip_matches_the_rendered_truth():
    found = list(load_detector("mediapipe")(decode(CLIP)))
    assert [len(frame) for frame in found] == [1] * len(found)

    with np.load(CLIP.with_suffix(".gt.npz")) as truth:
        joints = truth["coco_px"][:, 0, 5:] - 0.5  # the truth's pixel i covers [i, i + 1)
        heights = truth["bbox"][:, 0, 3] - truth["bbox"][:, 0, 1]
    keypoints = np.stack([frame.keypoints[0] for frame in found])
    error = np.linalg.norm(keypoints[:, 5:] - joints, axis=-1).mean(axis=1) / heights
    swapped = np.linalg.norm(keypoints[:, MIRRORED][:, 5:] - joints, axis=-1).mean(axis=1) / heights
    assert error.mean() < 0.025  # 0.016 with mediapipe 0.10.21
    assert (error < swapped).all()


@needs_mediapipe
def test_empty_room_is_empty():
    assert all(len(frame) == 0 for frame in load_detector("mediapipe")(decode(CLIP.with_name("empty_room.mp4"), 20)))


@needs_mediapipe
def test_furniture_is_nobody():
    frames = decode(VIDEOS / "no_person_room_540p25.mp4", 200)[170:]
    assert any(x is not None for x in raw_mediapipe(frames))  # or the clip tests nothing
    assert all(len(frame) == 0 for frame in load_detector("mediapipe")(frames))


@needs_mediapipe
def test_main_person_is_kept_when_the_tracker_jumps_to_a_bystander():
    """The man waves at the left, hidden for 4 frames; a smaller copy of him waves at the right all the time."""
    hidden = range(12, 16)
    frames = []
    for t, picture in enumerate(decode(CLIP, 130)[90:]):
        frame = np.full((480, 1000, 3), 128, np.uint8)
        frame[124:460, 640:] = cv2.resize(picture, (448, 336), interpolation=cv2.INTER_AREA)[:, 44:404]
        if t not in hidden:
            frame[:, :640] = picture
        frames.append(frame)
    raw = raw_mediapipe(frames)
    assert raw[8] < 0.6 < raw[-1]  # MediaPipe starts with the man and ends with the bystander, or this tests nothing

    found = list(load_detector("mediapipe")(frames))
    assert [len(frame) for frame in found] == [int(t not in hidden) for t in range(len(frames))]
    assert all((frame.keypoints[..., 0] < 640).all() for frame in found)


class TrueBoxes:
    """The boxes of a rendered clip, as if a network had found them; ``bbox`` counts the edges of pixels from 0."""

    def __init__(self, truth: np.ndarray) -> None:
        self._truth = iter((truth - 0.5).astype(np.float32))

    def __call__(self, frames):
        return [BoxDetections(next(self._truth), np.full(2, 0.9, np.float32)) for _ in frames]


@needs_mediapipe
def test_two_people_who_cross_are_found_and_told_apart(shared):
    """He is in front; she is hidden in frames 41 to 47 and bends down later (not seen here)."""
    clip = shared / "data" / "synthetic" / "two_people.mp4"
    frames = decode(clip, 100)
    with np.load(clip.with_suffix(".gt.npz")) as truth:
        joints, boxes = truth["coco_px"][: len(frames)] - 0.5, truth["bbox"][: len(frames)]
    detector = MediaPipeMultiPerson(TrueBoxes(boxes), {"detector": "mediapipe"})
    people = list(detector(frames))

    # measured: 0.029 and 0.965, 0.038 and 0.914; MediaPipe in still mode on crops: means of 0.034 and 0.060
    for person, (mean, pck) in enumerate([(0.033, 0.95), (0.045, 0.89)]):
        errors = np.full((len(frames), 12), np.nan)
        for t, present in enumerate(people):
            row = np.flatnonzero(np.abs(present.boxes - (boxes[t, person] - 0.5)).max(axis=1, initial=0) < 0.01)
            if len(row):
                height = boxes[t, person, 3] - boxes[t, person, 1]
                errors[t] = np.linalg.norm(present.keypoints[row[0], 5:] - joints[t, person, 5:], axis=-1) / height
        found = np.isfinite(errors).all(axis=1)
        assert found.mean() > 0.95
        assert errors[found].mean() < mean
        assert (errors[found] < 0.1).mean() > pck

    tracks = build_tracks(people, max_gap_frames=15, min_track_frames=10, fps=30.0, picture=(854, 480))
    assert len(tracks) == 2
    for track in tracks:
        distance = np.linalg.norm(track.keypoints[:, None, 5:] - joints[track.frames, :, 5:], axis=-1).mean(axis=-1)
        nearest = distance[track.observed].argmin(axis=1)
        alone = np.abs(joints[track.frames[track.observed], 0, 11, 0] - joints[track.frames[track.observed], 1, 11, 0])
        assert len(set(nearest[alone > 40])) == 1


@needs_mediapipe
def test_with_boxes_of_a_real_network_everybody_is_found(shared):
    weights = shared / "data" / "weights" / "yolox_nano_coco_416.onnx"
    if not weights.is_file():
        pytest.skip(f"no {weights.name} beside the checkout")
    detector = load_detector("mediapipe", [weights])
    frames = decode(shared / "data" / "synthetic" / "two_people.mp4", 20)[::5]
    assert [len(people) for people in detector(frames)] == [2] * 4
    assert detector.provenance["boxes"] == weights.name
    assert len(detector.provenance["weights"][weights.name]) == 64
    assert not list(detector([]))
    assert [len(people) for people in detector([FRAME] * 2)] == [0, 0]
