"""``low_pass``: the optional smoothing (``--smooth``), a Butterworth filter that runs forwards and backwards."""

from __future__ import annotations

import numpy as np

ORDER = 2  # doubled by the second run; with it, what gait laboratories call a zero-lag fourth-order filter
# Two runs weaken the cut-off frequency twice; a filter with a cut-off higher by this makes it 3 dB together.
# Source: Winter, "Biomechanics and Motor Control of Human Movement", on filtering in both directions; here with the
# tangents that a digital filter has instead of frequencies.
BOTH_WAYS = (2**0.5 - 1) ** (1 / (2 * ORDER))


def low_pass(values: np.ndarray, timestamps_s: np.ndarray, cutoff_hz: float) -> np.ndarray:
    """Return values (T, ...) without what is faster than ``cutoff_hz``, where amplitudes are 0.71 of what they were.

    Zero phase: nothing is delayed. At both ends the motion is continued by its point reflection. Frames of a varying
    rate are brought to a constant one and back by linear interpolation.

    Args:
        values: One uninterrupted stretch; three frames or fewer stay as they are.
        timestamps_s: (T,) seconds, increasing.
        cutoff_hz: Must lie below half the frame rate, which has nothing above; if not, nothing is changed.
    """
    from scipy.signal import butter, sosfiltfilt  # takes a second, which the web app's first page would wait for

    count = len(values)
    if count < 4 or not is_smoothable(timestamps_s, cutoff_hz):
        return values
    even = np.linspace(timestamps_s[0], timestamps_s[-1], count)
    rate = (count - 1) / (even[-1] - even[0])
    single = rate / np.pi * np.arctan(np.tan(np.pi * cutoff_hz / rate) / BOTH_WAYS)
    sections = butter(ORDER, single, fs=rate, output="sos")
    flat = _at(values.reshape(count, -1).astype(np.float64), timestamps_s, even)
    smooth = sosfiltfilt(sections, flat, axis=0, padlen=min(count - 1, round(3 * rate / cutoff_hz)))
    return _at(smooth, even, timestamps_s).reshape(values.shape).astype(values.dtype)


def is_smoothable(timestamps_s: np.ndarray, cutoff_hz: float) -> bool:
    """Return whether frames at these times can hold anything faster than ``cutoff_hz``."""
    return len(timestamps_s) > 1 and cutoff_hz < 0.499 * (len(timestamps_s) - 1) / np.ptp(timestamps_s)


def _at(columns: np.ndarray, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(wanted, times, column) for column in columns.T], axis=1)
