"""pose.glb, read back by pygltflib: places by the node hierarchy, the skinned body, who is hidden when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from app.export.character.skeleton_rig import JOINTS, PLACES
from tests.people import EARLY, GAP, LATE, PROVENANCE

TENTH_MM = 1e-4


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
        expected = result.world_joints(index, has_rigid_bones=True)
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
    assert frames == [0, LATE, LATE + GAP.start, LATE + GAP.stop, result.video.num_frames - EARLY]
    assert scale[:, 0].tolist() == [0, 1, 0, 1, 0]


def test_glb_has_a_skinned_body_in_the_rest_pose(result, write):
    _, gltf = glb_people(write("glb", result))
    for skin, mesh in zip(gltf.skins, gltf.meshes, strict=True):
        bind = glb_values(gltf, skin.inverseBindMatrices).reshape(-1, 4, 4)
        vertices = [glb_values(gltf, part.attributes.POSITION) for part in mesh.primitives]
        height = np.ptp(np.concatenate(vertices)[:, 1])
        assert 1.2 < height < 1.9
        assert np.concatenate(vertices)[:, 1].min() == pytest.approx(0, abs=1e-6)  # stands on the floor
        rest = rest_matrices(gltf, skin)
        np.testing.assert_allclose(rest @ bind.swapaxes(1, 2), np.broadcast_to(np.eye(4), bind.shape), atol=1e-6)
        for part in mesh.primitives:
            weights, bones = (glb_values(gltf, i) for i in (part.attributes.WEIGHTS_0, part.attributes.JOINTS_0))
            np.testing.assert_array_equal(weights.sum(axis=1), 1)
            assert bones.max() < len(JOINTS)
            outwards = glb_values(gltf, part.attributes.NORMAL)
            np.testing.assert_allclose(np.linalg.norm(outwards, axis=1), 1, atol=1e-6)
    assert gltf.asset.extras["unit"] == "m"
    assert gltf.asset.extras["provenance"] == PROVENANCE


def rest_matrices(gltf, skin):
    """From every joint's axes (R, 4, 4) to the world in the rest pose."""
    parents = {child: i for i, node in enumerate(gltf.nodes) for child in node.children or []}
    found = {}
    for node in skin.joints:
        own = np.eye(4)
        own[:3, :3] = Rotation.from_quat(gltf.nodes[node].rotation).as_matrix()
        own[:3, 3] = gltf.nodes[node].translation
        found[node] = found.get(parents[node], np.eye(4)) @ own
    return np.stack(list(found.values()))


def test_glb_bones_point_along_their_limbs(result, write):
    _, gltf = glb_people(write("glb", result))
    rest = rest_matrices(gltf, gltf.skins[0])
    at = {joint.name: matrix for joint, matrix in zip(JOINTS, rest, strict=True)}
    pairs = [("Spine", "Spine1"), ("Spine1", "Neck"), ("Neck", "Head")]
    for side in ("Left", "Right"):
        for chain in (("UpLeg", "Leg", "Foot", "ToeBase"), ("Shoulder", "Arm", "ForeArm", "Hand")):
            pairs += [(side + bone, side + child) for bone, child in pairwise(chain)]
    for bone, child in pairs:
        along = at[child][:3, 3] - at[bone][:3, 3]
        np.testing.assert_allclose(at[bone][:3, 1], along / np.linalg.norm(along), atol=1e-6)
    assert at["LeftHand"][0, 3] > 0.5 > -0.5 > at["RightHand"][0, 3]
    assert at["LeftArm"][1, 3] == pytest.approx(at["LeftHand"][1, 3], abs=1e-6)


def test_glb_animation_has_the_name_of_the_clip_and_keys_on_whole_frames(result, write):
    video = replace(
        result.video, path=Path("jump äö.mp4"), fps=29.9985, timestamps_s=result.video.timestamps_s * 1.00005
    )
    people, gltf = glb_people(write("glb", replace(result, video=video)))
    assert gltf.animations[0].name == "jump äö"
    times = people["person0"][0]
    np.testing.assert_allclose(times * 30, np.arange(len(times)), atol=1e-4)
    assert gltf.asset.extras["fps"] == 30


def test_glb_quaternions_do_not_change_sign(result, write):
    gltf = pygltflib.GLTF2().load(str(write("glb", result)))
    for channel in gltf.animations[0].channels:
        if channel.target.path == "rotation":
            turns = glb_values(gltf, gltf.animations[0].samplers[channel.sampler].output)
            assert ((turns[1:] * turns[:-1]).sum(axis=1) > 0).all()


def test_glb_of_nobody_is_an_empty_scene(nobody, write):
    gltf = pygltflib.GLTF2().load(str(write("glb", nobody)))
    assert (gltf.nodes, gltf.meshes, gltf.animations) == ([], [], [])
