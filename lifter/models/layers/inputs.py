"""Checks of network inputs, windows of H36M-17 keypoints, and look-ups by joint and frame."""

from __future__ import annotations

import functools
from typing import Protocol

import torch
from torch import Tensor

NUM_JOINTS = 17


class Config(Protocol):
    """What the configuration of every network tells, whatever else it holds."""

    @property
    def window(self) -> int:
        """Most frames per window."""

    @property
    def channels(self) -> int:
        """Numbers per keypoint: 2 (x, y) or 3 (x, y, score)."""

    @property
    def fixed_length(self) -> bool:
        """Whether the network takes exactly ``window`` frames, no fewer."""


def check_keypoints(keypoints: Tensor, config: Config, first_frame: int | Tensor = 0) -> None:
    """Raise ValueError unless ``keypoints`` are (B, T, 17, channels) with a number of frames that the network takes.

    A ``first_frame`` that is a tensor is not looked at: that would wait for the GPU.
    """
    shape, window = tuple(keypoints.shape), config.window
    first = first_frame if isinstance(first_frame, int) else 0
    if len(shape) != 4 or shape[2:] != (NUM_JOINTS, config.channels):
        raise ValueError(f"keypoints must have shape (B, T, {NUM_JOINTS}, {config.channels}), got {shape}")
    if config.fixed_length and (shape[1] != window or first):
        at = f" from frame {first}" if first else ""
        raise ValueError(f"a window holds exactly {window} frames, got {shape[1]}{at}; split or pad clips first")
    if not 1 <= shape[1] <= window - first:
        raise ValueError(f"a window holds 1 to {window - first} frames, got {shape[1]}; split longer clips first")


def rows_from(embedding: Tensor, first: int | Tensor, count: int) -> Tensor:
    """Return ``count`` rows (1, count, d) of an embedding (1, rows, d), from row ``first``, an int or (1,) int64."""
    if isinstance(first, int):
        return embedding[:, first : first + count]
    return embedding.index_select(1, first + torch.arange(count, device=embedding.device))


@functools.lru_cache(maxsize=64)
def index_on(device: str, index: tuple[int, ...]) -> Tensor:
    """Return ``index`` as int64 on ``device``, copied once: a copy from the host cannot be part of a CUDA graph."""
    with torch.inference_mode(False):  # cached: made during inference, it could not be used in training later
        return torch.tensor(index, device=device)
