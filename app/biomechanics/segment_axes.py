"""Axes of pelvis and thorax, and directions seen from them, out of joint centers alone.

Axes as the International Society of Biomechanics has them: X forward, Y up, Z to the right. Source: Wu and Cavanagh,
"ISB recommendations for standardization in the reporting of kinematic data", J. Biomech. 28 (1995); Wu et al., "ISB
recommendation on definitions of joint coordinate systems", parts I (2002) and II (2005). Theirs need bony landmarks;
what stands for them here is said at each function.
"""

from __future__ import annotations

import numpy as np

from lifter.skeletons import H36M17

FACING_CAMERA = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])  # axes as columns in world axes, y up


def joint(world: np.ndarray, name: str) -> np.ndarray:
    """Return (T, 3) of one joint of (T, 17, 3)."""
    return world[:, H36M17.index(name)]


def pelvis_axes(world: np.ndarray) -> np.ndarray:
    """Return (T, 3, 3), columns X, Y, Z of the pelvis in world axes; NaN where joints coincide.

    Z runs from the left to the right hip center. Two points leave the turn about Z free: Y is the part of the line
    from pelvis to spine across Z, so that what bends in the lowest back counts as tilt of the pelvis.

    Args:
        world: (T, 17, 3) joints, y up.
    """
    right = _unit(joint(world, "right_hip") - joint(world, "left_hip"))
    up = _unit(_across(joint(world, "spine") - joint(world, "pelvis"), right))
    return np.stack([np.cross(up, right), up, right], axis=-1)


def thorax_axes(world: np.ndarray) -> np.ndarray:
    """Return (T, 3, 3), columns X, Y, Z of the thorax in world axes; NaN where joints coincide.

    Y runs from spine to thorax, Z is the part of the line from the left to the right shoulder across Y.

    Args:
        world: (T, 17, 3) joints, y up.
    """
    up = _unit(joint(world, "thorax") - joint(world, "spine"))
    right = _unit(_across(joint(world, "right_shoulder") - joint(world, "left_shoulder"), up))
    return np.stack([np.cross(up, right), up, right], axis=-1)


def heading_axes(axes: np.ndarray) -> np.ndarray:
    """Return axes (T, 3, 3) turned upright: Y is vertical and Z the horizontal part of theirs."""
    up = np.array([0.0, 1, 0])
    right = _unit(_across(axes[..., 2], np.broadcast_to(up, axes.shape[:-1])))
    return np.stack([np.cross(up, right), np.broadcast_to(up, right.shape), right], axis=-1)


def seen_from(axes: np.ndarray, direction: np.ndarray, side: str = "right") -> np.ndarray:
    """Return unit vectors (T, 3) along ``direction``: forward, up, and outward (right of the middle, for the middle).

    Args:
        axes: (T, 3, 3) of a segment, columns.
        direction: (T, 3) in world axes.
        side: "left" mirrors, so that one motion has the same numbers on both sides.
    """
    local = np.einsum("tij,ti->tj", axes, _unit(direction))
    return local * (1, 1, -1 if side == "left" else 1)


def angle_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (T,) degrees between vectors (T, 3), 0 to 180."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1)))


def _across(vectors: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return vectors - (vectors * axis).sum(axis=-1, keepdims=True) * axis


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 1e-9, length, np.nan)
