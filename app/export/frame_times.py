"""``frame_rate`` and ``frame_times`` for files whose programs count in frames of a constant rate."""

from __future__ import annotations

import numpy as np

from app.video.video_info import VideoInfo

STANDARD_RATES = (*(float(rate) for rate in (24, 25, 30, 48, 50, 60, 100, 120, 240)),
                  *(rate * 1000 / 1001 for rate in (24, 30, 60, 120)))  # fmt: skip
TOLERANCE = 4e-4  # 24 and 23.976 are 1e-3 apart; containers that count in milliseconds are off by less


def frame_rate(video: VideoInfo) -> float:
    """Return frames per second: exactly the standard rate that was meant, such as 30 or 30000/1001, or else the mean.

    What is measured is off by the rounding of the container's times.
    """
    nearest = min(STANDARD_RATES, key=lambda rate: abs(video.fps / rate - 1))
    return nearest if video.has_constant_rate and abs(video.fps / nearest - 1) < TOLERANCE else video.fps


def frame_times(video: VideoInfo) -> np.ndarray:
    """Return times of all frames (F,) in seconds: whole numbers of frames unless the rate of the video varies."""
    return np.arange(video.num_frames) / frame_rate(video) if video.has_constant_rate else video.timestamps_s
