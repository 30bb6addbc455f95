"""``VideoInfo``: size, rate and frame times of a video as it was decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.video.picture.bars import NO_BARS, Bars


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """A video, or the part of it that was chosen, as it was decoded.

    Attributes:
        path: The file.
        width: Pixels of the shown picture: upright, with square pixels.
        height: Pixels of the shown picture.
        fps: Mean frames per second as a float (29.97 survives).
        num_frames: Frames that decode, counted, never taken from the container.
        rotation: Degrees counter-clockwise by which stored pictures are turned to stand upright: 0, 90, 180 or 270.
        timestamps_s: (num_frames,) float64 seconds of real time, first frame at 0, strictly increasing.
        has_constant_rate: False when the time between frames varies.
        warnings: Sentences about damage that was met, e.g. a truncated file.
        is_mirrored: Whether turned pictures are then mirrored left to right, as the file demands.
        start_s: Seconds after the first picture of the clip at which frame 0 lies, as players show the clip.
        slow_motion: How many times slower the clip shows what it shows; ``timestamps_s`` and ``fps`` are of real time.
        file_start_s: Time of frame 0 on the clock of the file, which its sound shares.
        bars: Borders burnt into the shown picture; the camera's picture lies between them.
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
    is_mirrored: bool = False
    start_s: float = 0.0
    slow_motion: float = 1.0
    file_start_s: float = 0.0
    bars: Bars = NO_BARS

    def __post_init__(self) -> None:
        if self.timestamps_s.shape != (self.num_frames,) or self.timestamps_s.dtype != np.float64:
            raise ValueError(
                f"timestamps_s must have shape ({self.num_frames},) and dtype float64, "
                f"got {self.timestamps_s.shape} and {self.timestamps_s.dtype}"
            )
        if np.any(np.diff(self.timestamps_s) <= 0):
            raise ValueError("timestamps_s must be strictly increasing")

    @property
    def inner_size(self) -> tuple[int, int]:
        """Width and height of the camera's picture, without burnt-in borders."""
        return self.bars.inner_size(self.width, self.height)

    @property
    def median_fps(self) -> float:
        """Frames per second between most neighbors: ``fps`` but for pauses."""
        return 1 / float(np.median(np.diff(self.timestamps_s))) if self.num_frames > 1 else self.fps
