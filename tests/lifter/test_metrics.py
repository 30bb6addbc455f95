"""Errors of joints: cases computed by hand, an independent implementation, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from lifter import metrics
from lifter.skeletons import LIMB_JOINTS


@pytest.fixture
def truth(rng) -> np.ndarray:
    return rng.normal(size=(6, 17, 3)) * 0.4


@pytest.fixture
def predicted(rng, truth) -> np.ndarray:
    return truth + rng.normal(size=truth.shape) * 0.05


def similar(joints: np.ndarray, seed: int = 0) -> np.ndarray:
    """Every frame turned, scaled and moved at random."""
    rng = np.random.default_rng(seed)
    turned = np.stack([Rotation.random(random_state=seed + t).apply(frame) for t, frame in enumerate(joints)])
    return turned * rng.uniform(0.3, 3, (len(joints), 1, 1)) + rng.normal(size=(len(joints), 1, 3))


def test_mpjpe_by_hand(truth):
    predicted = truth.copy()
    predicted[:, 3] += (0.03, 0.04, 0)  # 50 mm on one of 17 joints
    assert metrics.mpjpe(predicted, truth) == pytest.approx([50 / 17] * 6)
    assert metrics.mpjpe(predicted, truth, LIMB_JOINTS) == pytest.approx([50 / 12] * 6)
    assert metrics.mpjpe(predicted, truth, (0, 1)) == pytest.approx([0] * 6)


def test_mpjpe_is_relative_to_the_pelvis(truth):
    moved = truth + np.array([1.0, -2, 3])
    assert metrics.mpjpe(moved, truth).max() < 1e-9  # float64 millimeters
    shifted = truth.copy()
    shifted[:, 0] += (0.017, 0, 0)  # a wrong pelvis shifts the other 16 joints
    assert metrics.mpjpe(shifted, truth) == pytest.approx([17 * 16 / 17] * 6)


def test_scaled_mpjpe_takes_one_scale_for_the_clip(truth):
    assert metrics.scaled_mpjpe(0.4 * truth, truth).max() < 1e-9  # float64 millimeters
    pulsing = truth * np.array([0.5, 1, 0.5, 1, 0.5, 1])[:, None, None]
    assert metrics.scaled_mpjpe(pulsing, truth).min() > 1  # not one per frame


def test_scaled_mpjpe_uses_the_best_scale_of_least_squares(predicted, truth):
    p, g = metrics.root_relative(predicted), metrics.root_relative(truth)
    best = np.linalg.lstsq(p.reshape(-1, 1), g.ravel(), rcond=None)[0][0]
    np.testing.assert_allclose(metrics.scaled_mpjpe(predicted, truth), metrics.mpjpe(best * p, g), rtol=1e-9)


@pytest.mark.parametrize("joints", [None, LIMB_JOINTS])
def test_p_mpjpe_against_scipy(predicted, truth, joints):
    chosen = list(joints) if joints else slice(None)
    expected = []
    for p, g in zip(similar(predicted)[:, chosen], truth[:, chosen], strict=True):
        p = p - p.mean(0)
        g = g - g.mean(0)
        turn, singular = orthogonal_procrustes(p, g)
        assert np.linalg.det(turn) > 0  # then the best orthogonal matrix is the best rotation
        expected.append(1000 * np.linalg.norm(p @ turn * singular / (p**2).sum() - g, axis=-1).mean())
    np.testing.assert_allclose(metrics.p_mpjpe(similar(predicted), truth, joints), expected, rtol=1e-9)  # float64


def test_p_mpjpe_does_not_reflect(truth):
    reflected = truth * np.array([-1, 1, 1])
    errors = metrics.p_mpjpe(reflected, truth)
    assert errors.min() > 50  # random points of 0.4 m spread: a mirror image does not fit
    for p, g, error in zip(reflected - reflected.mean(1, keepdims=True), truth, errors, strict=True):
        g = g - g.mean(0)
        turned = Rotation.align_vectors(g, p)[0].apply(p)  # scipy's best rotation, which never reflects
        scale = (turned * g).sum() / (p**2).sum()
        assert error == pytest.approx(1000 * np.linalg.norm(scale * turned - g, axis=-1).mean(), rel=1e-6)


def test_p_mpjpe_of_a_flat_or_empty_pose_is_finite(truth):
    flat = truth * np.array([1, 1, 0])
    assert np.isfinite(metrics.p_mpjpe(flat, truth)).all()
    assert np.isfinite(metrics.p_mpjpe(np.zeros_like(truth), truth)).all()
    assert metrics.p_mpjpe(flat, flat).max() < 1e-9  # float64 millimeters


@pytest.mark.parametrize("fps", [25.0, 29.97, 50.0])
def test_jitter_of_constant_acceleration_is_that_acceleration(truth, fps):
    times = np.arange(30) / fps
    time = times[:, None, None]
    acceleration = np.array([3.0, 0, 4.0])  # 5 m/s^2
    joints = truth[:1] + time * np.array([1.0, 2, 3]) + 0.5 * acceleration * time**2
    assert metrics.jitter(joints, times) == pytest.approx(5)


def test_jitter_of_steady_motion_is_zero_at_a_varying_rate(truth):
    times = np.cumsum([0, 0.02, 0.06, 0.02, 0.06, 0.04])
    joints = truth[:1] + times[:, None, None] * np.array([1.0, 2, 3])
    assert metrics.jitter(joints, times) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("shift", "expected"), [((0.003, 0.004, 0), (5, 0)), ((0, 0, 0.002), (0, 2))])
def test_errors_in_the_plane_and_in_depth_are_told_apart(truth, shift, expected):
    moved = truth.copy()
    moved[:, list(LIMB_JOINTS)] += np.where(np.arange(12) % 2, 1, -1)[:, None] * shift
    # one scale is taken out, here about 3; what is left of its rounding is far below a millimeter
    np.testing.assert_allclose(metrics.plane_and_depth_errors(moved / 3, truth), expected, rtol=0, atol=0.5)


# ------------------------------------------------------------------------------------- published measures by hand


def test_n_mpjpe_uses_the_best_scale_of_least_squares(predicted, truth):
    p, g = metrics.root_relative(predicted), metrics.root_relative(truth)
    expected = []
    for one, other in zip(p, g, strict=True):
        best = np.linalg.lstsq(one.reshape(-1, 1), other.ravel(), rcond=None)[0][0]
        expected.append(1000 * np.linalg.norm(best * one - other, axis=-1).mean())
    np.testing.assert_allclose(metrics.n_mpjpe(predicted, truth), expected, rtol=1e-9)


def test_velocity_error_by_hand(truth):
    drift = np.arange(6)[:, None] * np.array([0.003, 0.004, 0])  # 5 mm further per frame
    predicted = truth.copy()
    predicted[:, 3] += drift
    assert metrics.velocity_error(predicted, truth) == pytest.approx([5 / 17] * 5)
    assert metrics.velocity_error(predicted, truth, joints=(2, 3)) == pytest.approx([5 / 2] * 5)
    assert metrics.velocity_error(predicted, truth, fps=50) == pytest.approx([250 / 17] * 5)  # mm/s
    assert metrics.velocity_error(truth + drift[:, None], truth).max() < 1e-9  # where the pelvis goes does not count


def test_pck_counts_joints_nearer_than_the_threshold(truth):
    predicted = truth.copy()
    predicted[:, 3, 0] += 0.2
    predicted[:, 6, 1] += 0.1
    assert metrics.pck(predicted, truth) == pytest.approx([100 * 16 / 17] * 6)
    assert metrics.pck(predicted, truth, threshold_mm=99) == pytest.approx([100 * 15 / 17] * 6)
    assert metrics.pck(predicted, truth, (3, 6)) == pytest.approx([50] * 6)


def test_pck_is_strict_at_the_threshold():
    truth = np.zeros((1, 17, 3))
    predicted = truth.copy()
    predicted[0, 3, 0] = 0.125  # exact in binary
    assert metrics.pck(predicted, truth, (3,), threshold_mm=125) == 0
    assert metrics.pck(predicted, truth, (3,), threshold_mm=125.001) == 100


def test_auc_by_hand(truth):
    assert metrics.auc(truth, truth) == pytest.approx([100 * 30 / 31] * 6)  # at 0 mm nothing is correct
    moved = truth.copy()
    moved[:, 1:, 2] += 0.072  # correct at 75, 80, ... 150: 16 thresholds; the pelvis at 30
    assert metrics.auc(moved, truth, tuple(range(1, 17))) == pytest.approx([100 * 16 / 31] * 6)
    assert metrics.auc(moved, truth) == pytest.approx([100 * (16 * 16 + 30) / 17 / 31] * 6)


def test_jitter_ratio_by_hand(truth):
    times = np.arange(40) / 50
    lively = truth[:1] * (1 + 0.1 * np.sin(20 * times))[:, None, None]
    assert metrics.jitter_ratio(lively, lively, times) == pytest.approx(1)
    assert metrics.jitter_ratio(0.6 * lively + 5, lively, times) == pytest.approx(1)  # neither size nor place matter
    smoothed = truth[:1] * (1 + 0.05 * np.sin(20 * times))[:, None, None]
    assert metrics.jitter_ratio(smoothed, lively, times) == pytest.approx(0.5, rel=0.01)  # the scale is fitted
    assert np.isnan(metrics.jitter_ratio(lively, np.repeat(truth[:1], 40, axis=0), times))


# ------------------------------------------------------------------------------------------------- what must not matter

POSITION_ERRORS = [metrics.mpjpe, metrics.scaled_mpjpe, metrics.n_mpjpe, metrics.p_mpjpe]
seeds = st.integers(0, 2**32 - 1)


def two_bodies(seed: int, frames: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(frames, 17, 3)) * 0.4
    return truth + rng.normal(size=truth.shape) * rng.uniform(0.001, 0.3), truth


@given(seeds)
def test_better_alignment_never_fits_worse_in_the_mean_square(seed):
    predicted, truth = two_bodies(seed)
    p, g = metrics.root_relative(predicted), metrics.root_relative(truth)
    raw = np.square(p - g).sum()
    one = np.square(metrics.clip_scale(p, g) * p - g).sum()
    each = sum(np.square(metrics.clip_scale(a[None], b[None]) * a - b).sum() for a, b in zip(p, g, strict=True))
    assert each <= one + 1e-9  # float64
    assert one <= raw + 1e-9


@given(seeds, st.floats(0.1, 10), st.tuples(*[st.floats(-5, 5)] * 3))
def test_a_common_turn_and_shift_changes_no_error(seed, scale, shift):
    predicted, truth = two_bodies(seed)
    turn = Rotation.random(random_state=seed % 2**31).as_matrix()
    for error in (*POSITION_ERRORS, metrics.velocity_error):
        moved = error(predicted @ turn.T + shift, truth @ turn.T - shift)
        np.testing.assert_allclose(moved, error(predicted, truth), rtol=1e-9, atol=1e-9)  # float64 mm
        larger = error(scale * predicted, scale * truth)  # everything is a length
        np.testing.assert_allclose(larger, scale * error(predicted, truth), rtol=1e-9, atol=1e-9)
    for share in (metrics.pck, metrics.auc):
        np.testing.assert_allclose(share(predicted + shift, truth), share(predicted, truth), atol=1e-9)


@given(seeds, st.floats(0.1, 10))
def test_the_size_of_the_prediction_changes_no_scaled_error(seed, scale):
    predicted, truth = two_bodies(seed)
    for error in POSITION_ERRORS[1:]:
        np.testing.assert_allclose(error(scale * predicted, truth), error(predicted, truth), rtol=1e-7, atol=1e-9)


@given(seeds)
def test_shares_lie_between_0_and_100_and_fall_with_the_threshold(seed):
    predicted, truth = two_bodies(seed)
    curve = [metrics.pck(predicted, truth, threshold_mm=t) for t in metrics.AUC_THRESHOLDS_MM]
    assert (np.diff(curve, axis=0) >= 0).all()
    assert curve[0].max() == 0
    assert (metrics.auc(predicted, truth) <= metrics.pck(predicted, truth)).all()
