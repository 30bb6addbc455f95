"""The virtual camera of the 3D panel: fitted once to all poses of a clip, it stays.

Stage axes: x right, y down with the floor at y = 0, z away; the camera looks along z and down by ``VIEW_DROP``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

VIEW_DROP = math.radians(13)


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """A camera that looks at ``center`` from ``distance``.

    Attributes:
        size: Height and width of the panel in pixels.
        center: (3,) point of the stage.
        distance: In units of the stage.
        focal: Focal length in pixels.
        principal: Pixel (x, y) on the optical axis.
    """

    size: tuple[int, int]
    center: np.ndarray
    distance: float
    focal: float = 1.0
    principal: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def fit(
        cls, size: tuple[int, int], body: float, places: np.ndarray, has_floor: np.ndarray, points: np.ndarray
    ) -> SceneCamera:
        """Return the camera that sees nearly all points, and room for whoever stands on a floor.

        Args:
            size: Height and width of the panel in pixels.
            body: Height of a body.
            places: (P, 3) where people are.
            has_floor: (P,) bool, whether each of them stands there.
            points: (N, 3) joints that should be seen.
        """
        height, width = size
        lowest, highest = places.min(axis=0), places.max(axis=0)
        far = cls(size, (lowest + highest) / 2 - (0, 0.5 * body, 0), 4.2 * body + float(highest[2] - lowest[2]))
        outline = body * np.array([[-0.28, 0, 0], [0.28, 0, 0], [0, -1, 0]])  # at least a standing person fits
        standing = far.project((places[has_floor, None] + outline).reshape(-1, 3))
        seen = far.project(points if np.isfinite(points).any() else np.zeros((1, 3)))
        # Percentiles: one wild frame must not make everybody small.
        low, high = np.nanpercentile(seen, (0.2, 99.8), axis=0, method="nearest")
        u0, v0, _ = np.minimum(low, standing.min(axis=0, initial=np.inf))
        u1, v1, _ = np.maximum(high, standing.max(axis=0, initial=-np.inf))
        focal = min(0.88 * width / max(u1 - u0, 1e-9), 0.76 * height / max(v1 - v0, 1e-9))
        principal = (width / 2 - focal * (u0 + u1) / 2, 0.48 * height - focal * (v0 + v1) / 2)
        return cls(size, far.center, far.distance, focal, principal)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return (..., 3) of points (..., 3) of the stage: x and y in pixels, and pixels per unit of length there."""
        x, y, z = np.moveaxis(points - self.center, -1, 0)
        cos, sin = math.cos(VIEW_DROP), math.sin(VIEW_DROP)
        scale = self.focal / np.maximum(self.distance + sin * y + cos * z, 0.05 * self.distance)
        return np.stack(
            [scale * x + self.principal[0], scale * (cos * y - sin * z) + self.principal[1], scale], axis=-1
        )

    def floor_points(self, first_row: int, last_row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x and z of the floor's point that each pixel of rows first to last - 1 sees, and whether it sees it.

        All three are (last_row - first_row, width); x and z are 0 where the floor is not seen.
        """
        column, row = np.meshgrid(np.arange(float(self.size[1])), np.arange(float(first_row), float(last_row)))
        ray_x, ray_y = (column - self.principal[0]) / self.focal, (row - self.principal[1]) / self.focal
        cos, sin = math.cos(VIEW_DROP), math.sin(VIEW_DROP)
        drop = cos * ray_y + sin  # of the ray, in stage axes
        eye = self.center - self.distance * np.array([0, sin, cos])
        reach = np.where(drop > 1e-3, -eye[1] / np.maximum(drop, 1e-3), np.inf)
        with np.errstate(invalid="ignore"):
            x, z = eye[0] + reach * ray_x, eye[2] + reach * (cos - sin * ray_y)
        is_floor = np.isfinite(reach) & (drop > 0.02)
        return np.where(is_floor, x, 0), np.where(is_floor, z, 0), is_floor
