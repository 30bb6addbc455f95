"""Windows: nothing is lost, doubled or stretched, whatever the number of frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifter.lift import OVERLAP
from lifter.windows import Windows

WINDOW = 243


def plan(num_frames: int) -> Windows:
    return Windows(num_frames, WINDOW, int(WINDOW * OVERLAP))


@st.composite
def plans(draw) -> Windows:
    window = draw(st.integers(1, 60))
    return Windows(draw(st.integers(1, 500)), window, draw(st.integers(0, window - 1)))


def summed_weights(windows: Windows) -> np.ndarray:
    length = min(windows.window, windows.num_frames)
    total = np.zeros(windows.num_frames)
    np.add.at(total, windows.indices[:, :length], windows.weights[:, :length])
    return total


@given(plans(), st.integers(0, 2**32 - 1))
def test_merge_inverts_split(windows, seed):
    frames = np.random.default_rng(seed).normal(size=(windows.num_frames, 3, 2))
    # a weighted mean of equal numbers, in float64: a few roundings per overlapping window, of which there are up to 60
    np.testing.assert_allclose(windows.merge(windows.split(frames)), frames, rtol=0, atol=1e-12)


@given(plans())
def test_weights_of_a_frame_sum_to_one(windows):
    assert windows.weights.shape == windows.indices.shape == (len(windows.starts), windows.window)
    assert (windows.weights >= 0).all()
    np.testing.assert_allclose(summed_weights(windows), 1, rtol=0, atol=1e-12)  # float64 roundings


@given(plans())
def test_frames_keep_their_order_and_pace(windows):
    steps = np.diff(windows.indices, axis=1)
    if windows.num_frames >= windows.window:
        assert (steps == 1).all()
    else:
        assert windows.indices[0].tolist() == [min(i, windows.num_frames - 1) for i in range(windows.window)]


@given(plans())
def test_windows_cover_the_clip_and_overlap_enough(windows):
    starts = windows.starts
    assert starts[0] == 0
    assert starts[-1] + windows.window == max(windows.window, windows.num_frames)
    assert (np.diff(starts) >= 1).all()
    assert (np.diff(starts) <= windows.window - windows.overlap).all()
    # evenly spread: no more windows than needed
    rest = max(windows.num_frames - windows.window, 0)
    assert len(starts) == 1 + int(np.ceil(rest / (windows.window - windows.overlap)))


@pytest.mark.parametrize("num_frames", [1, 5, 242])
def test_padding_has_no_say_in_the_result(num_frames):
    windows = plan(num_frames)
    frames = windows.split(np.arange(float(num_frames)))
    frames[:, num_frames:] = 1e9
    assert windows.merge(frames).tolist() == list(range(num_frames))


@pytest.mark.parametrize("num_frames", [244, 405, 486, 729, 1000])
def test_an_offset_between_windows_is_faded_over_their_overlap(num_frames):
    # Every second window is off by 1. Without overlap the result would jump by 1; with it, the steepest ramp of
    # neighbors that share s frames is 1/s, and where three windows meet two ramps may add up.
    windows = plan(num_frames)
    offsets = np.arange(len(windows.starts)) % 2
    merged = windows.merge(np.repeat(offsets[:, None].astype(float), WINDOW, axis=1))
    shared = WINDOW - np.diff(windows.starts).max()
    assert np.abs(np.diff(merged)).max() <= 2 / shared
    assert merged.min() >= 0
    assert merged.max() <= 1


def test_known_ramp():
    weights = Windows(6, 4, 2).weights  # frames 0-3 and 2-5 share two frames
    assert weights.tolist() == [[1, 1, 0.75, 0.25], [0.25, 0.75, 1, 1]]


@pytest.mark.parametrize(("num_frames", "window", "overlap"), [(0, 5, 2), (-1, 5, 2), (5, 5, 5), (5, 5, -1), (5, 0, 0)])
def test_impossible_plans_are_refused(num_frames, window, overlap):
    with pytest.raises(ValueError, match="need at least 1 frame and 0 <= overlap < window"):
        Windows(num_frames, window, overlap)


def test_arrays_of_another_plan_are_refused():
    with pytest.raises(ValueError, match="sequence must have 300 frames, got 299"):
        plan(300).split(np.zeros((299, 17, 2)))
    with pytest.raises(ValueError, match=r"windows must have shape \(2, 243\)"):
        plan(300).merge(np.zeros((1, 243, 17, 3)))
