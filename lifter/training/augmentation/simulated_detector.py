"""Simulated 2D detections: ground-truth keypoints made biased, jittery, occluded, swapped and missing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lifter.skeletons import COCO17, H36M17, MOTION_FPS
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng

# What MediaPipe's errors look like, rounded from a fit to still pictures; ``posemamba evaluate stills`` and
# ``evaluate clips --detector-errors`` measure them (docs/results.md). Units: the person's size in the picture. First
# how far up the trunk (towards the shoulders) it marks a joint, on average ...
OFFSET_UP = {"nose": 0.008, "shoulder": 0.023, "elbow": 0.005, "hip": 0.003, "knee": 0.004, "ankle": 0.014}
# ... then how much its errors spread, over those of the trunk: joints that can be seen, and joints behind the body.
SPREAD = {"nose": (0.9, 1.6), "eye": (0.8, 1.5), "ear": (0.8, 1.2), "shoulder": (0.9, 1.6), "elbow": (1.1, 2.4),
          "wrist": (1.2, 3.4), "hip": (1.1, 1.7), "knee": (1.1, 2.6), "ankle": (1.1, 3.2)}  # fmt: skip
HIDDEN_LOSS, BURST_LOSS = 0.6, 0.5  # of the score of a hidden joint, and of one that jumps
# Body parts that hide what is behind them: (from, to, radius in meters).
CAPSULES = (
    ("pelvis", "thorax", 0.13), ("thorax", "head", 0.10),
    ("left_hip", "left_knee", 0.075), ("left_knee", "left_ankle", 0.05),
    ("right_hip", "right_knee", 0.075), ("right_knee", "right_ankle", 0.05),
)  # fmt: skip
HIDING_DEPTH_M = 0.06  # a joint this far behind a part's middle is hidden by it


def coco17_from_h36m17(joints: Tensor) -> Tensor:
    """Return COCO-17 points (..., 17, 3) of H36M-17 joints (..., 17, 3): limbs by name, a face built on the head.

    The recordings have a point at nose level and one at the top of the head; eyes and ears are put at the places they
    have in an adult skull.
    """
    thorax, nose, head = (joints[..., H36M17.index(name), :] for name in ("thorax", "nose", "head"))
    unit = torch.nn.functional.normalize
    up = unit(head - thorax, dim=-1)
    front = nose - thorax
    front = unit(front - (front * up).sum(-1, keepdim=True) * up, dim=-1)
    left = torch.linalg.cross(up, front)
    level = nose + 0.01 * up
    face = {
        "nose": nose + 0.05 * front,
        "left_eye": level + 0.03 * front + 0.03 * up + 0.032 * left,
        "right_eye": level + 0.03 * front + 0.03 * up - 0.032 * left,
        "left_ear": level - 0.06 * front + 0.075 * left,
        "right_ear": level - 0.06 * front - 0.075 * left,
    }
    points = [face[n] if n in face else joints[..., H36M17.index(n), :] for n in COCO17.names]
    return torch.stack(points, dim=-2)


def hidden_joints(camera: Tensor) -> Tensor:
    """Return (B, T, 17) bool, True for the COCO-17 points of joints (B, T, 17, 3) m that the own body hides."""
    points = coco17_from_h36m17(camera)  # (B, T, 17, 3)
    rays = points[..., :2] / points[..., 2:]
    hidden = torch.zeros(points.shape[:-1], dtype=torch.bool, device=camera.device)
    for first, last, radius in CAPSULES:
        ends = camera[:, :, [H36M17.index(first), H36M17.index(last)]]  # (B, T, 2, 3)
        start, stop = (ends[..., :2] / ends[..., 2:]).unsqueeze(-2).unbind(2)  # (B, T, 1, 2)
        axis = stop - start
        along = ((rays - start) * axis).sum(-1) / axis.square().sum(-1).clamp(min=1e-9)
        along = along.clamp(0, 1)  # (B, T, 17)
        depth = torch.lerp(ends[:, :, :1, 2], ends[:, :, 1:, 2], along)
        aside = (rays - start - along[..., None] * axis).norm(dim=-1) * depth
        behind = (aside < radius) & (points[..., 2] > depth + HIDING_DEPTH_M)
        behind[..., [i for i, name in enumerate(COCO17.names) if name in (first, last)]] = False
        hidden |= behind
    return hidden


def _of_parts(values: dict[str, Any], missing: Any) -> list[Any]:
    """Return one value per COCO-17 point out of values by body part."""
    return [values.get(name.rpartition("_")[2], missing) for name in COCO17.names]


def simulate_detections(pixels: Tensor, hidden: Tensor, recipe: AugmentationConfig, rng: Rng) -> Tensor:
    """Return keypoints (B, T, 17, 3) with simulated detector errors: x and y in px, and a score.

    Args:
        pixels: (B, T, 17, 2) true COCO-17 points.
        hidden: (B, T, 17) bool, points that cannot be seen; their errors are larger and their scores low.
        recipe: How much of everything.
        rng: Random draws.
    """
    count, frames = pixels.shape[:2]
    size = (pixels.amax(2) - pixels.amin(2)).amax(-1).mean(-1)[:, None, None, None]
    spread = torch.tensor(_of_parts(SPREAD, (1.0, 1.0)), device=rng.device)  # (17, 2)
    hidden = hidden | _half_hidden(count, recipe, rng)
    share = _smoothed(hidden.float())  # the detector loses and finds a joint within some frames
    spread = torch.lerp(spread[:, 0], spread[:, 1], share)[..., None]  # (B, T, 17, 1)
    bias = recipe.joint_bias * rng.normal(count, 1, 17, 2)
    slow = 0.8 * rng.smooth(count, frames, 17, 2) + 0.6 * rng.smooth(count, frames, 17, 2, knots_every=6)
    slow = slow * rng.uniform(*recipe.slow_jitter, count, 1, 1, 1)
    white = rng.normal(count, frames, 17, 2) * rng.uniform(*recipe.white_jitter, count, 1, 1, 1)
    noisy = pixels + size * (spread * (bias + slow + white) + _offset(pixels, recipe, rng))
    bursts = _spans(rng, count, frames, 17, recipe.p_burst, 3, 20)[..., None]
    noisy = noisy + size * recipe.burst_size * rng.normal(count, 1, 17, 2) * bursts
    scores = (1 - HIDDEN_LOSS * share[..., None]) * (1 - BURST_LOSS * bursts)
    noisy = torch.cat([noisy, scores], dim=-1)  # (B, T, 17, 3)
    for part in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
        swapped = _spans(rng, count, frames, 1, recipe.p_swap, 2, 15)[..., None]
        order = list(range(17))
        for name in part:
            left, right = COCO17.index(f"left_{name}"), COCO17.index(f"right_{name}")
            order[left], order[right] = right, left
        noisy = torch.where(swapped, noisy[:, :, order], noisy)
    missing = _spans(rng, count, frames, 1, recipe.p_dropout, 2, 12)[..., 0]
    noisy = _bridge(noisy, missing) * torch.where(missing[..., None, None], noisy.new_tensor([1, 1, 0]), 1)
    truth = torch.nn.functional.pad(pixels, (0, 1), value=1.0)
    noisy = torch.where(rng.bernoulli(recipe.p_exact, count)[:, None, None, None], truth, noisy)
    noisy = _lower_frame_rate(noisy, recipe, rng)
    is_unscored = rng.bernoulli(recipe.p_unscored, count)[:, None, None]
    return torch.cat([noisy[..., :2], torch.where(is_unscored, 1.0, noisy[..., 2])[..., None]], dim=-1)


def _half_hidden(count: int, recipe: AugmentationConfig, rng: Rng) -> Tensor:
    """Return (B, 1, 17) bool: the legs, or the left or right limbs, of some windows."""
    names = COCO17.names
    legs = [name.endswith(("knee", "ankle")) for name in names]
    sides = [[name.startswith(side) for name in names] for side in ("left", "right")]
    masks = torch.tensor([legs, legs, *sides], device=rng.device)
    return (masks[rng.integers(0, len(masks), count)] & rng.bernoulli(recipe.p_half_hidden, count, 1))[:, None]


def _smoothed(values: Tensor, reach: int = 4) -> Tensor:
    """Return values (B, T, J) averaged over ``reach`` frames on either side; the ends repeat."""
    padded = torch.nn.functional.pad(values.transpose(1, 2), (reach, reach), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, 2 * reach + 1, stride=1).transpose(1, 2)


def _offset(pixels: Tensor, recipe: AugmentationConfig, rng: Rng) -> Tensor:
    """Return where a detector's idea of a joint differs from its center, (B, T, 17, 2) in person sizes."""
    shoulders, hips = (
        (pixels[:, :, COCO17.index(f"left_{part}")] + pixels[:, :, COCO17.index(f"right_{part}")]) / 2
        for part in ("shoulder", "hip")
    )
    up = torch.nn.functional.normalize(shoulders - hips, dim=-1, eps=1e-6)[:, :, None]  # (B, T, 1, 2)
    amount = torch.tensor(_of_parts(OFFSET_UP, 0.0), device=rng.device)[:, None]
    return up * amount * rng.uniform(*recipe.offset, len(pixels), 1, 1, 1)


def _spans(rng: Rng, count: int, frames: int, joints: int, p: float, shortest: int, longest: int) -> Tensor:
    """Return (B, T, joints) bool, True inside one random span of frames, with probability ``p``."""
    start = rng.integers(-longest, frames, count, 1, joints)
    length = rng.integers(shortest, longest + 1, count, 1, joints)
    time = torch.arange(frames, device=rng.device)[None, :, None]
    return (time >= start) & (time < start + length) & rng.bernoulli(p, count, 1, joints)


def _bridge(keypoints: Tensor, missing: Tensor) -> Tensor:
    """Return keypoints (B, T, 17, 3) with the one missing span of each window (B, T) bool interpolated linearly."""
    frames = keypoints.shape[1]
    missing = missing & ~missing.all(1, keepdim=True)  # a whole window has nothing to be bridged from
    time = torch.arange(frames, device=keypoints.device).expand_as(missing)
    first = torch.where(missing, time, frames).amin(1, keepdim=True) - 1  # last frame seen before the gap
    last = torch.where(missing, time, -1).amax(1, keepdim=True) + 1
    before, after = torch.where(first < 0, last, first), torch.where(last >= frames, first, last)
    before, after = before.clamp(0, frames - 1), after.clamp(0, frames - 1)
    weight = ((time - first) / (last - first).clamp(min=1)).clamp(0, 1)[..., None, None]
    rows = torch.arange(len(keypoints), device=keypoints.device)[:, None]
    bridged = torch.lerp(keypoints[rows, before], keypoints[rows, after], weight)
    return torch.where(missing[..., None, None], bridged, keypoints)


def _lower_frame_rate(keypoints: Tensor, recipe: AugmentationConfig, rng: Rng) -> Tensor:
    """Return keypoints sampled at a lower frame rate and interpolated back to 50 fps."""
    count, frames = keypoints.shape[:2]
    rates = torch.tensor([10.0, 15, 24, 25, 30, 30, 30, 60], device=rng.device)
    rate = rates[rng.integers(0, len(rates), count)]
    rate = torch.where(rng.bernoulli(recipe.p_low_rate, count), rate, MOTION_FPS)[:, None]
    phase = rng.uniform(0, 1, count, 1)
    time = torch.arange(frames, device=rng.device)[None]
    slow = time * rate / MOTION_FPS + phase
    floor = slow.floor()
    weight = (slow - floor)[..., None, None]

    def at(place: Tensor) -> Tensor:  # keypoints at a frame of the slower video
        moment = ((place - phase) * MOTION_FPS / rate).clamp(0, frames - 1)
        low = moment.long()
        rows = torch.arange(count, device=rng.device)[:, None]
        high = (low + 1).clamp(max=frames - 1)
        return torch.lerp(keypoints[rows, low], keypoints[rows, high], (moment - low)[..., None, None])

    resampled = torch.lerp(at(floor), at(floor + 1), weight)
    return torch.where((rate == MOTION_FPS)[..., None, None], keypoints, resampled)
