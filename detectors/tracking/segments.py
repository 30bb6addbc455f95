"""Contiguous segments of frames."""

from __future__ import annotations

import numpy as np


def contiguous_segments(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return (start, stop) of every run of True in (T,) flags."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
