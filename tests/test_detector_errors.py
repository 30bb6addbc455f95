"""How a 2D detector errs: known answers on made-up detections, and MediaPipe on the sample clip."""

import numpy as np
import pytest

from app import detector_errors
from detectors.people import People
from lifter.skeletons import COCO17

LEFT_SHOULDER, RIGHT_WRIST = COCO17.index("left_shoulder"), COCO17.index("right_wrist")


def standing(count: int) -> np.ndarray:
    """True points (n, 17, 2) px of somebody 200 px tall, shoulders above hips."""
    points = np.zeros((17, 2))
    for i, name in enumerate(COCO17.names):
        side = 20.0 if name.startswith("left") else -20.0
        height = {"ankle": 0, "knee": 50, "hip": 100, "wrist": 90, "elbow": 120, "shoulder": 150}
        points[i] = (300 + side, 400 - height.get(name.rpartition("_")[2], 200))
    return np.repeat(points[None], count, axis=0)


def seen(points: np.ndarray) -> list[People]:
    box, one = np.zeros((1, 4), np.float32), np.ones(1, np.float32)
    return [People(box, one, p[None].astype(np.float32), np.ones((1, 17), np.float32)) for p in points]


def sample(points: np.ndarray, found: list[People], fps: float = 0.0) -> detector_errors.Sample:
    flags = np.zeros(points.shape[:2], bool)
    return detector_errors.sample_of(found, points, flags, ~flags, fps)


def test_errors_are_in_person_sizes_along_the_trunk():
    truth = standing(5)
    found = truth.copy()
    found[:, LEFT_SHOULDER] += (4, -6)  # px to the right of the picture, and up
    upright = sample(truth, seen(found))
    assert upright.errors[:, LEFT_SHOULDER] == pytest.approx(np.tile([0.02, 0.03], (5, 1)), abs=1e-6)
    assert np.abs(np.delete(upright.errors, LEFT_SHOULDER, axis=1)).max() < 1e-6
    turned = [np.stack([-x[..., 1], x[..., 0]], axis=-1) for x in (truth, found)]  # a quarter turn of the picture
    assert sample(turned[0], seen(turned[1])).errors == pytest.approx(upright.errors, abs=1e-6)


def test_somebody_else_and_nobody_are_counted_apart():
    truth = standing(4)
    found = seen(truth)
    found[1] = People.nobody()
    found[2] = seen(truth[:1] + 100)[0]
    result = sample(truth, found)
    assert (len(result.errors), result.num_missed) == (2, 2)


def test_a_clip_needs_a_truth_of_its_length(root):
    clip, truth = root / "assets" / "empty_room.mp4", root / "assets" / "walk_wave.gt.npz"
    with pytest.raises(ValueError, match=r"has 257 frames, .* has 60"):
        detector_errors.of_clips([(clip, truth)], "mediapipe")


def test_mediapipe_on_the_sample_clip(root):
    (result,) = detector_errors.of_clips([(root / "assets" / "walk_wave.mp4", root / "assets" / "walk_wave.gt.npz")],
                                         "mediapipe")  # fmt: skip
    assert len(result.errors) == 257
    assert result.num_missed == 0
    offset = np.median(result.errors[:, LEFT_SHOULDER, 1])
    assert 0.01 < offset < 0.04  # it marks shoulders above the joint's centre
    distance = np.linalg.norm(result.errors, axis=-1)[:, RIGHT_WRIST]
    sees = ~result.hidden[:, RIGHT_WRIST]
    assert np.median(distance[~sees]) > 2 * np.median(distance[sees])
    titles = [table.title for table in detector_errors.tables("walk_wave", [result])]
    assert len(titles) == 4
    assert "257 pictures, 0 more" in titles[0]
