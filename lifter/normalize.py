"""2D keypoints in pixels to network coordinates: ``picture`` (the published convention) and ``person`` (ours).

All functions take torch tensors with any number of leading axes, one window per leading index, and are used by training
and inference alike. Pixels: the center of the first pixel is (0, 0), so a picture of width w spans [-0.5, w - 0.5].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NORMALIZATIONS = ("person", "picture")
# Along the longer side of the picture; between phone main cameras (60 to 68) and portrait lenses.
DEFAULT_FOV_DEGREES = 55.0


def focal_px(width: float, height: float, fov_degrees: float) -> float:
    """Return the focal length in pixels of a pinhole camera that sees ``fov_degrees`` along its longer side."""
    return max(width, height) / 2 / math.tan(math.radians(fov_degrees) / 2)


def to_picture(keypoints_px: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Return keypoints (..., 2) with the picture's width mapped to [-1, 1]; the height keeps the aspect ratio.

    Source: PoseMamba, screen normalization; pixel (0, 0) there is a corner, here the center of the first pixel.
    """
    half = torch.as_tensor(width, dtype=keypoints_px.dtype, device=keypoints_px.device) / 2
    center = torch.stack(torch.broadcast_tensors(half, torch.as_tensor(height).to(half) / 2), dim=-1) - 0.5
    return (keypoints_px - center) / half[..., None]


def to_person(rays: Tensor) -> tuple[Tensor, Tensor]:
    """Return a window seen by a camera turned to face the person, in units of the person's size.

    Where somebody stands in the picture changes how the body is seen: turned by the angle of the viewing ray. Here the
    window's mean ray becomes the optical axis, so that the network always sees a person in the middle of the picture,
    and its answer is turned back by the same rotation.

    Args:
        rays: (..., T, J, 2) points on the plane z = 1: (x - center) / focal length.

    Returns:
        Points (..., T, J, 2): centered, the mean longer side of the person's box over the window mapped to 2.
        Rotation (..., 3, 3): from camera axes to the axes of the turned camera.
    """
    low, high = rays.amin(-2), rays.amax(-2)  # (..., T, 2)
    rotation = facing((low + high).mean(-2) / 2)  # (..., 3, 3)
    points = torch.cat([rays, torch.ones_like(rays[..., :1])], -1) @ rotation[..., None, :, :].mT  # (..., T, J, 3)
    points = points[..., :2] / points[..., 2:].clamp(min=0.1)  # a point 84 degrees off the axis is no keypoint
    size = (points.amax(-2) - points.amin(-2)).amax(-1).mean(-1)  # (...,)
    return points * 2 / size.clamp(min=1e-6)[..., None, None, None], rotation


def facing(ray: Tensor) -> Tensor:
    """Return the smallest rotations (..., 3, 3) that turn the directions (ray, 1), ray (..., 2), onto the z axis."""
    a, b = ray[..., 0], ray[..., 1]
    length = torch.sqrt(a * a + b * b + 1)
    a, b, c = a / length, b / length, 1 / length
    k = 1 / (1 + c)
    rows = [1 - k * a * a, -k * a * b, -a, -k * a * b, 1 - k * b * b, -b, a, b, c]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
