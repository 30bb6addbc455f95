"""Body augmentation: spliced upper bodies, bent joints, bone lengths, tilt, mirror images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lifter.skeletons import H36M17, NOMINAL_BONE_SUM_M, joints_from_bones, mirror
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.mocap.library import MotionLibrary

PARENTS = H36M17.parents
UPPER_BODY = tuple(range(7, 17))


def _descendants(joint: int) -> list[int]:
    below = [child for child, parent in enumerate(PARENTS) if parent == joint]
    return below + [deeper for child in below for deeper in _descendants(child)]


# Joints that may be bent at random, and by how much (standard deviation, radians); everything below the joint turns.
PIVOTS = tuple(
    (H36M17.index(name), std, tuple(_descendants(H36M17.index(name))))
    for name, std in (
        ("spine", 0.35), ("thorax", 0.25), ("left_shoulder", 0.6), ("right_shoulder", 0.6), ("left_elbow", 0.6),
        ("right_elbow", 0.6), ("left_hip", 0.45), ("right_hip", 0.45), ("left_knee", 0.35), ("right_knee", 0.35),
    )
)  # fmt: skip


def vary_motion(library: MotionLibrary, count: int, frames: int, recipe: AugmentationConfig, rng: Rng) -> Tensor:
    """Return (B, T, 17, 3) world joints: recorded motion, spliced, bent, tilted, resized, mirrored and turned."""
    joints, other = (library.draw(count, frames, recipe.speed, rng.generator, recipe.back_and_forth) for _ in range(2))
    is_varied = rng.bernoulli(recipe.p_varied, count)
    is_spliced = rng.bernoulli(recipe.p_splice, count) & is_varied
    joints = torch.where(is_spliced[:, None, None, None], _splice(joints, other), joints)
    for joint, std, below in PIVOTS:
        angle = rng.smooth(count, frames, 3) * std * (rng.bernoulli(recipe.p_bend, count) & is_varied)[:, None, None]
        turned = joints[:, :, list(below)] - joints[:, :, joint : joint + 1]
        joints[:, :, list(below)] = joints[:, :, joint : joint + 1] + turned @ rotation_matrix(angle).mT
    joints = scale_bones(joints, 1 + recipe.bone_scale * rng.normal(count, 17).clamp(-2.5, 2.5))
    pelvis = joints[:, :, :1]
    tilt_axis = torch.nn.functional.pad(rng.normal(count, 1, 2), (0, 1))
    tilt = torch.nn.functional.normalize(tilt_axis, dim=-1) * rng.uniform(0, 1.6, count, 1, 1)
    tilt = tilt * rng.bernoulli(recipe.p_tilt, count)[:, None, None]
    yaw = torch.nn.functional.pad(rng.uniform(-math.pi, math.pi, count, 1, 1), (2, 0))
    turn = rotation_matrix(yaw) @ rotation_matrix(tilt)  # (B, 1, 3, 3)
    middle = pelvis[:, frames // 2 : frames // 2 + 1]
    joints = (joints - pelvis) @ turn.mT + (pelvis - middle) @ rotation_matrix(yaw).mT
    return torch.where(rng.bernoulli(0.5, count)[:, None, None, None], mirror(joints), joints)


def scale_bones(joints: Tensor, factors: Tensor) -> Tensor:
    """Return joints (B, T, 17, 3) with bones stretched by their child's factor (B, 17), sized to the nominal adult.

    Left and right get the factor of the left side. The root path is scaled by the same amount as the body.
    """
    factors = factors.clone()
    for left, right in H36M17.left_right:
        factors[:, right] = factors[:, left]
    bones = (joints[:, :, 1:] - joints[:, :, list(PARENTS[1:])]) * factors[:, None, 1:, None]  # (B, T, 16, 3)
    size = NOMINAL_BONE_SUM_M / bones.norm(dim=-1).sum(-1).mean(-1)  # (B,)
    return torch.stack(joints_from_bones(joints[:, :, 0], bones), dim=2) * size[:, None, None, None]


def _splice(joints: Tensor, other: Tensor) -> Tensor:
    """Return ``joints`` with the upper body of ``other``, turned so that both pelvises face the same way."""

    def heading(x: Tensor) -> Tensor:
        hips = x[:, :, H36M17.index("left_hip")] - x[:, :, H36M17.index("right_hip")]
        return torch.atan2(hips[..., 1], hips[..., 0])

    angle = torch.nn.functional.pad((heading(joints) - heading(other))[..., None], (2, 0))  # (B, T, 3)
    upper = list(UPPER_BODY)
    spliced = joints.clone()
    relative = other[:, :, upper] - other[:, :, :1]
    spliced[:, :, upper] = joints[:, :, :1] + relative @ rotation_matrix(angle).mT
    return spliced


def rotation_matrix(vector: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) about ``vector`` (..., 3) by its length in radians (Rodrigues' formula)."""
    angle = vector.norm(dim=-1).clamp(min=1e-8)[..., None, None]
    x, y, z = (vector / angle[..., 0]).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, device=vector.device) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)
