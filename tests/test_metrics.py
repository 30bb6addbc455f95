"""Errors of joints: cases computed by hand, an independent implementation, and what must not matter."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from lifter import metrics
from lifter.skeletons import H36M17, LIMB_JOINTS


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
    assert metrics.mpjpe(moved, truth).max() < 1e-9  # float64 millimetres
    shifted = truth.copy()
    shifted[:, 0] += (0.017, 0, 0)  # a wrong pelvis shifts the other 16 joints
    assert metrics.mpjpe(shifted, truth) == pytest.approx([17 * 16 / 17] * 6)


def test_scaled_mpjpe_takes_one_scale_for_the_clip(truth):
    assert metrics.scaled_mpjpe(0.4 * truth, truth).max() < 1e-9  # float64 millimetres
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


def test_p_mpjpe_ignores_rotation_scale_and_place(predicted, truth):
    assert metrics.p_mpjpe(similar(truth), truth).max() < 1e-9  # float64 millimetres
    np.testing.assert_allclose(metrics.p_mpjpe(similar(predicted), truth), metrics.p_mpjpe(predicted, truth), rtol=1e-9)


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
    assert metrics.p_mpjpe(flat, flat).max() < 1e-9  # float64 millimetres


def test_p_mpjpe_is_never_above_the_root_mean_square_of_the_unaligned_error(predicted, truth):
    # alignment minimises squares: the mean distance is at most the root of the mean square before
    before = 1000 * np.sqrt(((predicted - truth) ** 2).sum(-1).mean(-1))
    assert (metrics.p_mpjpe(predicted, truth) <= before).all()


@pytest.mark.parametrize("fps", [25.0, 29.97, 50.0])
def test_jitter_of_constant_acceleration_is_that_acceleration(truth, fps):
    times = np.arange(30) / fps
    time = times[:, None, None]
    acceleration = np.array([3.0, 0, 4.0])  # 5 m/s^2
    joints = truth[:1] + time * np.array([1.0, 2, 3]) + 0.5 * acceleration * time**2
    assert metrics.jitter(joints, times) == pytest.approx(5)


@pytest.mark.parametrize("frames", [1, 2])
def test_jitter_of_less_than_three_frames_is_zero(frames):
    assert metrics.jitter(np.ones((frames, 17, 3)), np.arange(frames) / 50) == 0


def test_jitter_of_steady_motion_is_zero_at_a_varying_rate(truth):
    times = np.cumsum([0, 0.02, 0.06, 0.02, 0.06, 0.04])
    joints = truth[:1] + times[:, None, None] * np.array([1.0, 2, 3])
    assert metrics.jitter(joints, times) == pytest.approx(0, abs=1e-9)


def test_bones_of_a_rigid_body_do_not_vary(truth):
    turned = np.stack([Rotation.random(random_state=t).apply(truth[0]) + t for t in range(20)])
    assert metrics.bone_length_variation(turned) < 1e-12  # float64


def test_bone_length_variation_by_hand():
    # every bone alternates between 0.9 and 1.1 of its length: standard deviation 10 % of the mean
    joints = np.zeros((10, 17, 3))
    for child, parent in enumerate(H36M17.parents):
        if parent >= 0:
            joints[:, child] = joints[:, parent] + (0.3, 0, 0)
    joints *= np.where(np.arange(10) % 2, 0.9, 1.1)[:, None, None]
    assert metrics.bone_length_variation(joints) == pytest.approx(0.1)


def test_summary_is_made_of_the_metrics_above(predicted, truth):
    assert metrics.summary(predicted, truth) == {
        "limbs_root_relative": pytest.approx(metrics.mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "limbs_scaled": pytest.approx(metrics.scaled_mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "limbs_pa": pytest.approx(metrics.p_mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "all_root_relative": pytest.approx(metrics.mpjpe(predicted, truth).mean()),
        "all_pa": pytest.approx(metrics.p_mpjpe(predicted, truth).mean()),
    }
