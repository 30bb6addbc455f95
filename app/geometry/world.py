"""World coordinates of a result: meters on a level floor, for files and pictures that need an up axis.

Right-handed. The floor is the plane of height 0 and the origin lies on it, below the camera. With y up, x points to the
right of the camera and -z where it looks; with z up, x points right and y where it looks. People move as they do before
a camera that stands still; a camera that moves is taken to stand still.

Not upright, the camera is the origin and taken to be level. Without a trajectory (unit "normalized") everybody's pelvis
stays above the origin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.geometry.gravity import ANKLES, LEVEL, stance_level
from app.results import Pose3D, PoseResult, Shot
from detectors.people import Track
from lifter.skeletons import H36M17, with_rigid_bones

ANKLE_HEIGHT = 0.06  # above the floor, of a standing foot in shoes, in lengths of ``body_height``
AXES = {
    "y": ("x right, y up, z towards the camera", np.eye(3)),
    "z": ("x right, y away from the camera, z up", np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])),
}  # and how they follow from y up


def world_joints(
    result: PoseResult, index: int, *, up: str = "y", is_upright: bool = True, has_rigid_bones: bool = False
) -> np.ndarray:
    """Return the joints (T, 17, 3) float64 of the person at ``index`` in world coordinates, on the track's frames."""
    track, pose = result.tracks[index], result.poses[index]
    joints = with_rigid_bones(pose.joints) if has_rigid_bones else pose.joints
    root = np.zeros((len(joints), 3)) if pose.root is None else pose.root.astype(np.float64)
    placed = joints.astype(np.float64) + root[:, None]
    if is_upright:
        placed = placed @ to_world(result.shot_of(track)).T
        placed[..., 1] -= floor_height(placed, track, pose)
    else:
        placed = placed * (1, -1, -1)
    return placed @ AXES[up][1].T


def to_world(shot: Shot) -> np.ndarray:
    """Return the rotation (3, 3) from camera axes to world axes with y up; of a level camera if up is not known."""
    up = LEVEL if shot.up is None else shot.up
    back = -np.array([0.0, 0, 1]) + up[2] * up
    back /= np.linalg.norm(back)
    return np.stack([np.cross(up, back), up, back])


def turned_upright(pose: Pose3D, shot: Shot) -> Pose3D:
    """Return a pose as a level camera at the same place would see it: axes x right, y down, z away."""
    level = np.diag([1.0, -1, -1]) @ to_world(shot)
    root = None if pose.root is None else (pose.root @ level.T).astype(np.float32)
    return replace(pose, joints=(pose.joints @ level.T).astype(np.float32), root=root)


def camera_height(result: PoseResult, index: int) -> float | None:
    """Return how high the camera is above the floor that a person stands on, in meters; None without a trajectory.

    It is measured in the person's own size: people of unknown heights give different answers.
    """
    track, pose = result.tracks[index], result.poses[index]
    if pose.root is None:
        return None
    placed = (pose.joints.astype(np.float64) + pose.root[:, None]) @ to_world(result.shot_of(track)).T
    return -floor_height(placed, track, pose)


def floor_height(placed: np.ndarray, track: Track, pose: Pose3D) -> float:
    """Return the height of the floor for joints (T, 17, 3) with y up: below where the lower foot mostly is."""
    lowest = placed[track.observed][:, ANKLES, 1]
    rows = np.arange(len(lowest))
    trust = np.maximum(pose.scores[track.observed][:, ANKLES][rows, lowest.argmin(axis=1)], 0.01)
    return stance_level(lowest.min(axis=1), trust) - ANKLE_HEIGHT * body_height(pose.joints, track.valid)


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
