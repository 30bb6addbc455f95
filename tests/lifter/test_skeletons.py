"""The two skeletons and the mapping between them."""

import numpy as np
import pytest
import torch

from lifter.skeletons import COCO17, COCO17_TO_H36M17, H36M17, coco17_to_h36m17, with_rigid_bones

SKELETONS = [pytest.param(COCO17, id="COCO17"), pytest.param(H36M17, id="H36M17")]


def points(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 17, 2))


def named(array: np.ndarray, *names: str) -> np.ndarray:
    return np.mean([array[..., COCO17.index(name), :] for name in names], axis=0)


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_parents_form_one_tree(skeleton):
    assert [i for i, parent in enumerate(skeleton.parents) if parent < 0] == [0]
    assert all(parent < child for child, parent in enumerate(skeleton.parents))
    assert len(skeleton.edges) == 16 + len(skeleton.extra_edges)


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_mirrored_is_an_involution_of_named_pairs(skeleton):
    order = skeleton.mirrored
    assert [order[i] for i in order] == list(range(17))
    for joint, other in enumerate(order):
        name = skeleton.names[joint]
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert skeleton.names[other] == swapped


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_mirroring_keeps_the_tree(skeleton):
    order = (*skeleton.mirrored, -1)
    assert [order[skeleton.parents[order[joint]]] for joint in range(17)] == list(skeleton.parents)


def test_published_order_of_h36m():
    assert H36M17.names[:4] == ("pelvis", "right_hip", "right_knee", "right_ankle")
    assert H36M17.names[7:11] == ("spine", "thorax", "nose", "head")
    assert H36M17.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    left = sorted(pair[0] for pair in H36M17.left_right)
    assert left == [4, 5, 6, 11, 12, 13]


def test_an_unknown_joint_is_an_error():
    with pytest.raises(ValueError, match="not in"):
        H36M17.index("tail")


def test_mapping_rows_are_weighted_means():
    assert (COCO17_TO_H36M17 >= 0).all()
    assert (COCO17_TO_H36M17.sum(1) == 1).all()  # weights of 1, 1/2 and 1/4 are exact


@pytest.mark.parametrize("name", [name for name in H36M17.names if name in COCO17.names])
def test_joints_of_both_skeletons_are_copied(name):
    coco = points()
    np.testing.assert_array_equal(coco17_to_h36m17(coco)[:, H36M17.index(name)], named(coco, name))


@pytest.mark.parametrize(
    ("joint", "sources"),
    [
        ("pelvis", ["left_hip", "right_hip"]),
        ("thorax", ["left_shoulder", "right_shoulder"]),
        ("spine", ["left_hip", "right_hip", "left_shoulder", "right_shoulder"]),
        ("head", ["left_eye", "right_eye", "left_ear", "right_ear"]),
    ],
)
def test_joints_between_keypoints(joint, sources):
    coco = points()
    mapped = coco17_to_h36m17(coco)[:, H36M17.index(joint)]
    np.testing.assert_allclose(mapped, named(coco, *sources), rtol=0, atol=1e-12)  # float64


def test_mapping_commutes_with_exchanging_left_and_right():
    coco = points()
    there = coco17_to_h36m17(coco[:, list(COCO17.mirrored)])
    np.testing.assert_allclose(there, coco17_to_h36m17(coco)[:, list(H36M17.mirrored)], rtol=0, atol=1e-12)  # float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_numpy_and_torch_give_equal_numbers(dtype, channels):
    coco = np.random.default_rng(0).normal(size=(2, 5, 17, channels)).astype(dtype)
    from_numpy, from_torch = coco17_to_h36m17(coco), coco17_to_h36m17(torch.from_numpy(coco))
    assert from_numpy.dtype == from_torch.numpy().dtype == dtype
    # sums of up to four products may be taken in another order
    np.testing.assert_allclose(from_torch.numpy(), from_numpy, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("shape", [(26, 2), (5, 16, 2), (17,)])
def test_another_skeleton_is_refused(shape):
    with pytest.raises(ValueError, match=r"keypoints must have shape \(..., 17, C\) in COCO-17 order"):
        coco17_to_h36m17(np.zeros(shape))


def test_rigid_bones_are_constant_symmetric_and_point_as_before(rng):
    joints = rng.normal(size=(30, 17, 3))
    left, right = (H36M17.index(f"{side}_hip") for side in ("left", "right"))
    joints[:, 0] = (joints[:, left] + joints[:, right]) / 2
    rigid = with_rigid_bones(joints)
    parents = np.array(H36M17.parents[1:])
    before, after = (x[:, 1:] - x[:, parents] for x in (joints, rigid))
    lengths = np.linalg.norm(after, axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape))
    for left, right in H36M17.left_right:
        np.testing.assert_allclose(lengths[0, left - 1], lengths[0, right - 1])
    direction = before / np.linalg.norm(before, axis=-1, keepdims=True)
    np.testing.assert_allclose(after / lengths[..., None], direction)
    np.testing.assert_allclose(with_rigid_bones(rigid), rigid)


def test_rigid_hips_lie_opposite_each_other_around_the_pelvis(rng):
    joints = rng.normal(size=(30, 17, 3))
    rigid = with_rigid_bones(joints)
    left, right = (H36M17.index(f"{side}_hip") for side in ("left", "right"))
    np.testing.assert_allclose((rigid[:, left] + rigid[:, right]) / 2, rigid[:, 0])
    across, truth = (x[:, left] - x[:, right] for x in (rigid, joints))
    np.testing.assert_allclose(np.cross(across, truth), 0, atol=1e-12)
    assert ((across * truth).sum(axis=1) > 0).all()
