"""The empty stage of the 3D panel: a floor with a grid that fades into the distance."""

from __future__ import annotations

import math

import numpy as np

from app.render.drawing import Color
from app.render.scene_camera import SceneCamera

SKY: Color = (17, 20, 29)
GROUND: Color = (44, 51, 68)
GRID: Color = (134, 154, 190)
BAND_ROWS = 128  # of the background drawn at once


def draw_floor(camera: SceneCamera, body: float, reach: float, turn: float) -> np.ndarray:
    """Return the stage without people, (H, W, 3) uint8 RGB; drawn in bands, for each pixel takes 200 bytes.

    Args:
        camera: That looks at it.
        body: Height of a body, which sets the size of the grid.
        reach: Extent of the places where people stand.
        turn: Of the grid about the vertical, radians.
    """
    height = camera.size[0]
    rng = np.random.default_rng(0)
    bands = []
    for start in range(0, height, BAND_ROWS):
        first, last = max(0, start - 1), min(height, start + BAND_ROWS + 1)  # a row more for the gradient
        band = _shade(camera, (body, reach, turn), first, last)[start - first :][: min(BAND_ROWS, height - start)]
        band += rng.uniform(-0.7, 0.7, (*band.shape[:2], 1))  # keeps the gradient free of stripes
        bands.append(np.clip(np.rint(band), 0, 255).astype(np.uint8))
    return np.concatenate(bands)


def _shade(camera: SceneCamera, floor: tuple[float, float, float], first: int, last: int) -> np.ndarray:
    """Return rows first to last - 1 as (rows, W, 3) float64, shaded by grid and distance."""
    (body, reach, turn), height = floor, camera.size[0]
    x, z, is_floor = camera.floor_points(first, last)
    far = np.hypot(x - camera.center[0], z - camera.center[2]) / (body * 1.5 + reach)
    light = np.where(is_floor, np.exp(-(far**2)), 0)
    cell = 0.3 * body  # about half a meter
    cos, sin = math.cos(turn), math.sin(turn)
    lines = np.zeros_like(x)
    for coordinate in ((cos * x - sin * z) / cell, (sin * x + cos * z) / cell):
        cells_per_px = np.hypot(*np.gradient(coordinate)) + 1e-9
        to_line_px = np.abs(coordinate - np.rint(coordinate)) / cells_per_px
        # Where cells shrink towards 4 px their lines would run together, so they fade out.
        sharpness = np.clip(max(1.1, height / 600) - to_line_px, 0, 1)
        lines = np.maximum(lines, sharpness * np.clip(1.5 - 4 * cells_per_px, 0, 1))
    fall = np.linspace(0, 1, height)[first:last, None, None] ** 1.5
    sky = np.array(SKY) * (1 - 0.35 * fall) + np.array(GROUND) * 0.35 * fall
    floor = sky + light[..., None] * (np.array(GROUND) - sky) * 0.85
    return floor + (0.42 * light * lines)[..., None] * (np.array(GRID) - floor)
