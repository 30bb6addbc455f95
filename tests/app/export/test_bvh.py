"""The skeleton of BVH and GLB: any pose is met by rotations; BVH is read back by the reader of training motion."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from app.export.character.bvh import euler_degrees
from app.export.character.skeleton_rig import JOINTS, PLACES, rig_of
from lifter.skeletons import H36M17, with_rigid_bones
from lifter.training.mocap.bvh import read_bvh
from lifter.training.mocap.takes import place
from tests.people import EARLY, LATE, walkers, with_options

TENTH_MM = 1e-4


def forward(rig):
    """Joints (T, 17, 3) of a rig by forward kinematics."""
    places, turned = {}, {}
    for index, joint in enumerate(JOINTS):
        if joint.parent < 0:
            places[index], turned[index] = rig.root, rig.rotations[:, 0]
            continue
        above = turned[joint.parent]
        places[index] = places[joint.parent] + above @ rig.offsets[index]
        turned[index] = above @ rig.rotations[:, index]
    head = next(i for i, joint in enumerate(JOINTS) if joint.name == "Head")
    places["top"] = places[head] + turned[head] @ rig.ends[head]
    return np.stack([places[PLACES.get(j, "top")] for j in range(17)], axis=1)


directions = arrays(np.float64, (3, 16, 3), elements=st.floats(-1, 1, width=32))


@given(directions)
def test_any_pose_with_rigid_bones_is_met_by_rotations(bones):
    lengths = np.linspace(0.1, 0.5, 17)
    joints = np.zeros((3, 17, 3))
    for child in range(1, 17):
        bone = bones[:, child - 1]
        norm = np.linalg.norm(bone, axis=1, keepdims=True)
        bone = np.where(norm > 1e-3, bone / np.maximum(norm, 1e-3), (0, -1.0, 0))  # -1: half a turn for the spine
        joints[:, child] = joints[:, H36M17.parents[child]] + lengths[child] * bone
    joints = with_rigid_bones(joints)
    rig = rig_of(joints, np.eye(3))
    identity = np.einsum("trij,trkj->trik", rig.rotations, rig.rotations)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-7)
    np.testing.assert_allclose(np.linalg.det(rig.rotations), 1, atol=1e-7)
    np.testing.assert_allclose(forward(rig), joints, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3])
def test_limbs_folded_back_on_themselves_stay_exact(offset):
    joints = np.zeros((1, 17, 3))
    for child in range(1, 17):  # every bone against its rest direction, but for next to nothing
        parent = H36M17.parents[child]
        direction = np.array([offset, 1.0 if parent % 2 else -1.0, -offset])
        joints[:, child] = joints[:, parent] + 0.3 * direction / np.linalg.norm(direction)
    left, right = (H36M17.index(f"{side}_hip") for side in ("left", "right"))
    joints[:, [left, right]] = joints[:, :1] + np.array([0.3, -0.3])[:, None] * (1.0, offset, -offset)
    for child in (right + 1, right + 2, left + 1, left + 2):
        joints[:, child] = joints[:, child - 1] + 0.3 * np.array([offset, 1.0, -offset])
    rig = rig_of(joints, np.eye(3))
    identity = rig.rotations @ rig.rotations.swapaxes(-1, -2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-9)
    np.testing.assert_allclose(forward(rig), joints, atol=1e-6)


def test_joints_in_one_point_still_make_a_rig():
    rig = rig_of(np.zeros((2, 17, 3)), np.eye(3))
    assert np.isfinite(rig.rotations).all()
    np.testing.assert_allclose(forward(rig), 0, atol=1e-12)


def test_a_person_in_the_rest_pose_has_no_rotations(result):
    rig = rig_of(result.world_joints(0, has_rigid_bones=True), np.eye(3))
    still = replace(rig, root=np.zeros((1, 3)), rotations=np.broadcast_to(np.eye(3), (1, len(JOINTS), 3, 3)))
    joints = forward(still)
    at = {name: joints[0, j] for j, name in enumerate(H36M17.names)}
    assert at["left_wrist"][0] > 0.5 > -0.5 > at["right_wrist"][0]  # a T, left along +x
    assert at["head"][1] > 0.6
    assert at["left_ankle"][1] < -0.7
    np.testing.assert_allclose(rig_of(joints, np.eye(3)).rotations, still.rotations, atol=1e-9)


@given(arrays(np.float64, (12, 2, 3), elements=st.floats(-180, 180)))
def test_angles_turn_back_into_the_rotations_without_jumps(angles):
    steps = Rotation.from_euler("ZXY", (angles * 0.1).reshape(-1, 3), degrees=True).as_matrix().reshape(12, 2, 3, 3)
    path = np.stack([np.linalg.multi_dot([np.eye(3), *steps[: t + 1, r]]) for t in range(12) for r in range(2)])
    path = path.reshape(12, 2, 3, 3)  # turns on by up to 31 degrees a frame
    found = euler_degrees(path)
    back = Rotation.from_euler("ZXY", found.reshape(-1, 3), degrees=True).as_matrix().reshape(path.shape)
    np.testing.assert_allclose(back, path, atol=1e-6)
    steady = np.abs(np.abs(found[..., 1]) % 180 - 90) > 45  # far from the pole, where two angles are one
    calm = steady[1:] & steady[:-1]
    assert np.abs(np.diff(found, axis=0))[calm].max(initial=0) < 100


def bvh_joints(path):
    """Joints (F, 17, 3) by the forward kinematics of the reader of training motion, and its take."""
    take = read_bvh(path)
    names = [joint.name for joint in take.joints]
    wanted = [names.index(JOINTS[PLACES[j]].name) if j in PLACES else names.index("Head end") for j in range(17)]
    return place(take, wanted, slice(None))[0], take


@pytest.mark.parametrize("options", [{}, {"up": "z"}, {"up": "z", "is_upright": False}], ids=str)
def test_bvh_spans_the_clip_and_holds_the_nearest_pose_where_nobody_is(result, write, options):
    joints, take = bvh_joints(write("bvh", result, 1, **options))
    expected = with_options(result, **options).world_joints(1, has_rigid_bones=True)
    expected = np.concatenate(
        [np.repeat(expected[:1], LATE, axis=0), expected, np.repeat(expected[-1:], EARLY, axis=0)]
    )
    np.testing.assert_allclose(joints, expected, atol=TENTH_MM)
    assert take.fps == pytest.approx(30.0, abs=1e-5)


def test_bvh_is_a_rigid_skeleton_that_stands_on_its_feet_and_turns_without_jumps(result, write):
    joints, take = bvh_joints(write("bvh", result, 0))
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, list(H36M17.parents[1:])], axis=-1)
    assert np.ptp(lengths, axis=0).max() < 1e-5
    for left, right in H36M17.left_right:
        assert lengths[0, left - 1] == pytest.approx(lengths[0, right - 1], abs=1e-5)
    assert np.median(joints[:, [3, 6], 1].min(axis=1)) == pytest.approx(0.1, abs=0.03)
    floor, hips = take.joints[:2]
    assert (floor.name, len(floor.moves), floor.offset.tolist()) == ("Reference", 3, [0, 0, 0])
    assert (hips.name, len(hips.moves), len(hips.turns)) == ("Hips", 0, 3)
    turns = [column for joint in take.joints for column, _ in joint.turns]
    assert np.degrees(np.abs(np.diff(take.channels[:, turns], axis=0))).max() < 90


@pytest.mark.parametrize("count", [1, 2])
def test_bvh_of_very_few_frames(walker, write, count):
    few = walkers(walker[:count], 1)
    joints, _ = bvh_joints(write("bvh", few, 0))
    np.testing.assert_allclose(joints, few.world_joints(0, has_rigid_bones=True), atol=TENTH_MM)


@pytest.mark.parametrize("up", ["y", "z"])
def test_bvh_rests_in_a_t_pose_with_its_feet_on_the_floor(result, write, up):
    _, take = bvh_joints(write("bvh", result, 0, up=up))
    places = {}
    for index, joint in enumerate(take.joints):
        places[joint.name] = joint.offset + (places[take.joints[joint.parent].name] if index else 0)
    rest = {name: place if up == "y" else place[[0, 2, 1]] * (1, 1, -1) for name, place in places.items()}
    assert min(place[1] for place in rest.values()) == pytest.approx(0, abs=1e-6)
    assert rest["LeftToeBase end"][1] == pytest.approx(0, abs=1e-6)
    assert rest["LeftToeBase end"][2] > rest["LeftFoot"][2] + 0.1  # toes point forward
    for side, sign in (("Left", 1), ("Right", -1)):
        arm = np.diff([rest[f"{side}{bone}"] for bone in ("Arm", "ForeArm", "Hand")], axis=0)
        np.testing.assert_allclose(arm / np.linalg.norm(arm, axis=1, keepdims=True), [[sign, 0, 0]] * 2, atol=1e-5)


def test_bvh_in_centimeters_is_a_hundred_times_as_large(result, write):
    meters, _ = bvh_joints(write("bvh", result, 0))
    centimeters, _ = bvh_joints(write("bvh", result, 0, unit="cm"))
    np.testing.assert_allclose(centimeters, 100 * meters, atol=100 * TENTH_MM)


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60, 24000 / 1001, 30000 / 1001, 60000 / 1001])
def test_bvh_has_exactly_the_rate_that_was_meant(walker, write, rate):
    clip = walkers(walker[:150], 1)
    measured = 149 / round(149 / rate, 3)  # as in a container that counts milliseconds
    clip = replace(clip, video=replace(clip.video, fps=measured, timestamps_s=np.arange(150) / measured))
    text = write("bvh", clip, 0).read_text()
    time = float(text.split("Frame Time:")[1].split()[0])
    assert 1 / time == pytest.approx(rate, rel=1e-12)


def test_toes_do_not_go_through_the_floor(walker):
    joints = walkers(walker[:150], 1).world_joints(0, has_rigid_bones=True)
    toes = {}
    for has_floor in (False, True):
        rig = rig_of(joints, np.eye(3), has_floor=has_floor)
        assert np.abs(forward(rig) - joints).max() < 1e-6
        places, turned = {-1: np.zeros(3)}, {-1: np.eye(3)}
        for index, joint in enumerate(JOINTS):
            above = turned[joint.parent]
            offset = rig.root if joint.parent < 0 else (above @ rig.offsets[index])
            places[index] = places[joint.parent] + offset
            turned[index] = above @ rig.rotations[:, index]
        ends = [places[i] + turned[i] @ rig.ends[i] for i, joint in enumerate(JOINTS) if joint.name.endswith("ToeBase")]
        toes[has_floor] = np.stack(ends)[..., 1]
    assert toes[False].min() < -0.03
    assert toes[True].min() > -1e-6
