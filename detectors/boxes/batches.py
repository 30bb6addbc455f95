"""Frames in batches of one size, as the networks for boxes take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

FRAMES_PER_BATCH = 8


def batches(frames: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield the frames in order, up to ``FRAMES_PER_BATCH`` of one size together.

    Raises:
        ValueError: A frame has another shape or dtype than RGB uint8.
    """
    batch: list[np.ndarray] = []
    for frame in frames:
        require_rgb(frame)
        if batch and (len(batch) == FRAMES_PER_BATCH or batch[0].shape != frame.shape):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch


def require_rgb(frame: np.ndarray) -> None:
    """Raise ValueError unless a frame is uint8 of shape (H, W, 3)."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 of shape (H, W, 3), got {frame.dtype} {frame.shape}")
