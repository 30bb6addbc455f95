"""Strokes and colors shared by the 2D overlay and the 3D panel.

Blue is the person's left, orange the right, white the middle. What is uncertain is fainter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lifter.skeletons import Skeleton

Color = tuple[int, int, int]  # RGB
LEFT: Color = (56, 190, 255)
RIGHT: Color = (255, 146, 43)
MIDDLE: Color = (238, 240, 245)
WHITE: Color = (255, 255, 255)
OUTLINE: Color = (14, 16, 22)
PERSON_COLORS: tuple[Color, ...] = (
    (178, 152, 255), (126, 226, 150), (250, 218, 94), (255, 138, 188), (120, 214, 214), (214, 190, 160),
)  # fmt: skip
FULL_SCORE = 0.5  # detectors call a point found from about here on: drawn solid
FAINTEST = 0.15
NUM_LEVELS = 5  # steps of opacity; each step in use costs one blend
FAR_PX = 1e5  # points beyond are a failure of a model, not a place
SUBPIXEL = 4  # fractional bits of OpenCV's coordinates
SMOOTHING_FRAMES = 9


def side_colors(skeleton: Skeleton) -> tuple[Color, ...]:
    """Return the color of every joint by its side."""
    left, right = ({pair[side] for pair in skeleton.left_right} for side in (0, 1))
    return tuple(LEFT if j in left else RIGHT if j in right else MIDDLE for j in range(len(skeleton.names)))


def bones_of(edges: Iterable[tuple[int, int]], colors: Sequence[Color]) -> tuple[tuple[int, int, Color], ...]:
    """Return (joint, joint, color); a bone has its side's color unless it joins the two sides."""
    bones = []
    for a, b in edges:
        sides = {colors[a], colors[b]} - {MIDDLE}
        bones.append((a, b, sides.pop() if len(sides) == 1 else MIDDLE))
    return tuple(bones)


def person_color(person_id: int) -> Color:
    """Return the color that marks a person."""
    return PERSON_COLORS[person_id % len(PERSON_COLORS)]


def opacity_of(scores: np.ndarray) -> np.ndarray:
    """Return FAINTEST..1, solid from FULL_SCORE on; a score that is no number is faintest."""
    return np.clip(np.nan_to_num(scores) / FULL_SCORE, FAINTEST, 1)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the running mean of (T,) values over SMOOTHING_FRAMES, edges repeated."""
    half = SMOOTHING_FRAMES // 2
    return np.convolve(np.pad(values, half, mode="edge"), np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), "valid")


def draw_line(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, color: Color, width: float) -> None:
    """Draw an anti-aliased line; points in pixels with fractions."""
    one = 1 << SUBPIXEL
    start, end = (
        (round(float(a[0]) * one), round(float(a[1]) * one)),
        (round(float(b[0]) * one), round(float(b[1]) * one)),
    )
    cv2.line(canvas, start, end, color, max(1, round(width)), cv2.LINE_AA, SUBPIXEL)


def draw_dot(canvas: np.ndarray, center: np.ndarray, color: Color, radius: float) -> None:
    """Draw an anti-aliased disc; center and radius in pixels with fractions."""
    one = 1 << SUBPIXEL
    point = (round(float(center[0]) * one), round(float(center[1]) * one))
    cv2.circle(canvas, point, max(one, round(radius * one)), color, -1, cv2.LINE_AA, SUBPIXEL)


@lru_cache(maxsize=4096)
def mix(a: Color, b: Color, share: float) -> Color:
    """Return ``a`` at share 0, ``b`` at share 1."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


@lru_cache(maxsize=1024)
def make_label(text: str, height_px: float, color: Color, pill: Color | None) -> np.ndarray:
    """Return (h, w, 4) uint8 RGBA text of cap height ``height_px`` times 0.7, on a rounded pill if it has a color."""
    font = ImageFont.load_default(size=height_px)
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("H0")
    pad_x, pad_y = round(0.5 * height_px), round(0.38 * height_px)
    size = (math.ceil(right - left) + 2 * pad_x, math.ceil(bottom - top) + 2 * pad_y)
    letters, plate = Image.new("L", size), Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(letters).text((pad_x - left, pad_y - top), text, font=font, fill=255)
    ImageDraw.Draw(plate).rounded_rectangle((0, 0, 4 * size[0] - 1, 4 * size[1] - 1), 2 * size[1], fill=255)
    ink, plate_ink = (np.asarray(m.resize(size, Image.Resampling.BOX))[..., None] / 255 for m in (letters, plate))
    under = np.array(color if pill is None else pill)
    rgb = under + ink * (np.array(color) - under)
    alpha = 255 * (ink if pill is None else np.maximum(0.92 * plate_ink, ink))
    return np.rint(np.concatenate([rgb, alpha], axis=-1)).astype(np.uint8)


def stamp(canvas: np.ndarray, label: np.ndarray, x: float, y: float) -> None:
    """Blend an RGBA label centered on (x, y) into the canvas, cut at its borders."""
    height, width = label.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x0 >= x1 or y0 >= y1:
        return
    piece = label[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    region = canvas[y0:y1, x0:x1]
    alpha = piece[..., 3:] / 255
    region[...] = np.rint(region + alpha * (piece[..., :3] - region)).astype(np.uint8)
