"""Overlapping windows over any number of frames, and back: edge padding and cross-fades, no time-stretching."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Windows:
    """How T frames are covered by windows of a fixed size.

    Attributes:
        num_frames: T, at least 1.
        window: Frames per window.
        overlap: Least frames that neighboring windows share, below ``window``.
    """

    num_frames: int
    window: int
    overlap: int

    def __post_init__(self) -> None:
        if self.num_frames < 1 or not 0 <= self.overlap < self.window:
            raise ValueError(
                f"need at least 1 frame and 0 <= overlap < window, got {self.num_frames} frames, "
                f"overlap {self.overlap}, window {self.window}"
            )

    @property
    def starts(self) -> np.ndarray:
        """First frame of every window, int64; evenly spread, the last window ends with the last frame."""
        rest = self.num_frames - self.window
        if rest <= 0:
            return np.zeros(1, np.int64)
        count = 1 + -(-rest // (self.window - self.overlap))
        return np.round(np.linspace(0, rest, count)).astype(np.int64)

    @property
    def indices(self) -> np.ndarray:
        """(num windows, window) int64: the frame behind every place; a short clip repeats its last frame."""
        return np.minimum(self.starts[:, None] + np.arange(self.window), self.num_frames - 1)

    @property
    def weights(self) -> np.ndarray:
        """(num windows, window) float64 blend weights: ramps over the shared frames; per frame they sum to 1."""
        starts, length = self.starts, min(self.window, self.num_frames)
        weights = np.zeros((len(starts), self.window))
        weights[:, :length] = 1.0
        for left, (first, second) in enumerate(pairwise(starts)):
            shared = first + self.window - second
            ramp = (np.arange(shared) + 0.5) / shared
            weights[left, self.window - shared :] *= 1 - ramp
            weights[left + 1, :shared] *= ramp
        total = np.zeros(self.num_frames)
        np.add.at(total, self.indices[:, :length], weights[:, :length])
        return weights / total[self.indices]

    def split(self, sequence: np.ndarray) -> np.ndarray:
        """Return (num windows, window, ...) of ``sequence`` (T, ...); frames keep their order."""
        if len(sequence) != self.num_frames:
            raise ValueError(f"sequence must have {self.num_frames} frames, got {len(sequence)}")
        return sequence[self.indices]

    def merge(self, windows: np.ndarray) -> np.ndarray:
        """Return (T, ...) cross-faded from ``windows`` (num windows, window, ...): the inverse of ``split``."""
        indices, weights = self.indices, self.weights
        if windows.shape[:2] != indices.shape:
            raise ValueError(f"windows must have shape {indices.shape} + (...), got {windows.shape}")
        length = min(self.window, self.num_frames)
        merged = np.zeros((self.num_frames, *windows.shape[2:]))
        faded = windows * weights.reshape(weights.shape + (1,) * (windows.ndim - 2))
        np.add.at(merged, indices[:, :length], faded[:, :length])
        return merged.astype(windows.dtype)
