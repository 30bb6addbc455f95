"""``Display``: stored frames as players show them: upright, with square pixels, in the colors of ordinary screens."""

from __future__ import annotations

import cv2
import numpy as np
from av.video.frame import VideoFrame

from app.video.picture.colors import RgbConverter
from app.video.picture.orientation import Orientation, orientation_of


class Display:
    """Shows the frames of one video in their order.

    Args:
        pixel_aspect: Width over height of a stored pixel.
        rotate: Degrees clockwise by which shown pictures are turned on top of what the file says.
        converter: For colors; several displays may share one.

    Attributes:
        sizes: (width, height) of the pictures so far.
    """

    def __init__(self, pixel_aspect: float, rotate: int, converter: RgbConverter) -> None:
        self.sizes: set[tuple[int, int]] = set()
        self._pixel_aspect = pixel_aspect
        self._rotate = rotate
        self._said = Orientation()
        self._converter = converter

    def orientation(self, frame: VideoFrame) -> Orientation:
        """Return how a frame is shown; one that does not say it is shown as the one before."""
        self._said = orientation_of(frame) or self._said
        return self._said.turned(self._rotate)

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Return width and height of the shown picture."""
        size = self.orientation(frame).size(*self._square_size(frame))
        self.sizes.add(size)
        return size

    def show(self, frame: VideoFrame) -> np.ndarray:
        """Return the shown picture as RGB uint8 (H, W, 3)."""
        self.size(frame)
        rgb = resized(self._converter.convert(frame), self._square_size(frame))
        return self.orientation(frame).apply(rgb)

    def _square_size(self, frame: VideoFrame) -> tuple[int, int]:
        return max(1, round(frame.width * self._pixel_aspect)), frame.height


def letterboxed(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the whole picture (H, W, 3) in the middle of one of ``size`` (width, height), black where it ends."""
    height, width = rgb.shape[:2]
    if (width, height) == size:
        return rgb
    scale = min(size[0] / width, size[1] / height)
    inner = resized(rgb, (max(1, round(scale * width)), max(1, round(scale * height))))
    left, top = (size[0] - inner.shape[1]) // 2, (size[1] - inner.shape[0]) // 2
    out = np.zeros((size[1], size[0], 3), np.uint8)
    out[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return out


def resized(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the picture (H, W, 3) stretched to ``size`` (width, height)."""
    height, width = rgb.shape[:2]
    if (width, height) == size:
        return rgb
    shrinks = size[0] < width or size[1] < height
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)
