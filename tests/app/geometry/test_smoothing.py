"""The optional low-pass: what passes, what does not, no delay, and inputs too short or too slow for it."""

from __future__ import annotations

import numpy as np
import pytest

from app.geometry.smoothing import is_smoothable, low_pass

FPS = 60.0
TIMES = np.arange(600) / FPS


def gain(hz, cutoff=6.0, times=TIMES):
    wave = np.sin(2 * np.pi * hz * times)
    smooth = low_pass(wave[:, None], times, cutoff)[:, 0]
    middle = slice(100, -100)
    return (smooth * wave)[middle].sum() / (wave**2)[middle].sum(), np.abs(smooth - wave)[middle].max()


def test_the_cutoff_is_where_it_says():
    assert gain(6.0)[0] == pytest.approx(0.5**0.5, abs=0.01)
    assert gain(1.0)[1] < 0.002  # passes, not delayed
    assert abs(gain(20.0)[0]) < 0.01


def test_lines_stay_lines_up_to_their_ends():
    line = np.linspace(0, 3, 90)[:, None, None] * np.ones((17, 3))
    np.testing.assert_allclose(low_pass(line, np.arange(90) / 30, 5.0), line, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12])
def test_short_stretches_come_back_whole(count, rng):
    values = rng.normal(size=(count, 17, 3)).astype(np.float32)
    smooth = low_pass(values, np.arange(count) / 30, 6.0)
    assert smooth.shape == values.shape
    assert smooth.dtype == values.dtype
    assert np.isfinite(smooth).all()
    if count < 4:
        np.testing.assert_array_equal(smooth, values)


def test_a_varying_rate_is_no_other_motion():
    times = np.cumsum(np.r_[0, np.tile([0.010, 0.023], 300)])
    wave = np.sin(2 * np.pi * times)[:, None]
    np.testing.assert_allclose(low_pass(wave, times, 6.0)[20:-20], wave[20:-20], atol=0.01)


def test_what_frames_cannot_hold_is_not_filtered(rng):
    values, times = rng.normal(size=(50, 3)), np.arange(50) / 10
    assert not is_smoothable(times, 6.0)
    assert is_smoothable(times, 2.0)
    np.testing.assert_array_equal(low_pass(values, times, 6.0), values)
