"""``angles.csv``: joint angles as a tidy table, and ``angles.person0.mot``: the same as coordinates of OpenSim.

``angles.csv`` has one row per person, frame and angle: ``time_s, frame, person, angle, degrees, valid``. Where
``valid`` is 0 there is no number. Lines that begin with # come first and define every angle:
``pandas.read_csv(path, comment="#")``. Definitions in full: docs/angles.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from app.biomechanics.joint_angles import ANGLES, LEAST_SCORE, angles_of, euler, flexion_and_abduction, joint_angles
from app.biomechanics.segment_axes import joint, pelvis_axes, thorax_axes
from app.geometry.world import AXES
from app.results import PoseResult

# Coordinates of OpenSim's models (Rajagopal 2016, and gait2392 but for the knee, which is negative there), by angle.
OPENSIM = (
    ("lumbar_extension", "trunk_flexion", -1),
    ("lumbar_bending", "trunk_side_bend", 1),
    ("lumbar_rotation", "trunk_rotation", 1),
    ("knee_angle_r", "right_knee_flexion", 1),
    ("knee_angle_l", "left_knee_flexion", 1),
    ("elbow_flex_r", "right_elbow_flexion", 1),
    ("elbow_flex_l", "left_elbow_flexion", 1),
)


def write_angles(result: PoseResult, path: Path) -> None:
    """Write the angles of everybody; with nobody, the header alone."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"# {line}\n" for line in _header(result))
        file.write("time_s,frame,person,angle,degrees,valid\n")
        for index, track in enumerate(result.tracks):
            angles = joint_angles(result, index)
            for t, frame in enumerate(track.frames.tolist()):
                start = f"{result.video.timestamps_s[frame]:.6f},{frame},{track.person_id}"
                for name, values in angles.items():
                    number = f"{values[t]:.2f},1" if np.isfinite(values[t]) else ",0"
                    file.write(f"{start},{name},{number}\n")


def write_mot(result: PoseResult, path: Path, index: int) -> None:
    """Write the coordinates of the person at ``index``, degrees and meters, a row per valid frame at its time.

    As markers of pose.person0.trc, joints count whatever their score. Invalid frames have no row, for programs of
    OpenSim stop reading where a number is missing. The pelvis turns in the sequence Z-X-Y from OpenSim's ground (x
    right of the camera, y up, z towards the camera), and ``pelvis_tx, ty, tz`` is the middle of the hips.
    """
    track = result.tracks[index]
    world = result.world_joints(index, up="y")
    angles = angles_of(world)
    columns = _pelvis(world) | {name: sign * angles[angle] for name, angle, sign in OPENSIM} | _limbs(world)
    table = np.stack(list(columns.values()), axis=1)
    usable = track.valid & np.isfinite(table).all(axis=1)
    lines = [
        f"angles.person{track.person_id}.mot",
        "version=1",
        f"nRows={int(usable.sum())}",
        f"nColumns={1 + len(columns)}",
        "inDegrees=yes",
        *(_one_line(line) for line in _origin(result)),
        f"unit of pelvis_tx, pelvis_ty, pelvis_tz: {result.models.unit}",
        "endheader",
        "\t".join(["time", *columns]),
    ]
    for time, row in zip(result.video.timestamps_s[track.frames[usable]], table[usable], strict=True):
        lines.append("\t".join([f"{time:.6f}", *(f"{value:.5f}" for value in row)]))
    path.write_text("\n".join(lines) + "\n", encoding="ascii", errors="replace", newline="\n")


def _header(result: PoseResult) -> list[str]:
    sides = [f"{'left_, right_' if angle.is_paired else ''}{key}: {angle.about}" for key, angle in ANGLES.items()]
    return [
        *(_one_line(line) for line in _origin(result)),
        "degrees; x forward, y up, z outward (right, for the middle) of the segment that the other one hangs on",
        f"valid 0: not seen, a joint with a score below {LEAST_SCORE:g}, or not to be known from joint centers",
        *(_one_line(line) for line in sides),
    ]


def _origin(result: PoseResult) -> list[str]:
    weights = result.provenance.get("lifter", {}).get("weights", {}).get("sha256", "unknown")
    return [
        f"posemamba joint angles of {json.dumps(result.video.path.name)}, {result.video.fps:.6g} frames per second",
        f"lifter {result.models.lifter}, weights {weights}",
        f"world axes: {AXES['y'].about}",
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _pelvis(world: np.ndarray) -> dict[str, np.ndarray]:
    turns = euler(pelvis_axes(world), "ZXY")
    places = joint(world, "pelvis").T
    return dict(zip(("pelvis_tilt", "pelvis_list", "pelvis_rotation"), turns, strict=True)) | dict(
        zip(("pelvis_tx", "pelvis_ty", "pelvis_tz"), places, strict=True)
    )


def _limbs(world: np.ndarray) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    thigh, upper_arm = ("hip_flexion", "hip_adduction", "hip", "knee"), ("arm_flex", "arm_add", "shoulder", "elbow")
    for axes, (flex, adduct, upper, lower) in ((pelvis_axes(world), thigh), (thorax_axes(world), upper_arm)):
        for side in ("right", "left"):
            limb = joint(world, f"{side}_{lower}") - joint(world, f"{side}_{upper}")
            flexion, abduction = flexion_and_abduction(axes, limb, side)
            columns |= {f"{flex}_{side[0]}": flexion, f"{adduct}_{side[0]}": -abduction}
    return columns
