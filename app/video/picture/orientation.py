"""``Orientation``: one of the eight ways in which a stored picture is shown, as a display matrix says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame


@dataclass(frozen=True, slots=True)
class Orientation:
    """A turn by a multiple of 90 degrees, or a turn and a mirror.

    Attributes:
        is_transposed: Whether stored rows become columns.
        flips_x: Whether left and right are exchanged, after that.
        flips_y: Whether top and bottom are exchanged, after that.
    """

    is_transposed: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right of the scene are exchanged, which no turn can undo."""
        return self.is_transposed ^ self.flips_x ^ self.flips_y

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise by which pictures are turned (and then mirrored left to right, if they are)."""
        is_half_turned = self.flips_y  # a mirror left to right changes x only
        return (90 if is_half_turned else 270) if self.is_transposed else (180 if is_half_turned else 0)

    def turned(self, degrees: int) -> Orientation:
        """Return this orientation followed by a turn clockwise by 0, 90, 180 or 270 degrees."""
        is_transposed, flips_x, flips_y = self.is_transposed, self.flips_x, self.flips_y
        for _ in range(degrees // 90):
            is_transposed, flips_x, flips_y = not is_transposed, not flips_y, flips_x
        return Orientation(is_transposed, flips_x, flips_y)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the shown picture of a stored one."""
        return (height, width) if self.is_transposed else (width, height)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Return a stored picture (H, W, C) as it is shown."""
        if self.is_transposed:
            picture = cv2.transpose(picture)
        if self.flips_x or self.flips_y:
            picture = cv2.flip(picture, -1 if self.flips_x and self.flips_y else int(self.flips_x))
        return picture


def orientation_of(frame: VideoFrame) -> Orientation | None:
    """Return how a decoded frame is to be shown; None if it does not say.

    The display matrix (ISO 14496-12, 8.3.2) takes a stored point (x right, y down) to (a x + c y, b x + d y). Matroska
    and the metadata of H.264 and HEVC streams arrive in the same form. Angles between are rounded.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4", 5).astype(np.int64).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)
