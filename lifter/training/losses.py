"""Training losses on root-relative joints (B, T, 17, 3).

Source: nankingjing/PoseMamba@2ec3737, training losses with non-zero weight. Same formulas; our joints are in meters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lifter.skeletons import MOTION_FPS

# How much the smoothness prior holds each joint still.
SMOOTHNESS = (1, 1, 2.5, 2.5, 1, 2.5, 2.5, 1, 1, 1, 1.5, 1.5, 4, 4, 1.5, 4, 4)


@dataclass(frozen=True)
class LossWeights:
    """Weight of every loss term; the defaults are the published recipe."""

    position: float = 1.0
    scale: float = 0.5
    velocity: float = 20.0
    smoothness: float = 0.5


def position_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean distance of joints, in the unit of the joints."""
    return (predicted - truth).norm(dim=-1).mean()


def scale_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the position loss after the best scale per frame; the gradient flows through the scale."""
    inner = (truth * predicted).sum(-1).mean(-1)  # (B, T)
    square = predicted.square().sum(-1).mean(-1)
    return position_loss((inner / square.clamp(min=1e-9))[..., None, None] * predicted, truth)


def velocity_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean distance of frame-to-frame differences; 0 for a single frame."""
    if predicted.shape[1] < 2:
        return predicted.new_zeros(())
    return (predicted.diff(dim=1) - truth.diff(dim=1)).norm(dim=-1).mean()


def smoothness_loss(predicted: Tensor) -> Tensor:
    """Return the weighted mean square of frame-to-frame differences: a prior without reference to the truth."""
    if predicted.shape[1] < 2:
        return predicted.new_zeros(())
    return (predicted.new_tensor(SMOOTHNESS)[:, None] * predicted.diff(dim=1).square()).mean()


def at_rate(weights: LossWeights, fps: float) -> LossWeights:
    """Return weights given at 50 frames per second for another rate, at which differences between frames are larger."""
    share = fps / MOTION_FPS
    return replace(weights, velocity=weights.velocity * share, smoothness=weights.smoothness * share**2)


def pose_loss(predicted: Tensor, truth: Tensor, weights: LossWeights) -> Tensor:
    """Return the weighted sum of all terms."""
    loss = weights.position * position_loss(predicted, truth)
    if weights.scale:
        loss = loss + weights.scale * scale_loss(predicted, truth)
    if weights.velocity:
        loss = loss + weights.velocity * velocity_loss(predicted, truth)
    if weights.smoothness:
        loss = loss + weights.smoothness * smoothness_loss(predicted)
    return torch.as_tensor(loss)
