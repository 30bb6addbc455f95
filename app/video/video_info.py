"""``VideoInfo``: size, rate and frame times of a video as it was decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """A video as it was decoded.

    Attributes:
        path: The file.
        width: Pixels of the upright picture (after the rotation flag is applied).
        height: Pixels of the upright picture.
        fps: Mean frames per second as a float (29.97 survives).
        num_frames: Frames that decode, counted, never taken from the container.
        rotation: Degrees counter-clockwise by which stored pictures are turned to stand upright: 0, 90, 180 or 270.
        timestamps_s: (num_frames,) float64 seconds, first frame at 0, strictly increasing.
        has_constant_rate: False when the time between frames varies.
        warnings: Sentences about damage that was met, e.g. a truncated file.
    """

    path: Path
    width: int
    height: int
    fps: float
    num_frames: int
    rotation: int
    timestamps_s: np.ndarray
    has_constant_rate: bool = True
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.timestamps_s.shape != (self.num_frames,) or self.timestamps_s.dtype != np.float64:
            raise ValueError(
                f"timestamps_s must have shape ({self.num_frames},) and dtype float64, "
                f"got {self.timestamps_s.shape} and {self.timestamps_s.dtype}"
            )
        if np.any(np.diff(self.timestamps_s) <= 0):
            raise ValueError("timestamps_s must be strictly increasing")

    @property
    def median_fps(self) -> float:
        """Frames per second between most neighbors: ``fps`` but for pauses."""
        return 1 / float(np.median(np.diff(self.timestamps_s))) if self.num_frames > 1 else self.fps
