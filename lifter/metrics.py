"""Errors of 3D joints, used by training, evaluation and tests alike. Joints in metres, errors in millimetres."""

from __future__ import annotations

import numpy as np

from lifter.skeletons import H36M17, LIMB_JOINTS

MM = 1000.0


def root_relative(joints: np.ndarray) -> np.ndarray:
    """Return joints (..., 17, 3) minus their pelvis."""
    return joints - joints[..., :1, :]


def mpjpe(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the mean distance per frame (T,) in mm of root-relative joints (T, 17, 3); ``joints`` picks some."""
    distance = np.linalg.norm(root_relative(predicted) - root_relative(truth), axis=-1)
    return MM * distance[:, list(joints) if joints else slice(None)].mean(-1)


def scaled_mpjpe(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return ``mpjpe`` after one scale for the whole clip (least squares): monocular body size cannot be observed."""
    p, g = root_relative(predicted), root_relative(truth)
    chosen = list(joints) if joints else slice(None)
    scale = (p[:, chosen] * g[:, chosen]).sum() / max((p[:, chosen] ** 2).sum(), 1e-12)
    return mpjpe(scale * p, g, joints)


def p_mpjpe(predicted: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the mean distance per frame (T,) in mm after aligning each frame by rotation, translation and scale.

    Source: Umeyama, "Least-squares estimation of transformation parameters", 1991 (no reflection). The alignment uses
    the same joints that are scored.
    """
    chosen = list(joints) if joints else slice(None)
    p, g = predicted[:, chosen].astype(np.float64), truth[:, chosen].astype(np.float64)
    p_centre, g_centre = p.mean(1, keepdims=True), g.mean(1, keepdims=True)
    p, g = p - p_centre, g - g_centre
    u, s, vt = np.linalg.svd(np.einsum("tji,tjk->tik", g, p))  # g ~ scale * rotation @ p
    sign = np.ones_like(s)
    sign[:, -1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(-1) / np.maximum((p**2).sum((1, 2)), 1e-12)
    aligned = scale[:, None, None] * np.einsum("tik,tjk->tji", rotation, p)
    return MM * np.linalg.norm(aligned - g, axis=-1).mean(-1)


def jitter(joints: np.ndarray, timestamps_s: np.ndarray) -> float:
    """Return the mean acceleration of joints (T, 17, 3) at the times (T,), in m/s^2; 0 below three frames."""
    if len(joints) < 3:
        return 0.0
    steps = np.diff(timestamps_s)[:, None, None]
    velocity = np.diff(joints, axis=0) / steps
    acceleration = np.diff(velocity, axis=0) / ((steps[1:] + steps[:-1]) / 2)
    return float(np.linalg.norm(acceleration, axis=-1).mean())


def bone_length_variation(joints: np.ndarray) -> float:
    """Return the standard deviation over time of each bone's length over its mean, averaged over bones: 0.03 is 3 %."""
    bones = [(parent, child) for child, parent in enumerate(H36M17.parents) if parent >= 0]
    parents, children = np.array(bones).T
    lengths = np.linalg.norm(joints[:, children] - joints[:, parents], axis=-1)  # (T, 16)
    return float((lengths.std(0) / np.maximum(lengths.mean(0), 1e-9)).mean())


def summary(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the errors in mm that this project reports, over the 12 limb joints and over all 17."""
    return {
        "limbs_root_relative": float(mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "limbs_scaled": float(scaled_mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "limbs_pa": float(p_mpjpe(predicted, truth, LIMB_JOINTS).mean()),
        "all_root_relative": float(mpjpe(predicted, truth).mean()),
        "all_pa": float(p_mpjpe(predicted, truth).mean()),
    }
