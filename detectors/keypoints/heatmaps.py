"""Heatmaps -> keypoints: mirrored averages and sub-pixel maxima."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from detectors.pose_geometry import MIRRORED

PEAK_SHARE = 32  # published heatmaps have peaks of height / 32 standard deviation: 2 px of 64, 3 px of 96
TINY = 1e-10  # heatmaps are clipped to this before the logarithm


def averaged_with_mirrored(heatmaps: Tensor, of_mirrored: Tensor) -> Tensor:
    """Return the mean of heatmaps (B, 17, H, W) and those of the mirrored pictures.

    Turned back and with left and right swapped, the latter lie 3/4 of a heatmap pixel to the left (a network with
    stride 4 sees pixel x at W - 1 - x); as published they are shifted right by one pixel, column 0 keeping its value.

    Source: leoxiaobin/deep-high-resolution-net.pytorch, lib/core/function.py, SHIFT_HEATMAP.
    """
    turned = of_mirrored.flip(-1)[:, torch.as_tensor(MIRRORED)]
    shifted = torch.cat([turned[..., :1], turned[..., :-1]], dim=-1)
    return (heatmaps + shifted) / 2


def decode_heatmaps(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of heatmaps (B, J, H, W) to a fraction of a pixel, and their heights.

    The logarithm of a Gaussian peak is a parabola; its top follows from the first and second differences around the
    largest pixel, after the heatmap was smoothed by a Gaussian of the peak's own size.

    Source: Zhang et al., Distribution-Aware Coordinate Representation for Human Pose Estimation (DARK), CVPR 2020,
    equations 4 to 10. Different: differences over one pixel, not two, so that only the outermost row and column have
    none (along that axis the whole pixel is the answer); and peaks so near to the border that smoothing would pull them
    inwards, by up to half a pixel, are read without it.

    Returns:
        keypoints: (B, J, 2) x and y in heatmap pixels, the center of the first one at (0, 0).
        scores: (B, J) largest value of the heatmap itself.
    """
    height, width = heatmaps.shape[-2:]
    scores, index = heatmaps.flatten(2).max(dim=-1)  # (B, J)
    x, y = index % width, index // width
    smooth, reach = _smooth(heatmaps)
    margin = torch.stack([x, width - 1 - x, y, height - 1 - y], dim=-1)  # (B, J, 4) pixels to the borders
    patch = torch.where(
        (margin > reach).all(dim=-1)[..., None, None], _around(smooth, x, y), _around(heatmaps, x, y)
    )  # (B, J, 3, 3)
    offset = _top_of_parabola(patch.clamp(min=TINY).log())
    inside = torch.stack([margin[..., :2].amin(-1) > 0, margin[..., 2:].amin(-1) > 0], dim=-1)  # (B, J, 2)
    return torch.stack([x, y], dim=-1) + torch.where(inside, offset, 0), scores


def _around(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return (B, J, 3, 3) the pixels of maps (B, J, H, W) around x and y (B, J); the border is repeated outwards."""
    height, width = maps.shape[-2:]
    near = torch.arange(-1, 2, device=maps.device)
    rows, columns = (y[..., None] + near).clamp(0, height - 1), (x[..., None] + near).clamp(0, width - 1)  # (B, J, 3)
    index = rows[..., :, None] * width + columns[..., None, :]
    return maps.flatten(2).gather(2, index.flatten(2)).view(*x.shape, 3, 3)


def _smooth(heatmaps: Tensor) -> tuple[Tensor, int]:
    """Return heatmaps (B, J, H, W) averaged with a Gaussian, and how far [px] that reaches; zero beyond the border."""
    sigma = heatmaps.shape[-2] / PEAK_SHARE
    reach = max(1, round(2.5 * sigma))  # 5 px at sigma 2 and 8 at 3: the published 11 and 17 taps
    distance = torch.arange(-reach, reach + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    taps = (-(distance**2) / (2 * sigma**2)).exp()
    taps = taps / taps.sum()
    single = heatmaps.flatten(0, 1)[:, None]  # (B * J, 1, H, W)
    single = functional.conv2d(single, taps.view(1, 1, 1, -1), padding=(0, reach))
    single = functional.conv2d(single, taps.view(1, 1, -1, 1), padding=(reach, 0))
    return single.view(heatmaps.shape), reach


def _top_of_parabola(patch: Tensor) -> Tensor:
    """Return (..., 2) x and y from the middle of patches (..., 3, 3) to their top; 0 where none is within a pixel."""
    dx, dy = (patch[..., 1, 2] - patch[..., 1, 0]) / 2, (patch[..., 2, 1] - patch[..., 0, 1]) / 2
    dxx = patch[..., 1, 2] - 2 * patch[..., 1, 1] + patch[..., 1, 0]
    dyy = patch[..., 2, 1] - 2 * patch[..., 1, 1] + patch[..., 0, 1]
    dxy = (patch[..., 2, 2] - patch[..., 2, 0] - patch[..., 0, 2] + patch[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy**2
    is_top = (dxx < 0) & (determinant > 0)
    safe = torch.where(is_top, determinant, 1)
    offset = torch.stack([(dxy * dy - dyy * dx) / safe, (dxy * dx - dxx * dy) / safe], dim=-1)  # -H^-1 g
    return torch.where(is_top[..., None] & (offset.abs() <= 1).all(dim=-1, keepdim=True), offset, 0)
