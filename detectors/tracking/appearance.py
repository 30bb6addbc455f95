"""Appearance of people: a color descriptor per detection, to tell people apart after an occlusion."""

from __future__ import annotations

import cv2
import numpy as np

from detectors.people import People

SHOULDERS, HIPS, KNEES = (5, 6), (11, 12), (13, 14)
PATCH = 10  # points along and across the trunk, and the same on the thighs
INSET = 0.15  # of the trunk's and thighs' width and length, left out on every side: background, arms
MIN_SCORE = 0.3  # of the joints around a patch
LIGHT_BINS, COLOR_BINS = 5, 8  # brightness is coarse, as light changes from place to place
COLOR_REACH = 40.0  # a and b of CIELAB beyond this fill the outermost bins; clothes lie within 60
NUM_COLORS = 2 * (LIGHT_BINS + 2 * COLOR_BINS)


def appearance_of(frame: np.ndarray, people: People) -> np.ndarray:
    """Return (N, 42) float32: what the trunk and the thighs of everybody in ``frame`` look like; NaN where unseen.

    Square roots of histograms of L, a and b (CIELAB), so that ``difference`` is a Hellinger distance. 0.4 ms a person.

    Args:
        frame: (H, W, 3) uint8 RGB.
        people: N people in it.
    """
    rows = np.full((len(people), 2, NUM_COLORS // 2), np.nan, np.float32)
    for keypoints, scores, row in zip(people.keypoints, people.scores, rows, strict=True):
        for part, (top, bottom) in enumerate(((SHOULDERS, HIPS), (HIPS, KNEES))):
            if scores[[*top, *bottom]].min() >= MIN_SCORE:
                row[part] = _histogram(frame, keypoints[list(top)], keypoints[list(bottom)])
    return rows.reshape(len(people), NUM_COLORS)


def unknown_appearance(count: int) -> np.ndarray:
    """Return (count, 42) float32 for people of whom no picture is known."""
    return np.full((count, NUM_COLORS), np.nan, np.float32)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return how differently two people (42,) look, 0 to 1; NaN if no part of them was seen of both."""
    parts = (first - second).reshape(2, -1)
    seen = np.isfinite(parts).all(axis=1)
    return float(np.sqrt((parts[seen] ** 2).sum() / (2 * 3 * seen.sum()))) if seen.any() else float("nan")


def mean_appearance(rows: np.ndarray) -> np.ndarray:
    """Return (42,) float32, the mean of sightings (K, 42) of one person; NaN where a part was never seen."""
    seen = np.isfinite(rows)
    total = np.where(seen, rows, 0).sum(axis=0)
    count = seen.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _histogram(frame: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return (21,) float32 of the patch between two joints (2, 2) px above and two below; NaN outside the picture."""
    along, across = np.meshgrid(*(np.linspace(INSET, 1 - INSET, PATCH),) * 2, indexing="ij")
    left, right = (top[side] + along[..., None] * (bottom[side] - top[side]) for side in (0, 1))
    points = np.rint(left + across[..., None] * (right - left)).astype(int).reshape(-1, 2)
    inside = ((points >= 0) & (points < (frame.shape[1], frame.shape[0]))).all(axis=1)
    if inside.sum() < len(points) / 2:
        return np.full(NUM_COLORS // 2, np.nan, np.float32)
    x, y = points[inside].T
    lab = cv2.cvtColor(frame[y, x][None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]  # (K, 3)
    light = _soft_counts(lab[:, 0] / 100, LIGHT_BINS)
    color = [_soft_counts((lab[:, c] / COLOR_REACH + 1) / 2, COLOR_BINS) for c in (1, 2)]
    return np.sqrt(np.concatenate([light, *color]) / len(lab)).astype(np.float32)


def _soft_counts(values: np.ndarray, bins: int) -> np.ndarray:
    """Return (bins,) counts of values (K,) in [0, 1]; each is shared by the two nearest bins, so noise moves little."""
    place = np.clip(values, 0, 1) * (bins - 1)
    below = np.minimum(place.astype(int), bins - 2)
    share = place - below
    return np.bincount(below, 1 - share, bins) + np.bincount(below + 1, share, bins)
