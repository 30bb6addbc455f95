"""Which parts of a picture to search for people: the whole picture, and overlapping squares at smaller scales.

The person detector sees people who fill more than about a quarter of what it is given. Squares of half, a quarter and
a seventh of the picture's longer side bring smaller people within reach; tested down to a twentieth of its height.
"""

from __future__ import annotations

import numpy as np

SCALES = (1 / 2, 1 / 4, 1 / 7)  # sides of squares, of the picture's longer side
OVERLAP = 0.4  # of neighboring squares
MIN_SIDE_PX = 64  # people in smaller squares have too few pixels for keypoints
COARSE_SHARE = 3  # of four searches, so many are coarse

Part = tuple[int, int, int, int]  # x0, y0, x1, y1 px, the last two exclusive


def squares(height: int, width: int, side: int) -> list[Part]:
    """Return squares of ``side`` px that cover a picture with ``OVERLAP``, row by row."""

    def starts(length: int) -> list[int]:
        size = min(side, length)
        count = 1 + int(np.ceil((length - size) / (side * (1 - OVERLAP)) - 1e-9))
        return np.linspace(0, length - size, count).round().astype(int).tolist()

    return [(x, y, x + min(side, width), y + min(side, height)) for y in starts(height) for x in starts(width)]


class SearchPlan:
    """Takes turns between all parts of pictures of one size.

    Attributes:
        coarse: The whole picture and the largest squares.
        fine: The smaller ones.
    """

    def __init__(self, height: int, width: int) -> None:
        sides = [round(scale * max(height, width)) for scale in SCALES]
        levels = [squares(height, width, side) for side in sides if side >= MIN_SIDE_PX]
        self.coarse: list[Part] = [(0, 0, width, height), *(levels[0] if levels else [])]
        self.fine: list[Part] = [part for level in levels[1:] for part in level]
        self._turn = 0

    def next(self) -> Part:
        """Return the part whose turn it is."""
        self._turn += 1
        rounds, place = divmod(self._turn, COARSE_SHARE + 1)
        if place == 0 and self.fine:
            return self.fine[rounds % len(self.fine)]
        return self.coarse[(self._turn - rounds) % len(self.coarse)]
