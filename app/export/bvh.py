"""``pose.person0.bvh``: one person's skeleton and motion for animation software.

Meters, world axes as in ``app.geometry.world``; joints and rest pose as in ``app.export.skeleton_rig``. Angles in
degrees, turned in the order Z, X, Y (channels Zrotation Xrotation Yrotation, the first one outermost), without jumps
of 360 degrees. All frames of the video at its mean rate: where the person is not there yet or no longer, the nearest
pose is held, and in gaps joints move in a straight line; ``valid`` in pose.json says so.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from app.export.skeleton_rig import JOINTS, Rig, rig_of
from app.geometry.world import AXES
from app.results import PoseResult

ORDER = "ZXY"


def write_bvh(result: PoseResult, path: Path, index: int) -> None:
    """Write the person at ``index`` of ``result.tracks``."""
    joints = result.world_joints(index, up="y", has_rigid_bones=True)
    rig = rig_of(joints, AXES[result.options.up].rotation)
    track, video = result.tracks[index], result.video
    shown = np.clip(np.arange(video.num_frames) - track.frames[0], 0, len(track.frames) - 1)
    rows = channels(rig)[shown]
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write("HIERARCHY\n" + "".join(_hierarchy(rig, 0, "")))
        file.write(f"MOTION\nFrames: {len(rows)}\nFrame Time: {1 / video.fps:.9f}\n")
        np.savetxt(file, rows, fmt="%.6f")


def channels(rig: Rig) -> np.ndarray:
    """Return the rows (T, 3 + 3 R): root in meters, then every joint's angles in degrees, joints in file order."""
    angles = euler_degrees(rig.rotations)[:, file_order()]  # (T, R, 3)
    return np.concatenate([rig.root, angles.reshape(len(angles), -1)], axis=1)


def file_order() -> list[int]:
    """Return the rig's joints in the order of the file: every joint is followed by all that hangs on it."""

    def below(index: int) -> list[int]:
        children = [child for child, joint in enumerate(JOINTS) if joint.parent == index]
        return [index, *(deeper for child in children for deeper in below(child))]

    return below(0)


def euler_degrees(rotations: np.ndarray) -> np.ndarray:
    """Return angles (T, R, 3) about z, x and y in degrees of rotations (T, R, 3, 3) = Rz Rx Ry, steady over time.

    Every rotation has two such triples, each plus any full turns; the one nearest to the frame before is taken.
    """
    count, size = rotations.shape[:2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # it then sets the third angle to 0, which is right
        angles = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_euler(ORDER, degrees=True)
    angles = angles.reshape(count, size, 3)
    for t in range(1, count):
        same = np.stack([angles[t], angles[t] * (1, -1, 1) + 180])  # (2, R, 3)
        same -= 360 * np.rint((same - angles[t - 1]) / 360)
        nearer = np.abs(same - angles[t - 1]).sum(axis=-1).argmin(axis=0)
        angles[t] = same[nearer, np.arange(size)]
    return angles


def _hierarchy(rig: Rig, index: int, indent: str) -> list[str]:
    """Return the lines of one joint and all that hangs on it."""
    joint, inner = JOINTS[index], indent + "  "
    turns = " ".join(f"{axis}rotation" for axis in ORDER)
    moves = "" if joint.parent >= 0 else "Xposition Yposition Zposition "
    lines = [
        f"{indent}{'ROOT' if joint.parent < 0 else 'JOINT'} {joint.name}\n{indent}{{\n",
        f"{inner}OFFSET {_numbers(rig.offsets[index])}\n{inner}CHANNELS {6 if moves else 3} {moves}{turns}\n",
    ]
    for child, other in enumerate(JOINTS):
        if other.parent == index:
            lines += _hierarchy(rig, child, inner)
    if rig.ends[index].any():
        lines.append(f"{inner}End Site\n{inner}{{\n{inner}  OFFSET {_numbers(rig.ends[index])}\n{inner}}}\n")
    return [*lines, f"{indent}}}\n"]


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values + 0.0)
