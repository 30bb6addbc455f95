"""Times of frames: which of them are usable, what they are in seconds, and the frame rate that they have."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame

from app.video.decode import FALLBACK_FPS

ROUNDING_S = 5e-4  # Matroska's clock ticks in milliseconds: a frame meant at 2 s may lie this much before


class FrameClock:
    """Collects the times of the frames that lie in a part of a clip.

    Args:
        first_s: Time of the clip's first frame, which players show at 0 seconds, on the file's clock.
        fps: What the container claims, for frames without a time.
        start_s: First moment of the part.
        stop_s: Its end: a frame at this time is not in it.

    Attributes:
        pts: Ticks of the frames in the part, None where they have none.
        dts: The same, by order of decoding.
        time_base: Seconds per tick.
        start_s: Where the first of these frames lies, in seconds after the clip's first frame.
        last_s: Where the last frame lies that was looked at.
        frame_s: Usual time from frame to frame.
    """

    def __init__(self, first_s: float, fps: float, start_s: float, stop_s: float) -> None:
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.time_base = Fraction(1)
        self.start_s = 0.0
        self.last_s = 0.0
        self.frame_s = 1 / fps
        self._first_s = first_s
        self._part = (start_s - ROUNDING_S, stop_s - ROUNDING_S)
        self._has_begun = False

    def note(self, frame: VideoFrame) -> bool | None:
        """Return whether the next frame lies in the part; None if it comes after it."""
        time = None if frame.pts is None else time_of(frame) - self._first_s
        if time is None or (self._has_begun and time <= self.last_s):
            time = self.last_s + self.frame_s if self._has_begun else 0.0
        self.last_s, self._has_begun = time, True
        if time >= self._part[1]:
            return None
        if time < self._part[0]:
            return False
        if not self.pts:
            self.start_s = time
        self.pts.append(frame.pts)
        self.dts.append(frame.dts)
        self.time_base = frame.time_base or self.time_base
        return True


def time_of(frame: VideoFrame) -> float:
    """Return the time of a frame on the file's clock in seconds; 0 for one that carries none."""
    return float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else 0.0


def num_faulty(ticks: list[int | None]) -> int:
    """Return how many times are missing or not later than the last one; AVI has good ``dts`` where ``pts`` jump."""
    num_faulty, last = 0, None
    for tick in ticks:
        if tick is None or (last is not None and tick <= last):
            num_faulty += 1
        else:
            last = tick
    return num_faulty


def repaired_timestamps(pts: list[int | None], time_base: Fraction, frame_s: float) -> tuple[np.ndarray, int]:
    """Return (T,) float64 seconds from the first frame on, strictly increasing, and how many had to be repaired.

    A time that is missing or not later than the one before becomes the one before plus ``frame_s``.
    """
    start = next((p for p in pts if p is not None), 0)
    times: list[float] = []
    num_repaired = 0
    for p in pts:
        # Integer arithmetic up to one rounded division: the double nearest to the true time.
        time = None if p is None else (p - start) * time_base.numerator / time_base.denominator
        if time is None or (times and time <= times[-1]):
            time = times[-1] + frame_s if times else 0.0
            num_repaired += 1
        times.append(time)
    return np.array(times, np.float64), num_repaired


def frame_rate(timestamps_s: np.ndarray, tick_s: float, rates: list[Fraction]) -> tuple[float, bool]:
    """Return mean frames per second and whether the rate is constant.

    A rate named by the container is taken as it is (30000/1001 stays exact) if every time agrees with it to one tick
    of the container's clock. Otherwise it is the mean, constant if no frame or interval is a tenth of a frame off.
    """
    index = np.arange(len(timestamps_s))
    if len(index) == 1:
        return (float(rates[-1]) if rates else FALLBACK_FPS), True
    for rate in rates:
        if np.abs(timestamps_s - index / float(rate)).max() <= 1.001 * tick_s:
            return float(rate), True
    fps = (len(index) - 1) / float(timestamps_s[-1])
    drift = np.abs(timestamps_s * fps - index).max()
    jitter = np.abs(np.diff(timestamps_s) * fps - 1).max()
    return fps, bool(max(drift, jitter) < 0.1)
