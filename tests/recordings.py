"""Writes BVH and Acclaim files as other programs do, for the tests that read them."""

import itertools
import math
from pathlib import Path

import numpy as np

from lifter.skeletons import H36M17
from lifter.training.mocap.recordings import read_recording

JOINT = {name: i for i, name in enumerate(H36M17.names)}
# A T-pose in meters, y up, facing z: (name, parent, offset from the parent), names of MotionBuilder.
RIG = (
    ("Hips", None, (0, 0, 0)),
    ("LeftUpLeg", "Hips", (0.1, -0.05, 0)), ("LeftLeg", "LeftUpLeg", (0, -0.42, 0)),
    ("LeftFoot", "LeftLeg", (0, -0.4, 0)),
    ("RightUpLeg", "Hips", (-0.1, -0.05, 0)), ("RightLeg", "RightUpLeg", (0, -0.42, 0)),
    ("RightFoot", "RightLeg", (0, -0.4, 0)),
    ("Spine", "Hips", (0, 0.15, 0)), ("Neck", "Spine", (0, 0.35, 0)), ("Head", "Neck", (0, 0.1, 0)),
    ("LeftShoulder", "Spine", (0.05, 0.3, 0)), ("LeftArm", "LeftShoulder", (0.12, 0, 0)),
    ("LeftForeArm", "LeftArm", (0.28, 0, 0)), ("LeftHand", "LeftForeArm", (0.25, 0, 0)),
    ("RightShoulder", "Spine", (-0.05, 0.3, 0)), ("RightArm", "RightShoulder", (-0.12, 0, 0)),
    ("RightForeArm", "RightArm", (-0.28, 0, 0)), ("RightHand", "RightForeArm", (-0.25, 0, 0)),
)  # fmt: skip
NAMES = tuple(name for name, _, _ in RIG)
ORDERS = tuple("".join(order) for order in itertools.permutations("XYZ"))
# The joint of RIG that each joint of a limb is.
LIMBS = {f"{side}_{part}": f"{side.title()}{name}" for side in ("left", "right") for part, name in (
    ("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot"), ("shoulder", "Arm"), ("elbow", "ForeArm"), ("wrist", "Hand"),
)}  # fmt: skip


def bvh_text(channels, rows, fps=50.0, rig=RIG, scale=1.0, rename=lambda name: name) -> str:
    """A BVH file: ``channels`` are the names per joint, ``rows`` the numbers per frame."""

    def block(name, keyword):
        (offset,) = (o for n, _, o in rig if n == name)
        children = [n for n, parent, _ in rig if parent == name]
        yield f"{keyword} {rename(name)}\n{{\nOFFSET {' '.join(f'{scale * x:.9g}' for x in offset)}"
        yield f"CHANNELS {len(channels[name])} {' '.join(channels[name])}"
        for child in children:
            yield from block(child, "JOINT")
        if not children:
            yield f"End Site\n{{\nOFFSET 0 {0.1 * scale} 0\n}}"
        yield "}"

    lines = ["HIERARCHY", *block(rig[0][0], "ROOT"), "MOTION", f"Frames: {len(rows)}", f"Frame Time: {1 / fps:.9f}"]
    return "\n".join([*lines, *(" ".join(f"{x:.9g}" for x in row) for row in rows)]) + "\n"


def depth_first(rig) -> list[str]:
    """Joint names in the order that a BVH file lists them and their channels."""

    def below(name):
        return [name, *(x for n, parent, _ in rig if parent == name for x in below(n))]

    return below(rig[0][0])


def rotation_channels(orders) -> dict[str, list[str]]:
    """Root with a place and all joints with three rotations, in the given order per joint ("ZXY")."""
    turns = {name: [f"{axis}rotation" for axis in orders[name]] for name in NAMES}
    return {name: (["Xposition", "Yposition", "Zposition"] if name == "Hips" else []) + turns[name] for name in NAMES}


def rows_of(root, angles) -> np.ndarray:
    """Rows of a file: root (F, 3) and angles in degrees (F, 3) per joint, in the order of its channels."""
    return np.concatenate([root, *(angles[name] for name in depth_first(RIG))], axis=1)


def still(frames: int, **angles) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A root 0.87 m high and joints that stand still at the given angles."""
    root = np.tile([0.0, 0.87, 0.0], (frames, 1))
    return root, {name: np.tile(np.asarray(angles.get(name, (0.0, 0, 0)), float), (frames, 1)) for name in NAMES}


def write_still(
    path: Path, frames: int = 60, fps: float = 50.0, scale: float = 1.0, rename=lambda name: name, **angles
):
    """A file of somebody who stands still, rotations in the order ZXY."""
    root, turned = still(frames, **angles)
    channels = rotation_channels(dict.fromkeys(NAMES, "ZXY"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(bvh_text(channels, rows_of(scale * root, turned), fps, scale=scale, rename=rename))
    return path


def only_clip(path: Path) -> np.ndarray:
    (clip,) = read_recording(path).clips.values()
    return clip


def to_ours(points: np.ndarray) -> np.ndarray:
    """Points with y up and z ahead in our axes: z up."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)


def smooth_angles(rng, frames: int, size: float) -> np.ndarray:
    """(frames, 3) degrees that sway slowly."""
    time = np.arange(frames)[:, None] / 50
    return size * np.sin(2 * np.pi * (rng.uniform(0.2, 0.6, 3) * time + rng.uniform(0, 1, 3)))


def assert_faces_ahead(joints: np.ndarray):
    """The nose is before the thorax as seen from the hips, in every frame, and left is left of it."""
    left = joints[:, JOINT["left_hip"]] - joints[:, JOINT["right_hip"]]
    up = joints[:, JOINT["thorax"]] - joints[:, JOINT["pelvis"]]
    ahead = np.cross(left, up)
    assert (((joints[:, JOINT["nose"]] - joints[:, JOINT["thorax"]]) * ahead).sum(-1) > 0).all()
    shoulders = joints[:, JOINT["left_shoulder"]] - joints[:, JOINT["right_shoulder"]]
    assert ((shoulders * left).sum(-1) > 0).all()


INCH = 0.0254
# Bones: (name, parent, direction, length in meters, axis in degrees, dof); facing z, y up, a T-pose.
BONES = []
for _side, _x in (("l", 1), ("r", -1)):
    BONES += [
        (f"{_side}hipjoint", "root", (_x * 0.9, -0.3, 0.3), 0.11, (0, 0, 0), ""),
        (f"{_side}femur", f"{_side}hipjoint", (_x * 0.34, -0.94, 0), 0.42, (0, 0, _x * 20), "rx ry rz"),
        (f"{_side}tibia", f"{_side}femur", (_x * 0.34, -0.94, 0), 0.41, (0, 0, _x * 20), "rx"),
        (f"{_side}foot", f"{_side}tibia", (0, -0.2, 0.98), 0.12, (-90, 0, _x * 20), "rx rz"),
        (f"{_side}clavicle", "thorax", (_x * 0.95, 0.3, 0), 0.19, (0, 0, 0), "ry rz"),
        (f"{_side}humerus", f"{_side}clavicle", (_x, 0, 0), 0.28, (180, 30, _x * 90), "rx ry rz"),
        (f"{_side}radius", f"{_side}humerus", (_x, 0, 0), 0.19, (0, 90, 0), "rx"),
        (f"{_side}wrist", f"{_side}radius", (_x, 0, 0), 0.095, (0, 0, _x * 90), "ry"),
        (f"{_side}hand", f"{_side}wrist", (_x, 0, 0), 0.03, (0, 0, _x * 90), "rx rz"),
    ]
BONES += [
    ("lowerback", "root", (0, 0.99, -0.05), 0.115, (0, 0, 0), "rx ry rz"),
    ("upperback", "lowerback", (0, 1, 0.02), 0.116, (0, 0, 0), "rx ry rz"),
    ("thorax", "upperback", (0, 1, 0.05), 0.117, (0, 0, 0), "rx ry rz"),
    ("lowerneck", "thorax", (0, 1, 0.1), 0.09, (0, 0, 0), "rx ry rz"),
    ("upperneck", "lowerneck", (0, 1, -0.1), 0.09, (0, 0, 0), "rx ry rz"),
    ("head", "upperneck", (0, 1, 0), 0.092, (0, 0, 0), "rx ry rz"),
]
DOF = {"root": "tx ty tz rx ry rz", **{name: dof for name, _, _, _, _, dof in BONES if dof}}


def asf_text(length: float = 0.45, angle: str = "deg", root_order: str = "TX TY TZ RX RY RZ", axis: str = "XYZ") -> str:
    """The skeleton BONES in an .asf file, lengths in its unit."""
    factor = 1.0 if angle == "deg" else math.pi / 180
    lines = [":version 1.10", ":name VICON", ":units", "  mass 1.0", f"  length {length}", f"  angle {angle}",
             ":documentation", "   made up, root axis is not what it seems", ":root", f"   order {root_order}",
             "   axis XYZ", "   position 0 0 0", "   orientation 0 0 0", ":bonedata"]  # fmt: skip
    for number, (name, _, direction, meters, axes, dof) in enumerate(BONES, 1):
        values = dict(zip("XYZ", axes, strict=True))
        lines += ["  begin", f"     id {number}", f"     name {name}",
                  f"     direction {' '.join(f'{x:.9g}' for x in np.array(direction) / np.linalg.norm(direction))}",
                  f"     length {meters / INCH * length:.9g}",
                  f"     axis {' '.join(f'{factor * values[x]:.9g}' for x in axis)}  {axis}"]  # fmt: skip
        if dof:
            lines += [
                f"    dof {dof}",
                *(f"    {'limits' if i == 0 else ''} (-180 180)" for i in range(len(dof.split()))),
            ]
        lines.append("  end")
    lines += [":hierarchy", "  begin"]
    for parent in dict.fromkeys(parent for _, parent, *_ in BONES):
        lines.append(f"    {parent} {' '.join(n for n, p, *_ in BONES if p == parent)}")
    return "\n".join([*lines, "  end", ""])


def amc_text(values: dict[str, np.ndarray], header=(":FULLY-SPECIFIED", ":DEGREES")) -> str:
    """An .amc file of values (F, n) per bone."""
    lines = ["#!OML:ASF made_up.asf", *header]
    for frame in range(len(values["root"])):
        lines += [
            str(frame + 1),
            *(f"{name} {' '.join(f'{x:.9g}' for x in rows[frame])}" for name, rows in values.items()),
        ]
    return "\n".join(lines) + "\n"


def random_values(rng, frames: int, size: float = 30.0) -> dict[str, np.ndarray]:
    """Channels of somebody who sways at 120 fps; the root 0.9 m high, in the unit of length 0.45."""
    values = {
        name: np.repeat(smooth_angles(rng, 1, size), frames, 0)[:, : len(dof.split())] for name, dof in DOF.items()
    }
    for name in list(values)[1:]:
        values[name] = smooth_angles(rng, frames, size)[:, : len(DOF[name].split())]
    place = np.stack([np.linspace(0, 1, frames), np.full(frames, 0.9), np.zeros(frames)], axis=1) / INCH * 0.45
    return {**values, "root": np.concatenate([place, smooth_angles(rng, frames, 20)], axis=1)}


def write_amc(folder: Path, name: str = "77_01", frames: int = 120, size: float = 30.0, header=()) -> dict:
    """Write a motion and its skeleton; return the values."""
    folder.mkdir(parents=True, exist_ok=True)
    values = random_values(np.random.default_rng(0), frames, size)
    (folder / f"{name.partition('_')[0]}.asf").write_text(asf_text())
    (folder / f"{name}.amc").write_text(amc_text(values, (":FULLY-SPECIFIED", ":DEGREES", *header)))
    return values


def change(text: str, old: str, new: str, count: int = 1) -> str:
    assert old in text
    return text.replace(old, new, count)


def good_bvh(frames: int = 60) -> str:
    root, angles = still(frames)
    return bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles))
