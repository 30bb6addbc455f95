"""Where people are: known answers before a known camera, bad joints, noise, gaps, and units without meters."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from app.geometry.camera import Pinhole
from app.geometry.root_trajectory import AGILITY, LIMBS, estimate_root_trajectory, smooth_depth, solve_root
from app.options import Options
from lifter.skeletons import coco17_to_h36m17


def solved(one, **changes):
    return estimate_root_trajectory(
        one.track, one.pose, one.video, Options(fov_degrees=one.fov_degrees, **changes)
    ).root


def error_mm(root, truth):
    return 1000 * np.linalg.norm(root - truth, axis=1)


@pytest.mark.parametrize("camera", [{}, {"pitch": 35.0, "eye": (0.5, 5.0, 3.0)}, {"roll": 8.0, "size": (720, 1280)}])
def test_a_walk_before_a_known_camera_comes_back(walker, filmed, camera):
    one = filmed(walker, **camera)
    error = error_mm(solved(one), one.root)
    assert error.mean() < 2
    assert error.max() < 15  # at the very ends, where the spline knows one side only


def test_straight_motion_is_exact(walker, filmed):
    standing = np.repeat(walker[100:101], 90, axis=0)
    walk = np.linspace([-1.0, 0, -6.0], [1.0, 0, -2.0], 90)[:, None]
    one = filmed(standing - standing[:, :1] * (1, 0, 1) + walk)
    assert error_mm(solved(one), one.root).max() < 0.1  # keypoints are float32: 0.03 thousandths of a pixel


def test_one_wild_joint_per_frame_hardly_matters(walker, filmed):
    one = filmed(walker)
    rng = np.random.default_rng(0)
    keypoints = one.track.keypoints.copy()
    wild = rng.integers(5, 17, len(keypoints))
    keypoints[np.arange(len(keypoints)), wild] += rng.normal(0, 80, (len(keypoints), 2))
    bad = one._replace(track=replace(one.track, keypoints=keypoints))
    assert error_mm(solved(bad), one.root).mean() < 25


def test_low_scores_take_joints_out(walker, filmed):
    one = filmed(walker)
    keypoints, scores = one.track.keypoints.copy(), one.track.scores.copy()
    keypoints[:, [9, 10, 15, 16]] += 60  # hands and feet, all the same way: no outliers by their number
    scores[:, [9, 10, 15, 16]] = 0
    trusting = one._replace(track=replace(one.track, keypoints=keypoints))
    knowing = one._replace(track=replace(one.track, keypoints=keypoints), pose=replace(one.pose, scores=scores[:, MAP]))
    assert error_mm(solved(knowing), one.root).mean() < 0.5 * error_mm(solved(trusting), one.root).mean()


MAP = coco17_to_h36m17(np.arange(17.0)[:, None])[:, 0].round().astype(int)  # right for the limbs, which are copied


def test_noise_makes_depth_err_but_not_jitter(walker, filmed):
    one = filmed(walker)
    noise = np.random.default_rng(1).normal(0, 10, one.track.keypoints.shape).astype(np.float32)
    noisy = one._replace(track=replace(one.track, keypoints=one.track.keypoints + noise))
    keypoints = coco17_to_h36m17(noisy.track.keypoints.astype(np.float64))[:, LIMBS]
    rays = Pinhole.of(one.video, one.fov_degrees).rays(keypoints)
    single = np.stack(
        [
            solve_root(one.pose.joints[t : t + 1, LIMBS], rays[t : t + 1], np.ones((1, 12)), np.zeros(1))[0]
            for t in range(len(rays))
        ]
    )
    whole = solved(noisy)
    jitter = [np.abs(np.diff(root[:, 2], n=2)).mean() for root in (single, whole, one.root)]
    assert jitter[0] > 10 * jitter[2]  # every frame by itself jumps back and forth
    assert jitter[1] < 2 * jitter[2]
    assert error_mm(whole, one.root).mean() < 0.6 * error_mm(single, one.root).mean()


@given(hz=st.floats(0.05, 4.0), fps=st.sampled_from([10.0, 24.0, 30.0, 120.0]), sigma=st.sampled_from([0.01, 0.1]))
def test_the_depth_spline_lets_pass_what_it_says_at_any_frame_rate(hz, fps, sigma):
    times = np.arange(int(fps * 60)) / fps
    wave = np.sin(2 * np.pi * hz * times)
    kept = smooth_depth(5 + wave, np.full(len(times), sigma**-2), times) - 5
    middle = slice(len(times) // 4, -len(times) // 4)  # without the ends
    gain = (kept * wave)[middle].sum() / (wave**2)[middle].sum()
    acceleration = (2 * fps * np.sin(np.pi * hz / fps)) ** 2  # of a sampled wave of 1 m
    assert gain == pytest.approx(1 / (1 + (sigma * acceleration / AGILITY) ** 2), abs=0.02)
    assert np.abs(kept - gain * wave)[middle].max() < 0.02  # nothing is delayed


@given(scale=st.floats(0.2, 3.0))
def test_a_body_twice_as_large_is_twice_as_far(scale):
    rng = np.random.default_rng(2)
    joints = rng.normal(0, 0.4, (2, 12, 3))  # two frames: no acceleration, whose prior has a size of its own
    rays = (joints[..., :2] + 0.3) / (joints[..., 2:] + 4) + rng.normal(0, 0.003, (2, 12, 2))
    times, scores = np.arange(2) / 30, np.ones((2, 12))
    root = solve_root(joints, rays, scores, times)
    np.testing.assert_allclose(solve_root(scale * joints, rays, scores, times), scale * root, rtol=1e-6)


def test_frames_of_a_varying_rate_keep_constant_speed():
    times = np.cumsum(np.r_[0, np.tile([0.02, 0.05, 0.11], 20)])
    np.testing.assert_allclose(smooth_depth(3 + 0.7 * times, np.ones(len(times)), times), 3 + 0.7 * times, atol=1e-9)


def test_a_gap_is_bridged_and_does_not_join_its_sides(walker, filmed):
    one = filmed(walker)
    valid = np.ones(len(walker), bool)
    valid[80:140] = False
    keypoints = one.track.keypoints.copy()
    keypoints[~valid] = 0  # nobody was seen
    gap = one._replace(track=replace(one.track, keypoints=keypoints, observed=valid, valid=valid))
    root = solved(gap)
    assert error_mm(root, one.root)[valid].mean() < 2
    np.testing.assert_allclose(root[79:141], np.linspace(root[79], root[140], 62), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_frames_are_enough(walker, filmed, count):
    one = filmed(walker[:count])
    assert error_mm(solved(one), one.root).max() < 1  # the clip's recorded motion shakes by that much


def test_without_meters_there_is_no_trajectory(walker, filmed):
    one = filmed(walker)
    assert solved(one._replace(pose=replace(one.pose, unit="normalized"))) is None


def test_nonsense_stays_finite_and_in_front_of_the_camera(rng, walker, filmed):
    one = filmed(walker[:50])
    for joints in (rng.normal(0, 3, (50, 17, 3)), np.zeros((50, 17, 3))):
        root = solved(one._replace(pose=replace(one.pose, joints=joints.astype(np.float32))))
        assert np.isfinite(root).all()
        assert (joints[:, LIMBS, 2] + root[:, None, 2] > 0).all()


def test_smoothing_reaches_the_trajectory(walker, filmed):
    one = filmed(walker)
    noise = np.random.default_rng(1).normal(0, 6, one.track.keypoints.shape).astype(np.float32)
    noisy = one._replace(track=replace(one.track, keypoints=one.track.keypoints + noise))
    raw, smooth = (np.abs(np.diff(solved(noisy, smooth_hz=hz), n=2, axis=0)).mean() for hz in (None, 4.0))
    assert smooth < 0.5 * raw
