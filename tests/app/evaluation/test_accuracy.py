"""``yolo-hrnet`` as a user runs it, pixels to JSON, with real networks that this repository trained (tests/fixtures).

They have never seen these clips, nor these bodies, rooms or clothes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from app.evaluation import tracking_metrics
from app.evaluation.ground_truth import match_person
from app.options import Options

pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="the yolo extra is not installed")
NETWORKS = ("yolo26n-person.safetensors", "hrnet-w8-96x64.safetensors")


@pytest.fixture(scope="module")
def weights(root):
    return [root / "tests" / "fixtures" / name for name in NETWORKS]


@pytest.fixture(scope="module")
def walker(root):
    return root / "assets" / "walk_wave.mp4"


@pytest.fixture(scope="module")
def pair(shared):
    return shared / "data" / "synthetic" / "two_people.mp4"


def options(weights, **settings) -> Options:
    return Options(detector="yolo-hrnet", detector_weights=tuple(map(str, weights)), **settings)


@pytest.fixture(scope="module")
def documents(root, weights, walker, pair, tmp_path_factory):
    """``pose.json`` of both clips and of a room with nobody in it, written by one command."""
    out = tmp_path_factory.mktemp("flagship")
    clips = [walker, pair, root / "assets" / "empty_room.mp4"]
    chosen = [text for path in weights for text in ("--detector-weights", path)]
    command = [sys.executable, "-m", "app", "run", *clips, "-o", out, "--detector", "yolo-hrnet", *chosen]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return {clip.stem: json.loads((out / clip.stem / "pose.json").read_text()) for clip in clips}


def nearest(person: dict, truth_px: np.ndarray) -> int:
    """Return which of the true people (F, P, 17, 2) the keypoints of a person in the document are nearest to."""
    keypoints = np.array(person["keypoints_2d"])[..., :2]
    return match_person(keypoints, truth_px[person["frames"]])


def follows(person: dict, truth: np.ndarray) -> float:
    """Return the correlation of how a person (F, P, 17, 3) moves across the picture with the truth, in meters."""
    frames, valid = np.array(person["frames"]), np.array(person["valid"])
    return float(np.corrcoef(np.array(person["root"])[valid, 0], truth[frames[valid], 0, 0])[0, 1])


def test_the_walker_is_found_and_walks_where_he_walked(documents, walker):
    """These networks are too small for a good 3D pose; tests/app/test_sample_clip.py has bounds for it."""
    (person,) = documents["walk_wave"]["people"]
    assert len(person["frames"]) > 240
    with np.load(walker.with_suffix(".gt.npz"), allow_pickle=False) as truth:
        assert follows(person, truth["h36m_cam"][:, 0]) > 0.95  # measured: 0.997


def test_both_people_are_found_and_walk_where_they_walked(documents, pair):
    with np.load(pair.with_suffix(".gt.npz"), allow_pickle=False) as truth:
        joints, points = truth["h36m_cam"], truth["coco_px"] - 0.5
    tracks = sorted(documents["two_people"]["people"], key=lambda person: len(person["frames"]))
    longest = {nearest(person, points): person for person in tracks}
    assert set(longest) == {0, 1}
    for index, person in longest.items():
        assert follows(person, joints[:, index]) > 0.9  # measured: 1.00 and 0.97


def test_nobody_in_an_empty_room(documents):
    assert documents["empty_room"]["people"] == []


def test_the_document_says_which_networks_made_it(documents, weights):
    said = documents["walk_wave"]["provenance"]["detector"]
    assert said["detector"] == "yolo-hrnet"
    assert said["weights"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}


@pytest.mark.parametrize("every", [1, 4])
def test_boxes_and_keypoints_agree_with_the_truth(weights, walker, every):
    """Measured: box recall 0.95, limb joints within 0.1 of the person's size 0.69; the same with every fourth look."""
    (person,) = tracking_metrics.score_people(
        tracking_metrics.run_detector(walker, walker.with_suffix(".gt.npz"), options(weights, detection_interval=every))
    )
    assert person.box_recall > 0.9
    assert person.pck[0] > 0.6
    assert (len(person.ids), person.switches) == (1, 0)


def test_two_people_who_cross_stay_two_people(pair, shared):
    """With networks trained on real people (YOLOX-nano, MediaPipe): the small ones lose the woman now and then."""
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    boxes = shared / "data" / "weights" / "yolox_nano_coco_416.onnx"
    run = tracking_metrics.run_detector(
        pair, pair.with_suffix(".gt.npz"), Options(detector="mediapipe", detector_weights=(str(boxes),))
    )
    assert [len(track.frames) for track in run.tracks] == [182, 182]
    for person in tracking_metrics.score_people(run):
        assert person.box_recall > 0.9
        assert person.pck[0] > 0.85
        assert (len(person.ids), person.switches) == (1, 0)
