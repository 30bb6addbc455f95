"""BVH files: geometry by hand and by SciPy, units, axes, names of joints, malformed files."""

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lifter.training.mocap import rigs, takes
from lifter.training.mocap.bvh import read_bvh
from lifter.training.mocap.library import load_motion
from lifter.training.mocap.recordings import read_recording
from tests.recordings import (
    JOINT,
    LIMBS,
    NAMES,
    ORDERS,
    RIG,
    assert_faces_ahead,
    bvh_text,
    change,
    depth_first,
    good_bvh,
    only_clip,
    rotation_channels,
    rows_of,
    smooth_angles,
    still,
    to_ours,
    write_still,
)

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


@pytest.mark.parametrize("meters", rigs.UNITS_M.values(), ids=rigs.UNITS_M)
def test_units_are_told_by_the_length_of_the_leg(tmp_path, meters):
    joints = only_clip(write_still(tmp_path / "a.bvh", scale=1 / meters))
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


def test_people_face_ahead_wherever_they_turn(tmp_path):
    frames = 200
    root, angles = still(frames)
    angles["Hips"] = np.stack([np.zeros(frames), np.full(frames, 10.0), np.linspace(0, 360, frames)], axis=1)
    (tmp_path / "a.bvh").write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "YXZ")), rows_of(root, angles)))
    joints = only_clip(tmp_path / "a.bvh")
    assert_faces_ahead(joints)


# ---------------------------------------------------------------------------------------------- malformed files

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
