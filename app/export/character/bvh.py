"""``pose.person0.bvh``: one person's skeleton and motion for animation software.

Meters or centimeters (``--unit``), world axes as in ``app.geometry.world``; joints and rest pose as in
``app.export.character.skeleton_rig``. The root is a node on the floor that moves about; the hips hang on it at the
height of the rest pose, whose feet therefore stand on the floor. (An offset of the root itself would not do: some
programs add it to the root's channels, others do not.) Angles in degrees, turned in the order Z, X, Y (channels
Zrotation Xrotation Yrotation, the first one outermost), without jumps of 360 degrees. All frames of the video at its
rate: where the person is not there yet or no longer, the nearest pose is held, and in gaps joints move in a straight
line; ``valid`` in pose.json says so.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from app.export.character.skeleton_rig import JOINTS, Rig, rig_of
from app.export.frame_times import frame_rate
from app.geometry.world import AXES
from app.results import PoseResult

ORDER = "ZXY"
UNITS = {"m": 1.0, "cm": 100.0}
FLOOR_NODE = "Reference"  # the name that MotionBuilder gives it


def write_bvh(result: PoseResult, path: Path, index: int) -> None:
    """Write the person at ``index`` of ``result.tracks``."""
    joints = result.world_joints(index, up="y", has_rigid_bones=True)
    to_axes = AXES[result.options.up].rotation
    rig = rig_of(UNITS[result.options.unit] * joints, to_axes, has_floor=result.has_floor(index))
    track, video = result.tracks[index], result.video
    shown = np.clip(np.arange(video.num_frames) - track.frames[0], 0, len(track.frames) - 1)
    rows = channels(rig)[shown]
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write("HIERARCHY\n" + "".join(_hierarchy(rig)))
        file.write(f"MOTION\nFrames: {len(rows)}\nFrame Time: {1 / frame_rate(video):.15g}\n")
        np.savetxt(file, rows, fmt="%.6f")


def channels(rig: Rig) -> np.ndarray:
    """Return the rows (T, 6 + 3 R): place and angles of the node on the floor, then every joint's angles in degrees."""
    angles = euler_degrees(rig.rotations)[:, file_order()]  # (T, R, 3)
    floor = np.concatenate([rig.root - rig.rest_places[0], np.zeros((len(angles), 3))], axis=1)
    return np.concatenate([floor, angles.reshape(len(angles), -1)], axis=1)


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


def _hierarchy(rig: Rig) -> list[str]:
    """Return the lines of the skeleton: a node on the floor that moves about, and the joints that turn."""
    turns = " ".join(f"{axis}rotation" for axis in ORDER)

    def node(index: int, indent: str) -> list[str]:
        joint, inner = JOINTS[index], indent + "  "
        offset = rig.offsets[index] if joint.parent >= 0 else rig.rest_places[0]
        lines = [f"{indent}JOINT {joint.name}\n{indent}{{\n{inner}OFFSET {_numbers(offset)}\n"]
        lines.append(f"{inner}CHANNELS 3 {turns}\n")
        for child, other in enumerate(JOINTS):
            if other.parent == index:
                lines += node(child, inner)
        if rig.ends[index].any():
            lines.append(f"{inner}End Site\n{inner}{{\n{inner}  OFFSET {_numbers(rig.ends[index])}\n{inner}}}\n")
        return [*lines, f"{indent}}}\n"]

    moves = "Xposition Yposition Zposition"
    return [f"ROOT {FLOOR_NODE}\n{{\n  OFFSET 0 0 0\n  CHANNELS 6 {moves} {turns}\n", *node(0, "  "), "}\n"]


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values + 0.0)
