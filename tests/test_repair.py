"""2D repair: what no body does is undone and flagged, what a body can do is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.body import MIRRORED, body_size
from detectors.repair import repair

FPS = 30
ARMS, LEGS = np.arange(7, 11), np.arange(13, 17)


@pytest.fixture(scope="module")
def motion(root):
    """(T, 17, 2) float32 px: a man walks, waves and turns round, exact."""
    return np.load(root / "assets" / "walk_wave.gt.npz")["coco_px"][:, 0].astype(np.float32)


def repaired(keypoints, scores=None, observed=None, fps=FPS, picture=None):
    count = len(keypoints)
    scores = np.full((count, 17), 0.9, np.float32) if scores is None else scores
    observed = np.ones(count, bool) if observed is None else observed
    return repair(keypoints, scores, observed, fps, picture)[:3]


@pytest.mark.parametrize("speed", [1, 2, 3, 4])
def test_true_motion_is_not_touched_however_fast(motion, speed):
    keypoints, _, changed = repaired(motion[::speed])
    np.testing.assert_array_equal(keypoints, motion[::speed])
    assert not changed.any()


@pytest.mark.parametrize("rate", [25, 50])
def test_kicks_and_punches_are_not_touched(shared, rate):
    path = shared / "data" / "mocap" / "cmu2" / "cmu_86.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {shared.name}/")
    mocap = np.load(path)
    as_coco = [9, 9, 9, 9, 9, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3]  # the face is not recorded
    joints = (mocap["rel"][:, as_coco].astype(np.float32) + mocap["root"][:, None]) * 200  # px per metre
    joints = joints[: mocap["clip_start"][1] : round(float(mocap["fps"]) / rate)]
    for axes in ([0, 1], [1, 2]):  # front and side
        assert not repaired(np.ascontiguousarray(joints[..., axes]), fps=rate)[2].any()


@pytest.mark.parametrize("joints", [np.arange(17), ARMS, LEGS], ids=["all", "arms", "legs"])
@pytest.mark.parametrize("length", [1, 5, 30])
def test_exchanged_sides_are_exchanged_back_and_flagged(motion, joints, length):
    frames = slice(110, 110 + length)  # he stands and faces the camera
    spoilt, scores = motion.copy(), np.full((len(motion), 17), 0.9, np.float32)
    scores[:, 9] = 0.7
    true_scores = scores.copy()
    for values in (spoilt, scores):
        values[frames, joints] = values[frames][:, MIRRORED[joints]]
    keypoints, restored, changed = repaired(spoilt, scores)
    np.testing.assert_array_equal(keypoints, motion)
    np.testing.assert_array_equal(restored, true_scores)
    expected = np.zeros_like(changed)
    expected[frames, joints[MIRRORED[joints] != joints]] = True
    np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("joint", [9, 15], ids=["waving wrist", "walking ankle"])
@pytest.mark.parametrize("length", [1, 2])
def test_a_joint_that_jumps_is_put_back_and_flagged(motion, joint, length):
    for start in range(20, 240, 40):
        spoilt = motion.copy()
        spoilt[start : start + length, joint] += 0.3 * body_size(motion[start])
        keypoints, scores, changed = repaired(spoilt)
        assert np.flatnonzero(changed.any(axis=1)).tolist() == list(range(start, start + length))
        assert (scores[start : start + length, joint] == 0).all()
        error = np.linalg.norm(keypoints - motion, axis=-1).max() / body_size(motion[start])
        assert error < 0.03  # a line in place of the motion


def test_unsure_joints_outside_the_picture_between_confident_ones_are_interpolated(motion):
    spoilt, scores = motion.copy(), np.full((len(motion), 17), 0.9, np.float32)
    spoilt[100:103, 10] = (-5, 200)
    scores[100:103, 10] = 0.4
    assert not repaired(motion, scores, picture=(640, 480))[2].any()
    keypoints, _, changed = repaired(spoilt, scores, picture=(640, 480))
    assert np.argwhere(changed).tolist() == [[100, 10], [101, 10], [102, 10]]
    np.testing.assert_allclose(keypoints[100:103, 10], motion[100:103, 10], atol=5)  # px; he waves


def test_gaps_are_filled_but_not_flagged(motion):
    observed = np.ones(len(motion), bool)
    observed[50:60] = False
    spoilt = motion.copy()
    spoilt[50:60] = 0
    keypoints, _, changed = repaired(spoilt, observed=observed)
    assert not changed.any()
    np.testing.assert_allclose(keypoints[50:60], motion[50:60], atol=0.15 * body_size(motion[50]))  # a third of a step


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_tracks_pass(motion, count):
    np.testing.assert_array_equal(repaired(motion[:count])[0], motion[:count])
