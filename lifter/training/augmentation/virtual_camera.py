"""Virtual cameras: world joints projected by a random pinhole camera."""

from __future__ import annotations

import torch
from torch import Tensor

from lifter import normalize
from lifter.training.augmentation.body_augmentation import rotation_matrix
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng


def project_to_camera(world: Tensor, recipe: AugmentationConfig, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
    """Return camera joints (B, T, 17, 3), focal lengths (B,) in pixels and picture sizes (B, 2) width, height."""
    count, frames = world.shape[:2]
    shapes = torch.tensor([[1920, 1080], [1440, 1080], [1080, 1080], [1080, 1920]], device=rng.device).float()
    picture = shapes[rng.integers(0, len(shapes), count)]
    fov = torch.deg2rad(rng.uniform(*recipe.fov_degrees, count))
    focal = picture.amax(-1) / 2 / torch.tan(fov / 2)
    extent = (world.amax(2) - world.amin(2)).norm(dim=-1).mean(-1)  # diagonal of the body's box, (B,)
    height = rng.uniform(*recipe.person_height, count) * picture[:, 1]
    distance = focal * extent / height
    steep = rng.bernoulli(recipe.p_steep_camera, count)
    pitch = torch.where(steep, rng.uniform(-0.5, 1.1, count), 0.08 + 0.2 * rng.normal(count))  # positive looks down
    base = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], device=rng.device)  # world (z up) to a level camera
    look = rotation_matrix(torch.nn.functional.pad(pitch[:, None], (0, 2))) @ base  # (B, 3, 3)
    off_center = rng.uniform(-0.8, 0.8, count, 2) * (picture / 2 - 0.3 * height[:, None]).clamp(min=0) / focal[:, None]
    aside = normalize.facing(off_center).mT
    roll = rotation_matrix(torch.nn.functional.pad(0.05 * rng.normal(count, 1), (2, 0)))
    walk = 0.2 * rng.smooth(count, frames, 1, knots_every=60)
    walk = walk * rng.bernoulli(recipe.p_turning_camera, count)[:, None, None]
    around = rotation_matrix(torch.nn.functional.pad(walk, (2, 0)))  # (B, T, 3, 3), about the vertical
    camera = world @ (look[:, None] @ around).mT
    camera = camera + torch.nn.functional.pad(distance[:, None], (2, 0))[:, None, None]
    nearest = camera[..., 2].flatten(1).amin(1)
    camera[..., 2] += (0.4 * extent - nearest).clamp(min=0)[:, None, None]  # nobody walks through the lens
    pan = 0.12 * rng.smooth(count, frames, 1, knots_every=60)
    pan = pan * rng.bernoulli(recipe.p_turning_camera, count)[:, None, None]
    turn = rotation_matrix(torch.nn.functional.pad(pan, (1, 1))) @ (roll @ aside)[:, None]  # (B, T, 3, 3)
    camera = camera @ turn.mT
    camera[..., 2] = camera[..., 2].clamp(min=0.2)
    return camera, focal, picture
