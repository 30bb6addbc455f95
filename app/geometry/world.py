"""World coordinates of a result: meters on a level floor, for files and pictures that need an up axis.

Right-handed. The floor is the plane of height 0 and the origin lies on it, below the camera. With y up, x points to the
right of the camera and -z where it looks; with z up, x points right and y where it looks. People move as they do before
a camera that stands still; a camera that moves is taken to stand still.

Not upright, or where no floor is known, the camera is the origin; not upright, it is taken to be level. Without a
trajectory (unit "normalized") everybody's pelvis stays above the origin.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.geometry.gravity import LEVEL
from app.motion import Pose3D
from lifter.skeletons import H36M17


class WorldAxes(NamedTuple):
    """World axes in words, and the rotation (3, 3) to them from axes with y up."""

    about: str
    rotation: np.ndarray


AXES = {
    "y": WorldAxes("x right, y up, z towards the camera", np.eye(3)),
    "z": WorldAxes("x right, y away from the camera, z up", np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])),
}


def to_world(up: np.ndarray | None) -> np.ndarray:
    """Return the rotation (3, 3) from camera axes to world axes with y up.

    Args:
        up: (3,) unit vector against gravity in camera axes; None for a level camera.
    """
    up = LEVEL if up is None else up
    back = -np.array([0.0, 0, 1]) + up[2] * up
    back /= np.linalg.norm(back)
    return np.stack([np.cross(up, back), up, back])


def world_places(pose: Pose3D, rotation: np.ndarray) -> np.ndarray:
    """Return joints (T, 17, 3) float64 turned by a rotation of ``to_world``: y up, the camera (or pelvis) at 0."""
    root = np.zeros((len(pose.joints), 3)) if pose.root is None else pose.root.astype(np.float64)
    return (pose.joints.astype(np.float64) + root[:, None]) @ rotation.T


def seen_level(pose: Pose3D, rotation: np.ndarray) -> Pose3D:
    """Return a pose as a level camera at the same place would see it: axes x right, y down, z away."""
    level = np.diag([1.0, -1, -1]) @ rotation
    root = None if pose.root is None else (pose.root @ level.T).astype(np.float32)
    return replace(pose, joints=(pose.joints @ level.T).astype(np.float32), root=root)


def body_height(joints: np.ndarray, valid: np.ndarray) -> float:
    """Return the typical length of leg, trunk and head together, the same sitting or standing; 1 if there is none.

    Args:
        joints: (T, 17, 3); what is not finite does not count.
        valid: (T,) bool, frames that count.
    """
    joints = np.where(np.isfinite(joints), joints, np.nan)[valid].astype(np.float64)
    lengths = np.linalg.norm(np.diff(joints[:, [(parent, child) for parent, child in H36M17.edges]], axis=2), axis=-1)
    length = dict(
        zip((H36M17.names[child] for _, child in H36M17.edges), np.moveaxis(lengths[..., 0], -1, 0), strict=True)
    )
    legs = sum(length[f"{side}_{part}"] for side in ("left", "right") for part in ("knee", "ankle")) / 2
    total = legs + sum(length[name] for name in ("spine", "thorax", "nose", "head"))
    total = total[np.isfinite(total)]
    typical = float(np.median(total)) if len(total) else 0.0
    return typical if typical > 1e-6 else 1.0
