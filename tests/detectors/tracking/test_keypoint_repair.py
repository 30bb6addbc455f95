"""2D repair: what no body does is undone and flagged, what a body can do is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.pose_geometry import MIRRORED, body_size
from detectors.tracking.keypoint_repair import repair
from detectors.tracking.side_swaps import fix_left_right_swaps

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
    joints = (mocap["rel"][:, as_coco].astype(np.float32) + mocap["root"][:, None]) * 200  # px per meter
    joints = joints[: mocap["clip_start"][1] : round(float(mocap["fps"]) / rate)]
    for axes in ([0, 1], [1, 2]):  # front and side
        assert not repaired(np.ascontiguousarray(joints[..., axes]), fps=rate)[2].any()


@pytest.mark.parametrize("joints", [np.arange(17), ARMS, LEGS], ids=["all", "arms", "legs"])
@pytest.mark.parametrize("length", [1, 5, 30])
def test_swapped_sides_are_swapped_back_and_flagged(motion, joints, length):
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


@pytest.mark.parametrize("length", [1, 5, 60])
@pytest.mark.parametrize("place", ["start", "end", "twice"])
def test_swaps_at_the_ends_and_repeated_ones_are_put_right(motion, place, length):
    count = len(motion)
    starts = {"start": [0], "end": [count - length], "twice": [20, 130]}[place]
    swapped = np.zeros((count, 17), bool)
    for start in starts:
        swapped[start : start + length, 5:] = True
    keypoints, _, changed = repaired(np.where(swapped[..., None], motion[:, MIRRORED], motion))
    np.testing.assert_array_equal(keypoints[:, 5:], motion[:, 5:])
    np.testing.assert_array_equal(changed[:, 5:], swapped[:, 5:])


def test_a_face_that_was_not_swapped_tells_although_most_frames_were(motion):
    facing = motion[90:150]  # he faces the camera
    spoilt = facing.copy()
    spoilt[10:50, 5:] = facing[10:50][:, MIRRORED[5:]]
    assert np.array_equal(repaired(spoilt)[0][:, 5:], facing[:, 5:])
    unseen = np.full((60, 17), 0.9, np.float32)
    unseen[:, :5] = 0.0
    assert np.array_equal(repaired(spoilt, unseen)[0][10:50, 5:], spoilt[10:50, 5:])  # most frames win


@pytest.mark.parametrize("gap_s", [0.1, 0.2])
def test_a_swap_is_followed_across_a_gap(motion, gap_s):
    gap = slice(115, 115 + round(gap_s * FPS))
    observed = np.ones(len(motion), bool)
    observed[gap] = False
    spoilt = motion.copy()
    spoilt[100:140] = motion[100:140][:, MIRRORED]
    spoilt[gap] = 0
    keypoints = repaired(spoilt, observed=observed)[0]
    np.testing.assert_array_equal(keypoints[observed], motion[observed])


def test_after_a_long_gap_without_evidence_sides_stay_as_the_detector_had_them(motion):
    observed = np.ones(len(motion), bool)
    observed[120:180] = False
    spoilt = motion.copy()
    spoilt[180:] = motion[180:][:, MIRRORED]
    assert not repaired(spoilt, observed=observed)[2].any()


def test_frames_in_which_the_detector_puts_both_sides_into_one_place_turn_nobody_round(motion):
    rng = np.random.default_rng(0)
    spoilt = motion.copy()
    for frame in rng.choice(np.arange(90, 150, 4), 12, replace=False):  # he stands and waves
        middle = (motion[frame] + motion[frame, MIRRORED]) / 2
        spoilt[frame] = middle + 0.02 * (motion[frame] - middle)
    order = fix_left_right_swaps(spoilt, np.full(spoilt.shape[:2], 0.9, np.float32), np.ones(len(spoilt), bool), FPS)
    assert (order == np.arange(17)).all()


def test_a_swap_that_ends_unseen_spoils_nothing(motion):
    # swapped from frame 60; at 80 both sides fall into one place for a while, and are right from then on
    spoilt = motion.copy()
    spoilt[60:80] = motion[60:80][:, MIRRORED]
    middle = (motion[80:88] + motion[80:88][:, MIRRORED]) / 2
    spoilt[80:88] = middle + np.random.default_rng(0).normal(0, 1.0, middle.shape)
    order = fix_left_right_swaps(spoilt, np.full(spoilt.shape[:2], 0.9, np.float32), np.ones(len(spoilt), bool), FPS)
    assert (order[:60] == np.arange(17)).all()
    assert (order[88:] == np.arange(17)).all()


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
