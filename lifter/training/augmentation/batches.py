"""Training batches from recorded motion: body, camera, simulated detections, network input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lifter import normalize
from lifter.skeletons import coco17_to_h36m17
from lifter.training.augmentation.body_augmentation import vary_motion
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.augmentation.simulated_detector import coco17_from_h36m17, hidden_joints, simulate_detections
from lifter.training.augmentation.virtual_camera import project_to_camera
from lifter.training.mocap.library import MotionLibrary


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch.

    Attributes:
        inputs: (B, T, 17, 3) normalized x and y, and the score in [0, 1]; a network takes as many as it has channels.
        joints: (B, T, 17, 3) meters, pelvis at the origin.
    """

    inputs: Tensor
    joints: Tensor


def make_batch(library: MotionLibrary, count: int, frames: int, recipe: AugmentationConfig, rng: Rng) -> Batch:
    """Return ``count`` windows of ``frames`` frames at the recipe's rate: motion, body, camera, detections, input.

    Everything happens at the 50 frames per second of the recordings; then frames are left out, which is what resampling
    at inference comes to.
    """
    frames = (frames - 1) * recipe.stride + 1
    world = vary_motion(library, count, frames, recipe, rng)  # (B, T, 17, 3)
    camera, focal, picture = project_to_camera(world, recipe, rng)  # (B, T, 17, 3), (B,), (B, 2)
    coco = coco17_from_h36m17(camera)
    pixels = focal[:, None, None, None] * coco[..., :2] / coco[..., 2:] + picture[:, None, None] / 2 - 0.5
    detected = simulate_detections(pixels, hidden_joints(camera), recipe, rng)  # (B, T, 17, 3)
    points, joints = _cut_short(coco17_to_h36m17(detected), camera - camera[:, :, :1], recipe, rng)
    points, joints = points[:, :: recipe.stride], joints[:, :: recipe.stride]
    points, scores = points.split((2, 1), dim=-1)
    if recipe.normalization == "picture":
        inputs = normalize.to_picture(points, *(x[:, None, None] for x in picture.unbind(-1)))
        return Batch(torch.cat([inputs, scores], dim=-1), joints)
    assumed = picture.amax(-1) / 2 / math.tan(math.radians(normalize.DEFAULT_FOV_DEGREES) / 2)
    rays = (points + 0.5 - picture[:, None, None] / 2) / assumed[:, None, None, None]
    inputs, rotation = normalize.to_person(rays)
    return Batch(torch.cat([inputs, scores], dim=-1), joints @ rotation[:, None].mT)


def _cut_short(points: Tensor, joints: Tensor, recipe: AugmentationConfig, rng: Rng) -> tuple[Tensor, Tensor]:
    """Return both (B, T, 17, 3) with the last frame of a clip that ends within the window repeated to its end."""
    count, frames = points.shape[:2]
    last = torch.where(rng.bernoulli(recipe.p_short, count), rng.integers(0, frames, count), frames - 1)
    kept = torch.minimum(torch.arange(frames, device=rng.device), last[:, None])
    rows = torch.arange(count, device=rng.device)[:, None]
    return points[rows, kept], joints[rows, kept]
