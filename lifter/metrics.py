"""Errors of 3D joints, used by training, evaluation and tests alike. Joints in meters, errors in millimeters.

Joints are (T, 17, 3), H36M-17. Position errors are root-relative (pelvis at the origin) and one number per frame, so
that the caller decides over what to average. ``joints`` picks the joints that are scored; the published protocols
score all 17, pelvis included, which is exact by definition and lowers every mean by 1/17.
"""

from __future__ import annotations

import numpy as np

from lifter.skeletons import H36M17, LIMB_JOINTS

MM = 1000.0
PCK_THRESHOLD_MM = 150.0
AUC_THRESHOLDS_MM = np.arange(0.0, 151.0, 5.0)  # 31; none is below 0 mm, so the best possible AUC is 96.8 %


def root_relative(joints: np.ndarray) -> np.ndarray:
    """Return joints (..., 17, 3) minus their pelvis."""
    return joints - joints[..., :1, :]


def mpjpe(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the mean distance per frame (T,) in mm of root-relative joints (T, 17, 3): "P1" or "protocol 1".

    Source: Ionescu et al., "Human3.6M", TPAMI 2014, MPJPE.
    """
    return joint_errors(predicted, truth, joints).mean(-1)


def joint_errors(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the distance of every joint (T, J) in mm, both bodies with their pelvis at the origin."""
    distance = np.linalg.norm(root_relative(predicted) - root_relative(truth), axis=-1)
    return MM * distance[:, _chosen(joints)]


def _chosen(joints: tuple[int, ...] | None) -> list[int] | slice:
    return list(joints) if joints else slice(None)


def scaled_mpjpe(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return ``mpjpe`` (T,) after one scale for the whole clip: monocular body size cannot be observed.

    Stricter than ``n_mpjpe``: a body that pulses from frame to frame is not repaired.
    """
    return mpjpe(clip_scale(predicted, truth, joints) * root_relative(predicted), truth, joints)


def clip_scale(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> float:
    """Return the one factor that brings root-relative ``predicted`` nearest to ``truth`` in least squares."""
    p, g = (root_relative(x)[:, _chosen(joints)] for x in (predicted, truth))
    return float((p * g).sum() / max((p**2).sum(), 1e-12))


def plane_and_depth_errors(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the mean errors in mm of the limbs in the picture plane (x, y) and in depth (z), in camera axes.

    Root-relative and after one scale for the whole clip, as ``scaled_mpjpe``.
    """
    scaled = clip_scale(predicted, truth, LIMB_JOINTS) * root_relative(predicted)
    error = MM * (scaled - root_relative(truth))[:, list(LIMB_JOINTS)]  # (T, 12, 3)
    return float(np.linalg.norm(error[..., :2], axis=-1).mean()), float(np.abs(error[..., 2]).mean())


def n_mpjpe(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return ``mpjpe`` (T,) in mm after the best scale of every single frame (least squares): "N-MPJPE".

    Source: Rhodin et al., "Unsupervised geometry-aware representation for 3D human pose estimation", ECCV 2018.
    """
    p, g = root_relative(predicted), root_relative(truth)
    chosen = _chosen(joints)
    scale = (p[:, chosen] * g[:, chosen]).sum((1, 2)) / np.maximum((p[:, chosen] ** 2).sum((1, 2)), 1e-12)
    return mpjpe(scale[:, None, None] * p, g, joints)


def p_mpjpe(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the mean distance per frame (T,) in mm after aligning each frame by rotation, translation and scale: "P2".

    Source: Umeyama, "Least-squares estimation of transformation parameters", 1991 (no reflection). The alignment uses
    the same joints that are scored.
    """
    chosen = _chosen(joints)
    p, g = predicted[:, chosen].astype(np.float64), truth[:, chosen].astype(np.float64)
    p_center, g_center = p.mean(1, keepdims=True), g.mean(1, keepdims=True)
    p, g = p - p_center, g - g_center
    u, s, vt = np.linalg.svd(np.einsum("tji,tjk->tik", g, p))  # g ~ scale * rotation @ p
    sign = np.ones_like(s)
    sign[:, -1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(-1) / np.maximum((p**2).sum((1, 2)), 1e-12)
    aligned = scale[:, None, None] * np.einsum("tik,tjk->tji", rotation, p)
    return MM * np.linalg.norm(aligned - g, axis=-1).mean(-1)


def velocity_error(
    predicted: np.ndarray, truth: np.ndarray, fps: float | None = None, joints: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return the mean error of root-relative velocities (T - 1,): "MPJVE".

    Unit: mm per frame, as in the literature (which means 50 frames per second on Human3.6M), or mm/s if ``fps`` is
    given. Empty for one frame.

    Source: Pavllo et al., "3D human pose estimation in video with temporal convolutions", CVPR 2019.
    """
    error = (root_relative(predicted) - root_relative(truth))[:, _chosen(joints)]
    return MM * np.linalg.norm(np.diff(error, axis=0), axis=-1).mean(-1) * (fps or 1.0)


def pck(
    predicted: np.ndarray,
    truth: np.ndarray,
    joints: tuple[int, ...] | None = None,
    threshold_mm: float = PCK_THRESHOLD_MM,
) -> np.ndarray:
    """Return the share of joints per frame (T,), in per cent, that are less than ``threshold_mm`` from the truth.

    Root-relative. A joint at exactly the threshold is not correct.

    Source: Mehta et al., "Monocular 3D human pose estimation in the wild", 3DV 2017 / test kit of MPI-INF-3DHP, which
    scores 14 of its 17 joints: ``lifter.benchmarks.mpi_inf_3dhp.KIT_JOINTS``.
    """
    return 100 * (joint_errors(predicted, truth, joints) < threshold_mm).mean(-1)


def auc(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the mean of ``pck`` per frame (T,), in per cent, over the 31 thresholds 0, 5, ... 150 mm.

    At 0 mm no joint is correct, so exact joints give 30 / 31 = 96.8 %, as in the kit.

    Source: as ``pck``. Other code uses other thresholds under the same name (up to 195 mm): not comparable.
    """
    errors = joint_errors(predicted, truth, joints)
    return 100 * (errors[..., None] < AUC_THRESHOLDS_MM).mean((-2, -1))


def jitter(joints: np.ndarray, timestamps_s: np.ndarray) -> float:
    """Return the mean acceleration of joints (T, 17, 3) at the times (T,), in m/s^2; 0 below three frames."""
    if len(joints) < 3:
        return 0.0
    steps = np.diff(timestamps_s)[:, None, None]
    velocity = np.diff(joints, axis=0) / steps
    acceleration = np.diff(velocity, axis=0) / ((steps[1:] + steps[:-1]) / 2)
    return float(np.linalg.norm(acceleration, axis=-1).mean())


def jitter_ratio(predicted: np.ndarray, truth: np.ndarray, timestamps_s: np.ndarray) -> float:
    """Return the ``jitter`` of root-relative ``predicted`` over that of ``truth``; NaN where the truth has none.

    1 is as lively as the truth, above it shakes, below it is smoothed. ``predicted`` is brought to the size of the
    truth first (one scale). Definition: this project.
    """
    scaled = clip_scale(predicted, truth) * root_relative(predicted)
    true_jitter = jitter(root_relative(truth), timestamps_s)
    return jitter(scaled, timestamps_s) / true_jitter if true_jitter > 0 else float("nan")


def bone_length_variation(joints: np.ndarray) -> float:
    """Return the standard deviation over time of each bone's length over its mean, averaged over bones: 0.03 is 3 %.

    Definition: this project. ``skeletons.with_rigid_bones`` makes it 0, whatever the network did.
    """
    bones = [(parent, child) for child, parent in enumerate(H36M17.parents) if parent >= 0]
    parents, children = np.array(bones).T
    lengths = np.linalg.norm(joints[:, children] - joints[:, parents], axis=-1)  # (T, 16)
    return float((lengths.std(0) / np.maximum(lengths.mean(0), 1e-9)).mean())


def summary(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the errors in mm that this project reports, over the 12 limb joints and over all 17."""
    in_plane, depth = plane_and_depth_errors(predicted, truth)
    return {
        "limbs_in_plane": in_plane,
        "limbs_depth": depth,
        "limbs_root_relative": float(mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "limbs_scaled": float(scaled_mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "limbs_pa": float(p_mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "all_root_relative": float(mpjpe(predicted, truth).mean()),
        "all_pa": float(p_mpjpe(predicted, truth).mean()),
    }
