"""``joint_angles``: degrees of the joints over time, as biomechanics defines them, where joint centers show them.

What joint centers cannot show is no number: the rotation of a limb about its own axis while it is straight, a plane of
elevation while the arm hangs, the ankle (no feet). A joint that bends one way only (knee, elbow) has no negative
angles: overstretching by 5 degrees reads as 5. Left and right are mirrored: the same motion has the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.biomechanics.segment_axes import (
    FACING_CAMERA,
    angle_between,
    heading_axes,
    joint,
    pelvis_axes,
    seen_from,
    thorax_axes,
)
from app.motion import contiguous_segments
from app.results import PoseResult
from lifter.skeletons import H36M17

LEAST_SCORE = 0.1  # of every joint of an angle, in frames in which the person was observed
LEAST_BEND = 25.0  # degrees that a knee or elbow bends where its plane tells how the limb turns
LEAST_RAISE = 20.0  # degrees from the body's axis from which on an arm's plane is one
NEAREST_TO_SIDE = 15.0  # degrees from pointing straight sideways, where flexion has no meaning

_ARM, _LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")
_PELVIS, _THORAX = ("left_hip", "right_hip", "pelvis", "spine"), ("left_shoulder", "right_shoulder", "thorax", "spine")
_HEAD = (*_THORAX, "nose", "head")


@dataclass(frozen=True)
class Angle:
    """What one angle means.

    Attributes:
        about: Zero, positive direction and formula in one line.
        joints: It is computed from; for one side, those of the side without "left_" or "right_".
        is_paired: There is one on each side.
    """

    about: str
    joints: tuple[str, ...]
    is_paired: bool = False


ANGLES = {
    "knee_flexion": Angle("0 straight, + bent: angle between thigh and shank", _LEG, True),
    "hip_flexion": Angle("0 thigh in line with pelvis, + forward: atan2(x, -y) of the thigh", (*_PELVIS, *_LEG), True),
    "hip_abduction": Angle("+ away from the middle: asin(z) of the thigh", (*_PELVIS, *_LEG), True),
    "hip_rotation": Angle(
        f"+ inward: axis across thigh and shank about the thigh; knee bent by {LEAST_BEND:g} or more",
        (*_PELVIS, *_LEG), True,
    ),
    "elbow_flexion": Angle("0 straight, + bent: angle between upper arm and forearm", _ARM, True),
    "shoulder_elevation": Angle(
        "0 hanging, 90 horizontal, 180 up: acos(-y) of the upper arm in the thorax", (*_THORAX, *_ARM), True
    ),
    "shoulder_plane": Angle(
        f"0 sideways, 90 forward: atan2(x, z) of the upper arm; raised by {LEAST_RAISE:g} or more",
        (*_THORAX, *_ARM), True,
    ),
    "trunk_lean_forward": Angle("pelvis to thorax against the vertical, + forward", (*_PELVIS, "thorax")),
    "trunk_lean_right": Angle("pelvis to thorax against the vertical, + to the right", (*_PELVIS, "thorax")),
    "trunk_flexion": Angle("thorax on pelvis, Z-X-Y: + forward", (*_PELVIS, *_THORAX)),
    "trunk_side_bend": Angle("thorax on pelvis, Z-X-Y: + to the right", (*_PELVIS, *_THORAX)),
    "trunk_rotation": Angle("thorax on pelvis, Z-X-Y: + to the left", (*_PELVIS, *_THORAX)),
    "pelvis_tilt": Angle("pelvis in the world, Y-X-Z: + forward (anterior); of the lowest back, see docs", _PELVIS),
    "pelvis_obliquity": Angle("pelvis in the world, Y-X-Z: + right hip lower", _PELVIS),
    "pelvis_rotation": Angle("pelvis in the world, Y-X-Z: 0 facing the camera, + to the left, counted on", _PELVIS),
    "head_flexion": Angle("thorax to head in the thorax: + forward", _HEAD),
    "head_side_bend": Angle("thorax to head in the thorax: + to the right", _HEAD),
    "head_rotation": Angle("head to nose in the thorax: + to the left", _HEAD),
}  # fmt: skip


def names() -> list[str]:
    """Return the names of all angles, sides apart."""
    return [name for key, angle in ANGLES.items() for name in sided(key, angle.is_paired)]


def sided(key: str, is_paired: bool) -> list[str]:
    """Return the names that an entry of ``ANGLES`` has in results."""
    return [f"left_{key}", f"right_{key}"] if is_paired else [key]


def joint_angles(result: PoseResult, index: int) -> dict[str, np.ndarray]:
    """Return degrees (T,) by name, of the person at ``index``; NaN where there is no number.

    Invalid frames have none, nor has an angle while a joint of it was not seen. Global angles refer to world axes.
    """
    track, pose = result.people[index]
    angles = angles_of(result.world_joints(index, up="y"))
    is_seen = ((pose.scores >= LEAST_SCORE) | ~track.observed[:, None]) & ~pose.unseen
    for key, angle in ANGLES.items():
        for name in sided(key, angle.is_paired):
            side = name.partition("_")[0]
            columns = [H36M17.index(j if j in H36M17.names else f"{side}_{j}") for j in angle.joints]
            usable = track.valid & is_seen[:, columns].all(axis=1)
            angles[name] = np.where(usable, angles[name], np.nan)
    turn = angles["pelvis_rotation"]
    for run in contiguous_segments(track, result.video):
        known = np.flatnonzero(np.isfinite(turn[run])) + run.start
        turn[known] = np.unwrap(turn[known], period=360)
    return angles


def angles_of(world: np.ndarray) -> dict[str, np.ndarray]:
    """Return degrees (T,) by name of joints (T, 17, 3), y up; NaN where joint centers do not show an angle."""
    joints = np.where(np.isfinite(world), world, np.nan).astype(np.float64)
    pelvis, thorax = pelvis_axes(joints), thorax_axes(joints)
    angles = {**_trunk(joints, pelvis, thorax), **_head(joints, thorax)}
    for side in ("left", "right"):
        for name, values in {**_leg(joints, pelvis, side), **_arm(joints, thorax, side)}.items():
            angles[f"{side}_{name}"] = values
    return {name: angles[name] for name in names()}


def flexion_and_abduction(axes: np.ndarray, limb: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a limb points forward and outward, (T,) degrees each; the first two of the sequence Z-X-Y.

    Args:
        axes: (T, 3, 3) of the segment that it hangs on.
        limb: (T, 3) from its upper to its lower joint, world axes.
        side: "left" or "right".
    """
    forward, up, outward = np.moveaxis(seen_from(axes, limb, side), -1, 0)
    return np.degrees(np.arctan2(forward, -up)), np.degrees(np.arcsin(np.clip(outward, -1, 1)))


def _leg(joints: np.ndarray, pelvis: np.ndarray, side: str) -> dict[str, np.ndarray]:
    hip, knee, ankle = (joint(joints, f"{side}_{part}") for part in _LEG)
    bend = angle_between(knee - hip, ankle - knee)
    flexion, abduction = flexion_and_abduction(pelvis, knee - hip, side)
    rotation = _rotation(pelvis, knee - hip, ankle - knee, flexion, abduction, side)
    is_sideways = np.abs(abduction) > 90 - NEAREST_TO_SIDE
    return {
        "knee_flexion": bend,
        "hip_flexion": np.where(is_sideways, np.nan, flexion),
        "hip_abduction": abduction,
        "hip_rotation": np.where(_has_plane(bend) & ~is_sideways, rotation, np.nan),
    }


def _arm(joints: np.ndarray, thorax: np.ndarray, side: str) -> dict[str, np.ndarray]:
    shoulder, elbow, wrist = (joint(joints, f"{side}_{part}") for part in _ARM)
    forward, up, outward = np.moveaxis(seen_from(thorax, elbow - shoulder, side), -1, 0)
    elevation = np.degrees(np.arccos(np.clip(-up, -1, 1)))
    plane = np.degrees(np.arctan2(forward, outward))
    is_raised = (elevation >= LEAST_RAISE) & (elevation <= 180 - LEAST_RAISE)
    return {
        "elbow_flexion": angle_between(elbow - shoulder, wrist - elbow),
        "shoulder_elevation": elevation,
        "shoulder_plane": np.where(is_raised, plane, np.nan),
    }


def _rotation(
    axes: np.ndarray, upper: np.ndarray, lower: np.ndarray, flexion: np.ndarray, abduction: np.ndarray, side: str
) -> np.ndarray:
    """Return how far a leg turns inward about its thigh, (T,) degrees: the third of the sequence Z-X-Y.

    The axis that the knee bends about is across thigh and shank.
    """
    thigh, shank = seen_from(axes, upper, side), seen_from(axes, lower, side)
    hinge = np.cross(shank, thigh)  # outward, as mirrored axes are: the shank bends back
    f, a = np.radians(flexion), np.radians(abduction)
    forward = np.stack([np.cos(f), np.sin(f), np.zeros_like(f)], axis=-1)  # of a thigh that is not rotated
    outward = np.stack([-np.sin(f) * np.sin(a), np.cos(f) * np.sin(a), np.cos(a)], axis=-1)
    return np.degrees(np.arctan2((hinge * forward).sum(axis=-1), (hinge * outward).sum(axis=-1)))


def _has_plane(bend: np.ndarray) -> np.ndarray:
    return (bend >= LEAST_BEND) & (bend <= 180 - LEAST_BEND)


def _trunk(joints: np.ndarray, pelvis: np.ndarray, thorax: np.ndarray) -> dict[str, np.ndarray]:
    forward, up, right = np.moveaxis(
        seen_from(heading_axes(pelvis), joint(joints, "thorax") - joint(joints, "pelvis")), -1, 0
    )
    flexion, bend, turn = euler(np.swapaxes(pelvis, 1, 2) @ thorax, "ZXY")
    rotation, obliquity, tilt = euler(FACING_CAMERA.T @ pelvis, "YXZ")
    return {
        "trunk_lean_forward": np.degrees(np.arctan2(forward, up)),
        "trunk_lean_right": np.degrees(np.arctan2(right, up)),
        "trunk_flexion": -flexion,
        "trunk_side_bend": bend,
        "trunk_rotation": turn,
        "pelvis_tilt": -tilt,
        "pelvis_obliquity": obliquity,
        "pelvis_rotation": rotation,
    }


def _head(joints: np.ndarray, thorax: np.ndarray) -> dict[str, np.ndarray]:
    forward, up, right = np.moveaxis(seen_from(thorax, joint(joints, "head") - joint(joints, "thorax")), -1, 0)
    gaze, _, gaze_right = np.moveaxis(seen_from(thorax, joint(joints, "nose") - joint(joints, "head")), -1, 0)
    is_level = np.hypot(gaze, gaze_right) > np.sin(np.radians(LEAST_RAISE))
    return {
        "head_flexion": np.degrees(np.arctan2(forward, up)),
        "head_side_bend": np.degrees(np.arctan2(right, np.hypot(forward, up))),
        "head_rotation": np.where(is_level, np.degrees(np.arctan2(-gaze_right, gaze)), np.nan),
    }


def euler(rotations: np.ndarray, sequence: str) -> np.ndarray:
    """Return three angles (3, T) in degrees of rotations (T, 3, 3) about axes that turn along ("ZXY").

    NaN where a rotation is, and where the middle angle is so near to 90 degrees that the other two are one.
    """
    from scipy.spatial.transform import Rotation

    angles = np.full((3, len(rotations)), np.nan)
    known = np.isfinite(rotations).all(axis=(1, 2))
    middle = _middle_sine(rotations, sequence)
    known &= np.abs(middle) < np.sin(np.radians(90 - 1))
    if known.any():
        angles[:, known] = Rotation.from_matrix(rotations[known]).as_euler(sequence, degrees=True).T
    return angles


def _middle_sine(rotations: np.ndarray, sequence: str) -> np.ndarray:
    """Return (T,) the sine of the second angle, but for its sign: axis 1 turned, seen along axis 3."""
    first, _, third = ("XYZ".index(axis) for axis in sequence)
    return rotations[:, first, third]
