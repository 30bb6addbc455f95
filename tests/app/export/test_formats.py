"""Files for other programs, read back by other readers: pandas, pygltflib, pycocotools, the BVH reader of training."""

from __future__ import annotations

import json
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pandas
import pygltflib
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from pycocotools.coco import COCO
from scipy.spatial.transform import Rotation

from app.export import WRITERS
from app.export.bvh import euler_degrees
from app.export.skeleton_rig import JOINTS, PLACES, rig_of
from app.geometry.gravity import estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.geometry.world import world_joints
from app.options import Options
from app.results import PoseResult, Shot
from lifter.skeletons import COCO17, H36M17, coco17_to_h36m17, with_rigid_bones
from lifter.training.mocap.bvh import read_bvh
from lifter.training.mocap.takes import place

PROVENANCE = {"lifter": {"unit": "m", "window": 243, "fps": 50.0}, "options": {"height_m": None, "fov_degrees": 50.0}}
TENTH_MM = 1e-4
GAP = slice(100, 130)  # of person 1's own frames
LATE = 30


@pytest.fixture(scope="module")
def result(walker, filmed):
    """Two people; the second comes 30 frames later, leaves 27 frames earlier and is lost for 30 in between."""
    first, second = filmed(walker), filmed(walker[:200] * 0.9 + (1.0, 0, -1.0), person_id=1)
    valid = np.ones(200, bool)
    valid[GAP] = False
    frames = np.arange(LATE, LATE + 200)
    late = replace(second.track, frames=frames, observed=valid, valid=valid)
    tracks, poses = [first.track, late], [first.pose, replace(second.pose, frames=frames)]
    poses = [
        estimate_root_trajectory(t, p, first.video, Options(fov_degrees=50.0))
        for t, p in zip(tracks, poses, strict=True)
    ]
    shot = estimate_gravity(Shot(0, len(walker), False), tracks, poses, first.video)
    return PoseResult(first.video, tracks, poses, PROVENANCE, shots=(shot,))


@pytest.fixture(scope="module")
def nobody(result):
    return replace(result, tracks=[], poses=[])


@pytest.fixture
def write(tmp_path):
    def write(name, result, **settings):
        path = tmp_path / f"pose.{name}"
        WRITERS[name].write(result, path, **settings)
        return path

    return write


# ------------------------------------------------------------------------------------------------------ the rig


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
    rig = rig_of(joints, np.eye(3))
    identity = rig.rotations @ rig.rotations.swapaxes(-1, -2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-9)
    np.testing.assert_allclose(forward(rig), joints, atol=1e-6)


def test_joints_in_one_point_still_make_a_rig():
    rig = rig_of(np.zeros((2, 17, 3)), np.eye(3))
    assert np.isfinite(rig.rotations).all()
    np.testing.assert_allclose(forward(rig), 0, atol=1e-12)


def test_a_person_in_the_rest_pose_has_no_rotations(result):
    rig = rig_of(world_joints(result, 0, has_rigid_bones=True), np.eye(3))
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


# ---------------------------------------------------------------------------------------------------------- BVH


def bvh_joints(path):
    """Joints (F, 17, 3) by the forward kinematics of the reader of training motion, and its take."""
    take = read_bvh(path)
    names = [joint.name for joint in take.joints]
    wanted = [names.index(JOINTS[PLACES[j]].name) if j in PLACES else names.index("Head end") for j in range(17)]
    return place(take, wanted, slice(None))[0], take


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("is_upright", [True, False])
def test_bvh_holds_the_joints(result, write, up, is_upright):
    joints, take = bvh_joints(write("bvh", result.only(0), up=up, is_upright=is_upright))
    expected = world_joints(result, 0, up=up, is_upright=is_upright, has_rigid_bones=True)
    np.testing.assert_allclose(joints, expected, atol=TENTH_MM)
    assert take.fps == pytest.approx(30.0, abs=1e-5)


def test_bvh_spans_the_clip_and_holds_the_nearest_pose_where_nobody_is(result, write):
    joints, _ = bvh_joints(write("bvh", result.only(1)))
    assert len(joints) == result.video.num_frames
    expected = world_joints(result, 1, has_rigid_bones=True)
    np.testing.assert_allclose(joints[LATE : LATE + 200], expected, atol=TENTH_MM)
    np.testing.assert_allclose(joints[:LATE], np.repeat(expected[:1], LATE, axis=0), atol=TENTH_MM)
    np.testing.assert_allclose(joints[LATE + 200 :], np.repeat(expected[-1:], 27, axis=0), atol=TENTH_MM)


def test_bvh_bones_are_constant_and_stand_on_their_feet(result, write):
    joints, take = bvh_joints(write("bvh", result.only(0)))
    for child, parent in enumerate(H36M17.parents):
        if parent >= 0:
            assert np.ptp(np.linalg.norm(joints[:, child] - joints[:, parent], axis=1)) < 1e-5
    assert np.median(joints[:, [3, 6], 1].min(axis=1)) == pytest.approx(0.1, abs=0.03)
    (root,) = [joint for joint in take.joints if joint.parent < 0]
    assert (root.name, len(root.moves), len(root.turns)) == ("Hips", 3, 3)


def test_bvh_angles_do_not_jump(result, write):
    take = read_bvh(write("bvh", result.only(0)))
    turns = [column for joint in take.joints for column, _ in joint.turns]
    assert np.degrees(np.abs(np.diff(take.channels[:, turns], axis=0))).max() < 90


@pytest.mark.parametrize("count", [1, 2])
def test_bvh_of_very_few_frames(walker, filmed, write, count):
    one = filmed(walker[:count])
    pose = estimate_root_trajectory(one.track, one.pose, one.video, Options(fov_degrees=50.0))
    few = PoseResult(one.video, [one.track], [pose], PROVENANCE)
    joints, _ = bvh_joints(write("bvh", few))
    np.testing.assert_allclose(joints, world_joints(few, 0, has_rigid_bones=True), atol=TENTH_MM)


# ---------------------------------------------------------------------------------------------------------- GLB


def glb_values(gltf, index):
    accessor = gltf.accessors[index]
    view = gltf.bufferViews[accessor.bufferView]
    columns = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor.type]
    kind = {pygltflib.FLOAT: np.float32, pygltflib.UNSIGNED_SHORT: np.uint16}[accessor.componentType]
    values = np.frombuffer(gltf.binary_blob(), kind, accessor.count * columns, view.byteOffset)
    return values.reshape(accessor.count, columns)


def glb_people(path):
    """Return by person: times (T,), places (T, R, 3) of the joints by the node hierarchy, their names, scale keys."""
    gltf = pygltflib.GLTF2().load(str(path))
    (animation,) = gltf.animations
    keys = {}
    for channel in animation.channels:
        sampler = animation.samplers[channel.sampler]
        values = glb_values(gltf, sampler.input)[:, 0], glb_values(gltf, sampler.output)
        keys[channel.target.node, channel.target.path] = values
    parents = {child: i for i, node in enumerate(gltf.nodes) for child in node.children or []}
    people = {}
    for skin in gltf.skins:
        times = keys[skin.joints[0], "rotation"][0]
        places, turned = {}, {}
        for node in skin.joints:
            above = turned.get(parents[node], np.eye(3))
            moved = keys.get((node, "translation"), (0, np.tile(gltf.nodes[node].translation, (len(times), 1))))[1]
            places[node] = places.get(parents[node], 0) + (above @ moved[..., None])[..., 0]
            turned[node] = above @ Rotation.from_quat(keys[node, "rotation"][1]).as_matrix()
        person = parents[skin.joints[0]]
        names = [gltf.nodes[node].name for node in skin.joints]
        places = np.stack([places[node] for node in skin.joints], axis=1)
        people[gltf.nodes[person].name] = times, places, names, keys.get((person, "scale"))
    return people, gltf


def test_glb_holds_everybodys_joints_at_their_times(result, write):
    people, _ = glb_people(write("glb", result))
    assert list(people) == ["person0", "person1"]
    for index, (times, places, names, _) in enumerate(people.values()):
        track = result.tracks[index]
        np.testing.assert_allclose(times, result.video.timestamps_s[track.frames], atol=1e-6)
        expected = world_joints(result, index, has_rigid_bones=True)
        for joint, rig_joint in PLACES.items():
            found = places[:, names.index(JOINTS[rig_joint].name)]
            np.testing.assert_allclose(found, expected[:, joint], atol=TENTH_MM)


def test_glb_is_y_up_whatever_is_asked(result, write):
    heads = [glb_people(write("glb", result, up=up))[0]["person0"][1][:, :, 1].max() for up in "yz"]
    assert heads[0] == heads[1] > 1.2


def test_glb_hides_people_where_they_are_not(result, write):
    people, _ = glb_people(write("glb", result))
    assert people["person0"][3] is None
    times, scale = people["person1"][3]
    frames = np.rint(times * 30).astype(int).tolist()
    assert frames == [0, LATE, LATE + GAP.start, LATE + GAP.stop, LATE + 200]
    assert scale[:, 0].tolist() == [0, 1, 0, 1, 0]


def test_glb_has_a_skinned_body_in_the_rest_pose(result, write):
    _, gltf = glb_people(write("glb", result))
    for skin, mesh in zip(gltf.skins, gltf.meshes, strict=True):
        bind = glb_values(gltf, skin.inverseBindMatrices).reshape(-1, 4, 4)
        vertices = [glb_values(gltf, part.attributes.POSITION) for part in mesh.primitives]
        height = np.ptp(np.concatenate(vertices)[:, 1])
        assert 1.2 < height < 1.9
        assert np.concatenate(vertices)[:, 1].min() == pytest.approx(0, abs=1e-6)  # stands on the floor
        np.testing.assert_allclose(bind[:, :3, :3], np.broadcast_to(np.eye(3), (len(JOINTS), 3, 3)))
        for part in mesh.primitives:
            weights, bones = (glb_values(gltf, i) for i in (part.attributes.WEIGHTS_0, part.attributes.JOINTS_0))
            np.testing.assert_array_equal(weights.sum(axis=1), 1)
            assert bones.max() < len(JOINTS)
            outwards = glb_values(gltf, part.attributes.NORMAL)
            np.testing.assert_allclose(np.linalg.norm(outwards, axis=1), 1, atol=1e-6)
    assert gltf.asset.extras["unit"] == "m"
    assert gltf.asset.extras["provenance"] == PROVENANCE


def test_glb_quaternions_do_not_change_sign(result, write):
    gltf = pygltflib.GLTF2().load(str(write("glb", result)))
    for channel in gltf.animations[0].channels:
        if channel.target.path == "rotation":
            turns = glb_values(gltf, gltf.animations[0].samplers[channel.sampler].output)
            assert ((turns[1:] * turns[:-1]).sum(axis=1) > 0).all()


def test_glb_of_nobody_is_an_empty_scene(nobody, write):
    gltf = pygltflib.GLTF2().load(str(write("glb", nobody)))
    assert (gltf.nodes, gltf.meshes, gltf.animations) == ([], [], [])


# ----------------------------------------------------------------------------------------------------- CSV, TRC


@pytest.mark.parametrize("up", ["y", "z"])
def test_csv_is_a_tidy_table_of_everybody(result, write, up):
    table = pandas.read_csv(write("csv", result, up=up))
    assert len(table) == 17 * (257 + 200)
    assert table.groupby("person").frame.agg(["min", "max"]).to_numpy().tolist() == [[0, 256], [LATE, LATE + 199]]
    for index, track in enumerate(result.tracks):
        own = table[table.person == track.person_id]
        places = own[["x_m", "y_m", "z_m"]].to_numpy().reshape(-1, 17, 3)
        expected = world_joints(result, index, up=up)
        np.testing.assert_allclose(places[track.valid], expected[track.valid], atol=TENTH_MM)
        assert np.isnan(places[~track.valid]).all()
        assert own.joint.to_numpy().reshape(-1, 17)[0].tolist() == list(H36M17.names)
        np.testing.assert_array_equal(own.valid.to_numpy()[::17] == 1, track.valid)
        np.testing.assert_allclose(own.time_s[::17], result.video.timestamps_s[track.frames], atol=1e-6)
        pixels = own[["u_px", "v_px"]].to_numpy().reshape(-1, 17, 2)[track.valid]
        np.testing.assert_allclose(pixels, coco17_to_h36m17(track.keypoints)[track.valid], atol=0.01)


def test_csv_of_nobody_is_a_header(nobody, write):
    table = pandas.read_csv(write("csv", nobody))
    assert len(table) == 0
    assert "x_m" in table


def test_csv_without_meters_does_not_say_meters(result, write):
    poses = [replace(pose, unit="normalized", root=None) for pose in result.poses]
    lifter = {**PROVENANCE["lifter"], "unit": "normalized"}
    other = replace(result, poses=poses, provenance={**PROVENANCE, "lifter": lifter})
    table = pandas.read_csv(write("csv", other))
    assert "x_normalized" in table
    assert "x_m" not in table


def test_trc_holds_the_markers_and_leaves_gaps_empty(result, write):
    path = write("trc", result.only(1))
    lines = path.read_text().splitlines()
    settings = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    assert {k: settings[k] for k in ("NumFrames", "NumMarkers", "Units")} == {
        "NumFrames": "257", "NumMarkers": "17", "Units": "m",
    }  # fmt: skip
    assert float(settings["DataRate"]) == 30
    assert [name for name in lines[3].split("\t") if name] == ["Frame#", "Time", *H36M17.names]
    assert {row.count("\t") for row in lines[6:]} == {2 + 3 * 17}  # OpenSim wants every cell closed by a tab
    table = pandas.read_csv(path, sep="\t", skiprows=6, header=None, index_col=False, skip_blank_lines=True)
    assert table[0].tolist() == list(range(1, 258))
    np.testing.assert_allclose(table[1], result.video.timestamps_s, atol=1e-6)
    markers = table.iloc[:, 2:53].to_numpy(float).reshape(257, 17, 3)
    track = result.tracks[1]
    shown = np.zeros(257, bool)
    shown[track.frames] = track.valid
    np.testing.assert_allclose(markers[shown], world_joints(result, 1)[track.valid], atol=TENTH_MM)
    assert np.isnan(markers[~shown]).all()


# --------------------------------------------------------------------------------------------------------- COCO


def test_coco_is_read_by_the_coco_tools(result, write, capsys):
    coco = COCO(str(write("coco", result)))
    capsys.readouterr()
    assert len(coco.getImgIds()) == 257
    assert coco.loadCats(1)[0]["keypoints"] == list(COCO17.names)
    assert len(coco.getAnnIds(imgIds=[0])) == 1
    both = coco.loadAnns(coco.getAnnIds(imgIds=[LATE]))
    assert [a["track_id"] for a in both] == [0, 1]
    assert len(coco.getAnnIds(imgIds=[LATE + GAP.start])) == 1  # the second is lost there
    points = np.array(both[1]["keypoints"]).reshape(17, 3)
    np.testing.assert_allclose(points[:, :2], result.tracks[1].keypoints[0], atol=0.005 + 1e-4)
    assert set(points[:, 2]) == {2}
    x, y, width, height = both[1]["bbox"]
    assert (points[:, 0] >= x - 0.01).all()
    assert (points[:, :2] <= np.add((x, y), (width, height)) + 0.02).all()


def test_coco_marks_what_was_not_seen(result, write):
    track = result.tracks[0]
    scores, repaired = track.scores.copy(), track.repaired.copy()
    scores[0, 3], repaired[0, 9] = 0.1, True
    observed = track.observed.copy()
    observed[5] = False
    other = replace(track, scores=scores, repaired=repaired & observed[:, None], observed=observed)
    found = json.loads(write("coco", replace(result.only(0), tracks=[other])).read_text())["annotations"]
    visibility = np.array([a["keypoints"] for a in found]).reshape(-1, 17, 3)[..., 2]
    assert np.flatnonzero(visibility[0] == 1).tolist() == [3, 9]
    assert set(visibility[5]) == {1}
    assert found[0]["keypoint_scores"][3] == pytest.approx(0.1)


def test_rigid_bones_of_the_files_are_the_same_left_and_right(result, write):
    joints, _ = bvh_joints(write("bvh", result.only(0)))
    for left, right in H36M17.left_right:
        lengths = [np.linalg.norm(joints[0, j] - joints[0, H36M17.parents[j]]) for j in (left, right)]
        assert lengths[0] == pytest.approx(lengths[1], abs=1e-5)
    assert np.allclose(with_rigid_bones(joints - joints[:, :1]), joints - joints[:, :1], atol=1e-5)
