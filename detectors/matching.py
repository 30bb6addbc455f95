"""Matching two sets of detections: Hungarian assignment by cost, intersection over union of boxes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

NEVER = 1e6  # cost of an impossible pair


def match_hungarian(cost: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs (row, column) of ``cost`` (M, N) that are cheapest together; none costs ``NEVER``."""
    rows, columns = linear_sum_assignment(cost)
    return [(int(m), int(n)) for m, n in zip(rows, columns, strict=True) if cost[m, n] < NEVER]


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (M, N) float64: intersection over union of boxes (M, 4) and (N, 4) x0 y0 x1 y1."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1, dtype=np.float64)
    areas = [
        np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=-1, dtype=np.float64) for boxes in (first, second)
    ]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)
