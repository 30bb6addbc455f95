"""Reading BVH and Acclaim files: geometry by hand and by SciPy, units, axes, frame rates, malformed files, training."""

import itertools
import math
import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from app.train import train_lifter
from lifter import LIFTERS, LifterSpec
from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.skeletons import H36M17
from lifter.training import mocap_files, rigs, takes
from lifter.training.bvh import read_bvh
from lifter.training.mocap_files import read_recording
from lifter.training.motion import clip_weights, load_motion

JOINT = {name: i for i, name in enumerate(H36M17.names)}
# A T-pose in metres, y up, facing z: (name, parent, offset from the parent), names of MotionBuilder.
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


# ---------------------------------------------------------------------------------------------- BVH: geometry


def test_a_t_pose_with_one_raised_arm_by_hand(tmp_path):
    # the left arm turned by 90 degrees about z (first channel of ZXY): from +x to straight up; the elbow stays straight
    joints = only_clip(write_still(tmp_path / "a.bvh", LeftArm=(90, 0, 0)))
    assert joints.shape == (60, 17, 3)
    assert joints.dtype == np.float32
    expected = {
        "pelvis": (0, 0, 0.82), "left_hip": (0.1, 0, 0.82), "left_knee": (0.1, 0, 0.4), "left_ankle": (0.1, 0, 0),
        "right_hip": (-0.1, 0, 0.82), "right_ankle": (-0.1, 0, 0), "thorax": (0, 0, 1.37),
        "spine": (0, 0, 0.82 + 0.475 * 0.55), "head": (0, 0, 1.47 + 0.135), "nose": (0, -0.065, 1.47 + 0.04),
        "left_shoulder": (0.17, 0, 1.32), "left_elbow": (0.17, 0, 1.6), "left_wrist": (0.17, 0, 1.85),
        "right_shoulder": (-0.17, 0, 1.32), "right_elbow": (-0.45, 0, 1.32), "right_wrist": (-0.7, 0, 1.32),
    }  # fmt: skip
    for name, place in expected.items():
        np.testing.assert_allclose(joints[:, JOINT[name]], np.tile(place, (60, 1)), rtol=0, atol=1e-6, err_msg=name)


def test_a_turned_head_turns_the_nose(tmp_path):
    # a quarter turn about y (the last of ZXY) brings the nose from ahead (-y) to the left (+x)
    joints = only_clip(write_still(tmp_path / "a.bvh", Head=(0, 0, 90)))
    np.testing.assert_allclose(joints[0, JOINT["nose"]], (0.065, 0, 1.51), rtol=0, atol=1e-6)
    np.testing.assert_allclose(joints[0, JOINT["head"]], (0, 0, 1.605), rtol=0, atol=1e-6)


def scipy_positions(root, angles, orders) -> dict[str, np.ndarray]:
    """Places (F, 3) of the joints of RIG, file axes, by SciPy's Euler angles."""
    at, turned = {}, {}
    for name, parent, offset in RIG:
        own = Rotation.from_euler(orders[name], angles[name], degrees=True)  # capitals: intrinsic, as in BVH
        at[name] = root if parent is None else at[parent] + turned[parent].apply(offset)
        turned[name] = own if parent is None else turned[parent] * own
    return at


def smooth_angles(rng, frames: int, size: float) -> np.ndarray:
    """(frames, 3) degrees that sway slowly."""
    time = np.arange(frames)[:, None] / 50
    return size * np.sin(2 * np.pi * (rng.uniform(0.2, 0.6, 3) * time + rng.uniform(0, 1, 3)))


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), orders=st.lists(st.sampled_from(ORDERS), min_size=len(NAMES), max_size=len(NAMES)))
def test_any_motion_in_any_channel_order_is_what_scipy_computes(tmp_path_factory, seed, orders):
    rng = np.random.default_rng(seed)
    orders = dict(zip(NAMES, orders, strict=True))
    frames = 50
    angles = {name: smooth_angles(rng, frames, 40) for name in NAMES}
    root = np.stack([np.linspace(0, 1, frames), np.full(frames, 0.9), np.linspace(0, -0.5, frames)], axis=1)
    path = tmp_path_factory.mktemp("bvh") / "a.bvh"
    path.write_text(bvh_text(rotation_channels(orders), rows_of(root, angles)))
    joints = only_clip(path)
    expected = scipy_positions(root, angles, orders)
    for name, joint in LIMBS.items():
        # nine digits in the file, float32 in the clip
        np.testing.assert_allclose(joints[:, JOINT[name]], to_ours(expected[joint]), rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(joints[:, JOINT["thorax"]], to_ours(expected["Neck"]), rtol=0, atol=1e-5)


def test_place_channels_stand_for_the_offset(tmp_path):
    # all six channels everywhere, places equal to the offsets but for a longer upper arm: as some programs write
    rng = np.random.default_rng(0)
    orders = dict.fromkeys(NAMES, "ZXY")
    channels = {name: ["Xposition", "Yposition", "Zposition", *rotation_channels(orders)[name][-3:]] for name in NAMES}
    angles = {name: smooth_angles(rng, 50, 30) for name in NAMES}
    offsets = {name: np.array(offset, float) for name, _, offset in RIG}
    offsets["Hips"], offsets["LeftForeArm"] = np.array([0, 0.9, 0]), np.array([0.33, 0, 0])
    blocks = [np.concatenate([np.tile(offsets[n], (50, 1)), angles[n]], axis=1) for n in depth_first(RIG)]
    (tmp_path / "a.bvh").write_text(bvh_text(channels, np.concatenate(blocks, axis=1)))
    joints = only_clip(tmp_path / "a.bvh")
    upper = np.linalg.norm(joints[:, JOINT["left_elbow"]] - joints[:, JOINT["left_shoulder"]], axis=-1)
    np.testing.assert_allclose(upper, 0.33, rtol=0, atol=1e-5)


def position_rows(joints: np.ndarray) -> tuple[dict, tuple, np.ndarray]:
    """A rig of flat places: every joint of RIG that a clip (F, 17, 3) has, as position channels below a still root."""
    sources = {joint: JOINT[name] for name, joint in LIMBS.items()} | {"Neck": JOINT["thorax"], "Head": JOINT["nose"]}
    rig, rows = [("Hips", None, (0, 0, 0))], []
    world = np.stack([joints[..., 0], joints[..., 2], -joints[..., 1]], axis=-1)  # y up
    parents = {
        "LeftUpLeg": "Hips",
        "RightUpLeg": "Hips",
        "Neck": "Hips",
        "Head": "Neck",
        "LeftArm": "Neck",
        "RightArm": "Neck",
    }
    for side in ("Left", "Right"):
        for upper, lower in (("UpLeg", "Leg"), ("Leg", "Foot"), ("Arm", "ForeArm"), ("ForeArm", "Hand")):
            parents[side + lower] = side + upper
    rig += [(name, parent, (0, 0, 0)) for name, parent in parents.items()]
    for name in depth_first(rig)[1:]:
        parent = parents[name]
        rows.append(world[:, sources[name]] - (0 if parent == "Hips" else world[:, sources[parent]]))
    channels = {name: ["Xposition", "Yposition", "Zposition"] for name in parents} | {"Hips": ["Yposition"]}
    return channels, tuple(rig), np.concatenate([np.zeros((len(world), 1)), *rows], axis=1)


def test_our_mocap_survives_a_trip_through_position_channels(shared, tmp_path):
    folder = shared / "data" / "mocap"
    if not folder.is_dir():
        pytest.skip("no mocap in shared/data")
    library = load_motion(folder / "uiprmd", "train")
    start = int(library.starts[7])
    joints = library.joints[start : start + int(library.lengths[7])].numpy()
    channels, rig, rows = position_rows(joints)
    (tmp_path / "a.bvh").write_text(bvh_text(channels, rows, rig=rig, scale=0.0))
    read = only_clip(tmp_path / "a.bvh")
    mapped = [JOINT[name] for name in (*LIMBS, "thorax")]
    np.testing.assert_allclose(read[:, mapped], joints[:, mapped], rtol=0, atol=1e-3)
    # no joint turns: the face looks where the shoulders do
    face = read[:, JOINT["nose"]] - joints[:, JOINT["nose"]]
    left = joints[:, JOINT["left_shoulder"]] - joints[:, JOINT["right_shoulder"]]
    assert np.abs((face * left).sum(-1)).max() < 1e-3
    assert np.linalg.norm(face, axis=-1) == pytest.approx(np.full(len(read), math.hypot(0.065, 0.04)), abs=1e-4)


# ---------------------------------------------------------------------------------------------- BVH: units, axes, names


@pytest.mark.parametrize("metres", rigs.UNITS_M.values(), ids=rigs.UNITS_M)
def test_units_are_told_by_the_length_of_the_leg(tmp_path, metres):
    joints = only_clip(write_still(tmp_path / "a.bvh", scale=1 / metres))
    assert joints[0, JOINT["left_hip"], 2] - joints[0, JOINT["left_ankle"], 2] == pytest.approx(0.82, abs=1e-5)


def test_a_size_that_no_unit_makes_human_is_refused(tmp_path):
    write_still(tmp_path / "a.bvh", scale=250.0)
    with pytest.raises(
        ValueError, match=r"leg from hip to ankle is 205 units long, 205 m in m, 2.05 m in cm.* 0.5 to 1.2"
    ):
        read_recording(tmp_path / "a.bvh")


def z_up(root, angles, path, turns_root: bool):
    """Write RIG with z up (x stays); with ``turns_root`` only the skeleton at rest has z up, the root turns it to y."""
    rig = tuple((name, parent, (x, -z, y)) for name, parent, (x, y, z) in RIG)
    if turns_root:
        angles = {**angles, "Hips": np.tile([0.0, -90, 0], (len(root), 1))}  # ZXY: about x
    else:
        root = to_ours(root)
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), rig=rig))
    return path


@pytest.mark.parametrize("turns_root", [False, True])
def test_files_with_z_up_are_noticed(tmp_path, turns_root):
    reference = only_clip(write_still(tmp_path / "y.bvh"))
    joints = only_clip(z_up(*still(60), tmp_path / "z.bvh", turns_root))
    np.testing.assert_allclose(joints, reference, rtol=0, atol=1e-5)


def test_somebody_who_lies_does_not_change_the_axes(tmp_path):
    joints = only_clip(write_still(tmp_path / "a.bvh", Hips=(0, 90, 0)))  # on the belly: head along +z of the file
    assert np.ptp(joints[0, :, 2]) < 0.3
    assert joints[0, JOINT["head"], 1] < joints[0, JOINT["left_ankle"], 1] - 1.3


def test_a_skeleton_at_rest_in_no_pose_is_measured_in_motion(tmp_path):
    # as LAFAN1 has it: every bone lies along x at rest, and only rotations make a body of it
    rig = tuple((name, parent, (float(np.linalg.norm(offset)) or 0.0, 0, 0)) for name, parent, offset in RIG)
    at, turned = {}, {}
    for name, parent, _ in RIG:
        at[name] = np.zeros(3) if parent is None else at[parent] + np.array(next(o for n, _, o in RIG if n == name))
    for name, _, _ in reversed(RIG):  # a joint turns so that x points to its first child
        children = [n for n, p, _ in RIG if p == name]
        bone = at[children[0]] - at[name] if children else np.array([1.0, 0, 0])
        turned[name] = Rotation.align_vectors([bone], [[1.0, 0, 0]])[0] if name != "Head" else Rotation.identity()
    chain = [n for n in NAMES if n not in ("Hips", "Spine")]  # those have several children: leave the bones apart
    rig = tuple((n, p, o if n in chain and p not in ("Hips", "Spine") else next(x for m, _, x in RIG if m == n))
                for n, p, o in rig)  # fmt: skip
    angles = {}
    for name, parent, _ in RIG:
        above = turned[parent] if parent and parent in chain else Rotation.identity()
        own = turned[name] if name in chain else Rotation.identity()
        angles[name] = np.tile((above.inv() * own).as_euler("ZXY", degrees=True), (60, 1))
    root, _ = still(60)
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), rig=rig))
    assert rigs.up_axis(takes.rest_positions(take := read_bvh(path), measured(take))[None]) is None
    reference = only_clip(write_still(tmp_path / "y.bvh"))
    np.testing.assert_allclose(only_clip(path), reference, rtol=0, atol=1e-5)


def measured(take) -> list[int]:
    body = rigs.find_body(take.joints)
    return [*(body.limbs[name] for name in rigs.MEASURED), body.thorax, body.head]


def renamed(words: str, prefix: str = "", side: str = "{side}{part}"):
    """A renaming of RIG: ``words`` for up-leg, leg, foot, arm, forearm, hand; ``side`` puts Left or L to them."""
    table = dict(
        zip(("UpLeg", "Leg", "Foot", "Arm", "ForeArm", "Hand", "Shoulder"), [*words.split(), "Collar"], strict=True)
    )

    def rename(name):
        match = re.fullmatch("(Left|Right)(.+)", name)
        if match:
            sides = {"side": match[1], "letter": match[1][0], "small": match[1][0].lower()}
            name = side.format(part=table[match[2]], **sides)
        return prefix + name

    return rename


@pytest.mark.parametrize(
    "rename",
    [
        renamed("UpLeg Leg Foot Arm ForeArm Hand", "mixamorig:"),
        renamed("UpLeg Leg Foot Arm ForeArm Hand", "Bob:"),
        renamed("UpLeg Leg Foot Arm ForeArm Hand", "Character1_"),
        renamed("Hip Knee Ankle Shoulder Elbow Wrist"),
        renamed("Thigh Shin Foot Shldr ForeArm Hand", "", "{small}{part}"),
        renamed("ThighBend Shin Foot ShldrBend ForearmBend Hand", "", "{small}{part}"),
        renamed("Thigh Calf Foot UpperArm Forearm Hand", "Bip01 ", "{letter} {part}"),
        renamed("Thigh Calf Foot UpperArm Forearm Hand", "ValveBiped.Bip01_", "{letter}_{part}"),
        renamed("thigh calf foot upperarm lowerarm hand", "", "{part}_{small}"),
        renamed("Thigh Shin Foot Arm ForeArm Hand"),
        renamed("UpperLeg LowerLeg Foot UpperArm ForeArm Hand"),
        renamed("UpperLeg LowerLeg Foot UpperArm LowerArm Hand", "J_Bip_", "{letter}_{part}"),
        renamed("thigh shin foot upper_arm forearm hand", "DEF-", "{part}.{letter}"),
        renamed("Hip Knee Ankle Shoulder Elbow Wrist", "m_avg_", "{letter}_{part}"),
        renamed("Thigh Shin Foot UArm FArm Hand", "Skeleton_", "{letter}{part}"),
    ],
)
def test_usual_joint_names_are_known(tmp_path, rename):
    arm = {"LeftArm": (40, 10, 0), "RightForeArm": (0, 0, 30)}
    reference = only_clip(write_still(tmp_path / "a.bvh", **arm))
    np.testing.assert_array_equal(only_clip(write_still(tmp_path / "b.bvh", rename=rename, **arm)), reference)


def test_an_unknown_skeleton_is_described(tmp_path):
    write_still(tmp_path / "a.bvh", rename=lambda name: name.replace("Hand", "Claw").replace("Neck", "Stalk"))
    message = (
        "no joint for spine, thorax, left_shoulder, .*right_wrist; its joints are Hips, LeftUpLeg, .*Stalk.*RightClaw"
    )
    with pytest.raises(ValueError, match=message):
        read_recording(tmp_path / "a.bvh")


def test_copies_of_cmu_get_their_chest_back(tmp_path):
    # neck and collar bones sit on Spine1; a bone as long as the one below belongs between
    rig = [
        ("Hips", None, (0, 0, 0)), ("LowerBack", "Hips", (0, 0, 0)), ("Spine", "LowerBack", (0, 0.11, 0)),
        ("Spine1", "Spine", (0, 0.12, 0)), ("Neck", "Spine1", (0, 0, 0)), ("Head", "Neck", (0, 0.1, 0)),
    ]  # fmt: skip
    for side, x in (("Left", 1), ("Right", -1)):
        rig += [
            (f"{side[0]}HipJoint", "Hips", (0, 0, 0)), (f"{side}UpLeg", f"{side[0]}HipJoint", (x * 0.1, -0.05, 0)),
            (f"{side}Leg", f"{side}UpLeg", (0, -0.42, 0)), (f"{side}Foot", f"{side}Leg", (0, -0.4, 0)),
            (f"{side}Shoulder", "Spine1", (0, 0, 0)), (f"{side}Arm", f"{side}Shoulder", (x * 0.17, 0.05, 0)),
            (f"{side}ForeArm", f"{side}Arm", (x * 0.28, 0, 0)), (f"{side}Hand", f"{side}ForeArm", (x * 0.2, 0, 0)),
        ]  # fmt: skip
    channels = {name: ["Zrotation", "Yrotation", "Xrotation"] for name, _, _ in rig}
    (tmp_path / "02_77.bvh").write_text(bvh_text(channels, np.zeros((60, 3 * len(rig))), rig=tuple(rig)))
    recording = read_recording(tmp_path / "02_77.bvh")
    joints = recording.clips["02_77"]
    assert recording.subject == "cmu_02"
    np.testing.assert_allclose(joints[0, JOINT["thorax"]], (0, 0, 0.35), rtol=0, atol=1e-6)
    np.testing.assert_allclose(joints[0, JOINT["left_shoulder"]], (0.17, 0, 0.4), rtol=0, atol=1e-6)
    np.testing.assert_allclose(joints[0, JOINT["left_wrist"]], (0.17 + 0.28 + 1.207 * 0.2, 0, 0.4), rtol=0, atol=1e-6)
    np.testing.assert_allclose(joints[0, JOINT["nose"]], (0, -0.055, 0.47), rtol=0, atol=1e-6)
    np.testing.assert_allclose(joints[0, JOINT["head"]], (0, 0, 0.45 + 0.075 + 0.05), rtol=0, atol=1e-6)


def assert_faces_ahead(joints: np.ndarray):
    """The nose is before the thorax as seen from the hips, in every frame, and left is left of it."""
    left = joints[:, JOINT["left_hip"]] - joints[:, JOINT["right_hip"]]
    up = joints[:, JOINT["thorax"]] - joints[:, JOINT["pelvis"]]
    ahead = np.cross(left, up)
    assert (((joints[:, JOINT["nose"]] - joints[:, JOINT["thorax"]]) * ahead).sum(-1) > 0).all()
    shoulders = joints[:, JOINT["left_shoulder"]] - joints[:, JOINT["right_shoulder"]]
    assert ((shoulders * left).sum(-1) > 0).all()


def test_people_face_ahead_wherever_they_turn(tmp_path):
    frames = 200
    root, angles = still(frames)
    angles["Hips"] = np.stack([np.zeros(frames), np.full(frames, 10.0), np.linspace(0, 360, frames)], axis=1)
    (tmp_path / "a.bvh").write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "YXZ")), rows_of(root, angles)))
    joints = only_clip(tmp_path / "a.bvh")
    assert_faces_ahead(joints)


# ---------------------------------------------------------------------------------------------- Acclaim

INCH = 0.0254
# Bones: (name, parent, direction, length in metres, axis in degrees, dof); facing z, y up, a T-pose.
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
    for number, (name, _, direction, metres, axes, dof) in enumerate(BONES, 1):
        values = dict(zip("XYZ", axes, strict=True))
        lines += ["  begin", f"     id {number}", f"     name {name}",
                  f"     direction {' '.join(f'{x:.9g}' for x in np.array(direction) / np.linalg.norm(direction))}",
                  f"     length {metres / INCH * length:.9g}",
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


def scipy_bones(values, unit: float) -> tuple[dict[str, np.ndarray], dict[str, Rotation]]:
    """Ends (F, 3) of the bones in metres, and their rotations: C M C^-1 below the parent's, M by fixed axes x, y, z."""
    ends = {"root": values["root"][:, :3] * unit}
    turned = {"root": Rotation.from_euler("xyz", values["root"][:, 3:], degrees=True)}
    todo = list(BONES)
    while todo:
        name, parent, direction, metres, axes, dof = todo.pop(0)
        if parent not in ends:
            todo.append((name, parent, direction, metres, axes, dof))
            continue
        own = Rotation.identity()
        if dof:
            angles = np.zeros((len(values["root"]), 3))
            angles[:, ["xyz".index(d[1]) for d in dof.split()]] = values[name]
            basis = Rotation.from_euler("xyz", axes, degrees=True)
            own = basis * Rotation.from_euler("xyz", angles, degrees=True) * basis.inv()
        turned[name] = turned[parent] * own
        ends[name] = ends[parent] + turned[name].apply(np.array(direction) / np.linalg.norm(direction) * metres)
    return ends, turned


def write_amc(folder: Path, name: str = "77_01", frames: int = 120, size: float = 30.0, header=()) -> dict:
    """Write a motion and its skeleton; return the values."""
    folder.mkdir(parents=True, exist_ok=True)
    values = random_values(np.random.default_rng(0), frames, size)
    (folder / f"{name.partition('_')[0]}.asf").write_text(asf_text())
    (folder / f"{name}.amc").write_text(amc_text(values, (":FULLY-SPECIFIED", ":DEGREES", *header)))
    return values


def test_acclaim_motion_is_what_scipy_computes(tmp_path):
    values = write_amc(tmp_path, frames=120, header=(":SAMPLES-PER-SECOND 50",))  # every frame as it is
    joints = only_clip(tmp_path / "77_01.amc")
    ends, turned = scipy_bones(values, INCH / 0.45)
    for side, letter in (("left", "l"), ("right", "r")):
        for part, bone in (
            ("hip", "hipjoint"),
            ("knee", "femur"),
            ("ankle", "tibia"),
            ("shoulder", "clavicle"),
            ("elbow", "humerus"),
        ):
            np.testing.assert_allclose(
                joints[:, JOINT[f"{side}_{part}"]], to_ours(ends[letter + bone]), rtol=0, atol=1e-5
            )
        wrist = 0.6 * ends[f"{letter}radius"] + 0.4 * ends[f"{letter}wrist"]
        np.testing.assert_allclose(joints[:, JOINT[f"{side}_wrist"]], to_ours(wrist), rtol=0, atol=1e-5)
    np.testing.assert_allclose(joints[:, JOINT["thorax"]], to_ours(ends["thorax"]), rtol=0, atol=1e-5)
    nose = ends["upperneck"] + turned["head"].apply([0, 0.02, 0.055])
    head = 0.25 * ends["upperneck"] + 0.75 * ends["head"] + turned["head"].apply([0, 0.05, 0])
    np.testing.assert_allclose(joints[:, JOINT["nose"]], to_ours(nose), rtol=0, atol=1e-5)
    np.testing.assert_allclose(joints[:, JOINT["head"]], to_ours(head), rtol=0, atol=1e-5)


def test_people_of_acclaim_files_face_ahead(tmp_path):
    write_amc(tmp_path, size=5)
    assert_faces_ahead(only_clip(tmp_path / "77_01.amc"))


def test_acclaim_units_angles_and_orders(tmp_path):
    # the same motion in inches, in radians, with the root's channels and a bone's axes in another order
    values = write_amc(tmp_path / "a", size=20)
    reference = only_clip(tmp_path / "a" / "77_01.amc")

    inches = {**values, "root": np.concatenate([values["root"][:, :3] / 0.45, values["root"][:, 3:]], axis=1)}
    radians = {name: np.radians(rows) for name, rows in values.items()}
    radians["root"][:, :3] = values["root"][:, :3]
    swapped = {**values, "root": values["root"][:, [3, 4, 5, 2, 0, 1]]}
    variants = (
        (asf_text(length=1.0), amc_text(inches)),
        (asf_text(angle="rad"), amc_text(radians, (":FULLY-SPECIFIED", ":RADIANS"))),
        (asf_text(angle="rad"), amc_text(radians, (":FULLY-SPECIFIED",))),
        (asf_text(root_order="RX RY RZ TZ TX TY"), amc_text(swapped)),
    )
    for number, (asf, amc) in enumerate(variants):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "only_one.asf").write_text(asf)
        (folder / "77_01.amc").write_text(amc)
        np.testing.assert_allclose(only_clip(folder / "77_01.amc"), reference, rtol=0, atol=1e-5)


def test_hands_may_be_missing(tmp_path):
    values = write_amc(tmp_path)
    reference = only_clip(tmp_path / "77_01.amc")
    asf = re.sub(r"  begin\n     id \d+\n     name [lr]hand\n.*?  end\n", "", asf_text(), flags=re.DOTALL)
    (tmp_path / "77.asf").write_text(re.sub(r"    [lr]wrist [lr]hand\n", "", asf))
    (tmp_path / "77_01.amc").write_text(amc_text({n: rows for n, rows in values.items() if not n.endswith("hand")}))
    np.testing.assert_array_equal(only_clip(tmp_path / "77_01.amc"), reference)


def test_the_order_of_an_axis_is_heeded():
    from lifter.training.acclaim import parse_axes

    for order in ORDERS:
        expected = Rotation.from_euler(
            order.lower(), [10, 20, 30], degrees=True
        ).as_matrix()  # small letters: fixed axes
        np.testing.assert_allclose(parse_axes(["10", "20", "30", order], True), expected, rtol=0, atol=1e-12)


def test_acclaim_frame_rates(tmp_path):
    # 120 by default, 60 for the trials that CMU lists, or what the file says
    for name, header, seconds in (("77_01", (), 2.0), ("60_01", (), 4.0), ("77_02", (":SAMPLES-PER-SECOND 80",), 3.0)):
        values = random_values(np.random.default_rng(0), 240, 5)
        (tmp_path / f"{name.partition('_')[0]}.asf").write_text(asf_text())
        (tmp_path / f"{name}.amc").write_text(amc_text(values, (":FULLY-SPECIFIED", ":DEGREES", *header)))
        assert len(only_clip(tmp_path / f"{name}.amc")) == pytest.approx(seconds * 50, abs=1)


def test_the_skeleton_of_an_amc_is_found_or_missed(tmp_path):
    write_amc(tmp_path)
    amc = tmp_path / "77_01.amc"
    reference = only_clip(amc)
    (tmp_path / "other.asf").write_text("nonsense")
    np.testing.assert_array_equal(only_clip(amc), reference)  # 77.asf
    (tmp_path / "77.asf").rename(tmp_path / "77_01.asf")
    np.testing.assert_array_equal(only_clip(amc), reference)
    (tmp_path / "77_01.asf").rename(tmp_path / "third.asf")
    with pytest.raises(FileNotFoundError, match=r"among the 2 .asf files of its folder; expected 77_01.asf or 77.asf"):
        read_recording(amc)
    (tmp_path / "other.asf").unlink()
    np.testing.assert_array_equal(only_clip(amc), reference)  # the only one


# ---------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("fps", [24.0, 29.97, 50.0, 60.0, 100.0, 120.0, 240.0])
def test_a_sine_is_the_same_at_every_frame_rate(tmp_path, fps):
    # the root goes to and fro by 0.3 m at 0.8 Hz for 3 s
    frames = int(3 * fps) + 1
    root, angles = still(frames)
    root[:, 0] = 0.3 * np.sin(2 * np.pi * 0.8 * np.arange(frames) / fps)
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), fps))
    joints = only_clip(path)
    assert len(joints) == pytest.approx(150, abs=1)
    expected = 0.3 * np.sin(2 * np.pi * 0.8 * np.arange(len(joints)) / 50)
    # the mean over three frames at 100 fps lowers the top by (2 pi 0.8 / 100)^2 / 3; the curve at 24 fps misses by less
    np.testing.assert_allclose(joints[:, JOINT["pelvis"], 0], expected, rtol=0, atol=0.3 * (2 * np.pi * 0.8 / 100) ** 2)
    bones = mocap_files.bone_lengths(joints)
    np.testing.assert_allclose(bones, np.tile(bones[0], (len(bones), 1)), rtol=0, atol=1e-5)


def test_bones_keep_their_length_between_frames(tmp_path):
    # an arm that turns by 50 degrees from frame to frame: a straight line between would cut 9 % off
    frames = 40
    root, angles = still(frames)
    angles["LeftArm"][:, 0] = 50.0 * np.arange(frames)
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), 20.0))
    bones = mocap_files.bone_lengths(only_clip(path))
    np.testing.assert_allclose(bones, np.tile(bones[0], (len(bones), 1)), rtol=0, atol=1e-5)


def test_jumps_are_cut_out_with_their_neighbours(tmp_path):
    # 60 frames, a jump of 1 m in 20 ms between frames 59 and 60, 30 frames (too short), another one, 80 frames
    root, angles = still(170)
    root[60:, 0] += 1.0
    root[90:, 0] += 1.0
    path = tmp_path / "walk.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles)))
    clips = read_recording(path).clips
    assert {name: len(clip) for name, clip in clips.items()} == {"walk#0": 58, "walk#1": 78}
    assert clips["walk#1"][:, JOINT["pelvis"], 0] == pytest.approx(np.full(78, 2.0))


def test_a_first_frame_in_t_pose_is_dropped(tmp_path):
    # copies of the CMU database begin with one
    root, angles = still(240, LeftArm=(-70, 0, 0), RightArm=(70, 0, 0))
    for rows in (angles["LeftArm"], angles["RightArm"]):
        rows[0] = 0
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), 120.0))
    joints = only_clip(path)
    np.testing.assert_allclose(joints, np.broadcast_to(joints[-1], joints.shape), rtol=0, atol=1e-5)


def test_what_is_too_short_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"in its 0.4 s there are no 0.8 s without joints over 16 m/s"):
        read_recording(write_still(tmp_path / "a.bvh", frames=20))


# ---------------------------------------------------------------------------------------------- malformed files


def change(text: str, old: str, new: str, count: int = 1) -> str:
    assert old in text
    return text.replace(old, new, count)


def good_bvh(frames: int = 60) -> str:
    root, angles = still(frames)
    return bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles))


DEEP = (
    "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n"
    + "JOINT b\n{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation\n" * 200
)
WIDE = (
    "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n"
    + "JOINT b\n{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation\n}\n" * 600
)
BAD_BVH = {
    "empty": (lambda _: "", "ends before MOTION"),
    "garbage": (lambda _: random.Random(0).randbytes(5000).decode("latin-1"), "expected HIERARCHY"),
    "one endless line": (lambda _: "HIERARCHY " + "x" * 2**22, "no line MOTION"),
    "no MOTION": (lambda t: t.partition("MOTION")[0], "ends before MOTION"),
    "ends in the skeleton": (lambda t: t[: t.index("JOINT LeftLeg")] + "\nMOTION\n", "ends inside a joint"),
    "a brace too many": (lambda t: change(t, "MOTION", "}\nMOTION"), "closes a brace"),
    "two roots": (lambda t: change(t, "MOTION", "ROOT x\n{\nOFFSET 0 0 0\n}\nMOTION"), "expected one ROOT"),
    "offset of two": (lambda t: change(t, "OFFSET 0.1 -0.05 0", "OFFSET 0.1 -0.05"), "OFFSET of 'LeftUpLeg' is"),
    "offset NaN": (lambda t: change(t, "OFFSET 0.1 -0.05 0", "OFFSET 0.1 nan 0"), "expected 3 finite numbers"),
    "unknown channel": (lambda t: change(t, "Zrotation", "Wrotation"), "CHANNELS of 'Hips'"),
    "channel twice": (lambda t: change(t, "Zrotation", "Xrotation"), "CHANNELS of 'Hips'"),
    "too many channels": (lambda t: change(t, "CHANNELS 3", "CHANNELS 999999999"), "CHANNELS of"),
    "joint in an end": (lambda t: change(t, "0 0.1 0\n}", "0 0.1 0\nJOINT x\n{\n}\n}"), "inside an End"),
    "no frame count": (lambda t: change(t, "Frames: 60", ""), "expected 'Frames:'"),
    "frames not a number": (lambda t: change(t, "Frames: 60", "Frames: many"), "Frames: is 'many'"),
    "no frames": (lambda t: change(t, "Frames: 60", "Frames: 0"), "expected 1 to 2000000"),
    "billions of frames": (lambda t: change(t, "Frames: 60", "Frames: 9e5000"), "Frames: is"),
    "frame time 0": (lambda t: re.sub("Frame Time: .*", "Frame Time: 0", t), "expected 0.001 to 0.1"),
    "cut short": (lambda t: t[: int(len(t) * 0.7)].rpartition("\n")[0] + "\n", "expected 60 as Frames: says"),
    "cut in a row": (lambda t: t[: int(len(t) * 0.7)], "no table of 57 numbers per frame"),
    "more rows": (lambda t: t + t.splitlines()[-1] + "\n", "more rows of numbers, expected 60"),
    "no rows": (lambda t: t[: t.index("0 0.87")], "only 0 rows"),
    "a channel less": (lambda t: re.sub(r"(?m)^(0 0.87.*) \S+$", r"\1", t), "a frame has 56 numbers, expected 57"),
    "a word": (lambda t: t[:-20] + " eval(1) " + t[-18:], "no table of"),
    "NaN": (lambda t: change(t, "\n0 0.87 0 ", "\n0 nan 0 "), "frame 1 has values that are no usable numbers"),
    "infinite": (lambda t: t.rstrip()[:-1] + "inf\n", "frame 60 has values"),
    "huge": (lambda t: t.rstrip()[:-1] + "1e300\n", "frame 60 has values"),
    "too deep": (lambda _: DEEP + "}" * 201 + "\nMOTION\n", "over 512 joints or 128 levels"),
    "too many joints": (lambda _: WIDE + "}\nMOTION\n", "over 512 joints"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BVH)
def test_malformed_bvh_files_say_what_is_wrong(tmp_path, name):
    spoil, message = BAD_BVH[name]
    (tmp_path / "a.bvh").write_text(spoil(good_bvh()), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_recording(tmp_path / "a.bvh")


def test_harmless_habits_of_other_programs_are_read(tmp_path):
    reference = only_clip(write_still(tmp_path / "a.bvh"))
    text = (tmp_path / "a.bvh").read_text()
    text = text.replace("\n{", " {").replace("OFFSET", "\t\tOffset  ").replace("rotation", "ROTATION")
    text = text.replace("Frames: 60", "\nFrames:\t60").replace("\n", " \r\n")
    (tmp_path / "b.bvh").write_bytes(b"\xef\xbb\xbf" + text.encode())
    np.testing.assert_array_equal(only_clip(tmp_path / "b.bvh"), reference)


def test_files_beyond_the_size_limit_are_not_read(tmp_path):
    with write_still(tmp_path / "a.bvh").open("r+b") as file:
        file.truncate(takes.MAX_BYTES + 2**20)  # sparse: takes no space
    with pytest.raises(ValueError, match="it has 513 MB, expected at most 512"):
        read_recording(tmp_path / "a.bvh")


BAD_ACCLAIM = {
    "empty skeleton": (lambda s, m: ("", m), "77.asf: no section :root"),
    "garbage skeleton": (lambda s, m: (random.Random(0).randbytes(5000).decode("latin-1"), m), "77.asf: no section"),
    "endless skeleton": (lambda s, m: (s + "x\n" * 30_000, m), "over 20000 lines"),
    "no hierarchy": (lambda s, m: (s.partition(":hierarchy")[0], m), "no section :hierarchy"),
    "skeleton cut short": (lambda s, m: (s[: s.index("name head")] + "\n:hierarchy\n", m), "ends inside a begin"),
    "bone twice": (lambda s, m: (change(s, "name ltibia", "name lfemur"), m), "no name of its own"),
    "bad length": (lambda s, m: (re.sub(r"length 7\.44\S*", "length nan", s), m), "length of"),
    "no direction": (lambda s, m: (re.sub(r"direction 0 1 0\b.*", "direction 0 0 0", s), m), "direction of 'head'"),
    "unit 0": (lambda s, m: (change(s, "length 0.45", "length 0"), m), "unit of length is 0"),
    "wrong dof": (lambda s, m: (change(s, "dof rx ry rz", "dof rx l rz"), m), "expected some of rx ry rz"),
    "wrong axis": (lambda s, m: (change(s, "  XYZ", "  XXY"), m), "order of an axis is 'xxy'"),
    "circle": (lambda s, m: (change(s, "root lhipjoint", "lfoot lhipjoint\nroot"), m), "in a circle): lhipjoint"),
    "two parents": (lambda s, m: (change(s, "lhipjoint lfemur", "lhipjoint lfemur\nroot lfemur"), m), "two parents"),
    "unknown bone": (lambda s, m: (change(s, "lhipjoint lfemur", "lhipjoint lfemur tail"), m), "'tail' is no bone"),
    "of giants": (lambda s, m: (change(s, "length 0.45", "length 0.045"), m), "leg from hip to ankle"),
    "empty motion": (lambda s, m: (s, ""), "it has no frames"),
    "garbage motion": (lambda s, m: (s, random.Random(0).randbytes(5000).decode("latin-1")), "FULLY-SPECIFIED"),
    "no header": (lambda s, m: (s, change(m, ":FULLY-SPECIFIED", "")), "does not say :FULLY-SPECIFIED"),
    "no frame number": (lambda s, m: (s, change(m, "\n1\n", "\n")), "expected a frame number"),
    "motion cut short": (lambda s, m: (s, m[: m.rindex("rradius")]), "frame 60 has not the bones"),
    "value missing": (lambda s, m: (s, re.sub(r"\nlfemur (\S+ \S+) .*", r"\nlfemur \1", m)), "2 values of 'lfemur'"),
    "bone missing": (lambda s, m: (s, re.sub(r"\nhead .*", "", m)), "missing: head"),
    "unknown bone moves": (lambda s, m: (s, m.replace("\nhead ", "\ntail ")), "'tail', expected no such bone"),
    "NaN": (lambda s, m: (s, re.sub(r"(?m)^ltibia \S+$", "ltibia nan", m)), "frame 1 has values"),
    "a word": (lambda s, m: (s, re.sub(r"(?m)^ltibia \S+$", "ltibia eval(1)", m)), "frame 1: could not convert"),
    "rate 0": (lambda s, m: (s, change(m, ":DEGREES", ":DEGREES\n:SAMPLES-PER-SECOND 0")), "expected 10 to 1000"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ACCLAIM)
def test_malformed_acclaim_files_say_what_is_wrong(tmp_path, name):
    spoil, message = BAD_ACCLAIM[name]
    asf, amc = spoil(asf_text(), amc_text(random_values(np.random.default_rng(0), 60)))
    (tmp_path / "77.asf").write_text(asf, encoding="utf-8")
    (tmp_path / "77_01.amc").write_text(amc, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_recording(tmp_path / "77_01.amc")


def spoiled(text: str, rng: random.Random) -> str:
    """The text with a few pieces taken out, doubled or replaced."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(text))
        end = start + rng.choice((1, 3, 30, 300))
        new = rng.choice(
            ("", text[start:end] * 2, "{", "}", "\n", " 1 ", "begin\n", "end\n", ":root\n", "-1e9", "\0", ":")
        )
        text = text[:start] + new + text[end:]
    return text


def test_whatever_a_file_holds_the_error_is_a_value_error(tmp_path):
    rng = random.Random(1)
    asf, amc = asf_text(), amc_text(random_values(np.random.default_rng(0), 45))
    folder = tmp_path / "acclaim"
    folder.mkdir()
    for _ in range(150):
        (folder / "a.bvh").write_text(spoiled(good_bvh(45), rng), newline="")
        (folder / "77.asf").write_text(spoiled(asf, rng) if rng.random() < 0.7 else asf, newline="")
        (folder / "77_01.amc").write_text(spoiled(amc, rng) if rng.random() < 0.5 else amc, newline="")
        for name in ("a.bvh", "77_01.amc"):
            try:
                clips = read_recording(folder / name).clips
            except ValueError as error:
                assert str(error)
            else:
                assert all(np.isfinite(clip).all() for clip in clips.values())


# ---------------------------------------------------------------------------------------------- folders and training


def test_one_bad_file_does_not_cost_the_others(tmp_path):
    for name in ("a", "b"):
        write_still(tmp_path / "dance" / f"{name}.BVH")
    (tmp_path / "dance" / "c.bvh").write_text("nonsense")
    (tmp_path / "d.amc").write_text(":FULLY-SPECIFIED\n1\nroot 0 0 0 0 0 0\n")
    (tmp_path / "e.npz").write_bytes(b"no zip")
    lines = []
    libraries = [load_motion(tmp_path, "train", lines.append), load_motion(tmp_path, "validation", lines.append)]
    assert {name for x in libraries for name in x.names} == {"dance/a.bvh:a", "dance/b.bvh:b"}
    assert len(lines) == 6
    for line, (name, reason) in zip(
        lines, (("d.amc", "no skeleton"), ("c.bvh", "HIERARCHY"), ("e.npz", "no npz")), strict=False
    ):
        assert any(name in x and reason in x and x.startswith("left out ") for x in lines), line


def test_a_folder_of_bad_files_gives_the_reasons(tmp_path):
    (tmp_path / "a.bvh").write_text("nonsense")
    (tmp_path / "b.amc").write_text("nonsense")
    with pytest.raises(
        ValueError, match=r"(?s)no motion below .* can be read:.*a.bvh: .*HIERARCHY.*b.amc: no skeleton"
    ):
        load_motion(tmp_path, "train")


def test_one_own_file_of_ten_is_held_out_always_the_same(tmp_path):
    for i in range(20):
        write_still(tmp_path / f"{i}.bvh", frames=45)
    train, held_out = (load_motion(tmp_path, split) for split in ("train", "validation"))
    assert (len(train.names), len(held_out.names)) == (18, 2)
    assert load_motion(tmp_path, "validation").names == held_out.names


def test_nothing_is_held_out_of_a_single_file(tmp_path):
    write_still(tmp_path / "a.bvh")
    assert load_motion(tmp_path, "train").names == ("a.bvh:a",)
    with pytest.raises(FileNotFoundError, match=r"no validation motion.*two files"):
        load_motion(tmp_path, "validation")


def test_known_subjects_keep_their_split(tmp_path):
    # subject 02 of the CMU database is kept for testing, 03 for validation: so none of the own files is held out
    for name in ("02_01", "03_01"):
        write_amc(tmp_path, name)
    for name in ("02_01", "mine", "mine too"):
        write_still(tmp_path / f"{name}.bvh")  # not CMU's skeleton: the number means nothing
    names = {split: load_motion(tmp_path, split).names for split in ("train", "validation", "unseen")}
    assert names["train"] == ("02_01.bvh:02_01", "mine too.bvh:mine too", "mine.bvh:mine")
    assert names["validation"] == ("cmu_03:03_01",)
    assert names["unseen"] == ("cmu_02:02_01",)


def test_own_files_are_a_group_of_their_own():
    weights = clip_weights(["a.bvh:a", "b/c.amc:c", "uiprmd_s01:m01"], np.array([400, 100, 1_000_000]))
    assert weights[0] / weights[1] == pytest.approx(2)  # by the root of the length
    assert weights[:2].sum() / weights[2] == pytest.approx(0.25 / 0.33)


@pytest.fixture
def tiny_lifter(monkeypatch) -> str:
    """The name of a registered lifter that trains in seconds."""
    module = SimpleNamespace(build=PoseMamba, TINY=PoseMambaConfig(width=16, depth=5))
    monkeypatch.setitem(sys.modules, "tiny_lifter", module)
    monkeypatch.setitem(LIFTERS, "tiny", LifterSpec("tiny_lifter", "TINY", 243, "for this test"))
    return "tiny"


def test_a_lifter_trains_on_a_bvh_and_an_amc(tmp_path, tiny_lifter):
    write_still(tmp_path / "mocap" / "mine.bvh")
    write_amc(tmp_path / "mocap", frames=240)
    (tmp_path / "mocap" / "broken.bvh").write_text("nonsense")
    lines = []
    train_lifter(
        tmp_path / "mocap", tmp_path / "run", 0.02, tiny_lifter, (), "laptop", "person", None, "cpu", 0, lines.append
    )
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    (left_out,) = [line for line in lines if line.startswith("left out")]
    assert "broken.bvh: it begins with 'nonsense', expected HIERARCHY" in left_out
    assert lines[1].startswith("0.0 minutes of motion, 0.0 held out")  # 1.2 and 2 seconds
