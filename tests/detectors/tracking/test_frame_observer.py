"""What is noted of frames on their way to a detector: cuts and appearance."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.people import People
from detectors.tracking.appearance import appearance_of, difference, mean_appearance
from detectors.tracking.frame_observer import FrameObserver

SQUARE = np.zeros((17, 2), np.float32)
SQUARE[[5, 6, 11, 12, 13, 14]] = [[60, 20], [40, 20], [60, 60], [40, 60], [60, 100], [40, 100]]  # trunk above thighs


def person(keypoints=SQUARE, score=0.9) -> People:
    box = np.array([[40, 20, 60, 100]], np.float32)
    return People(box, np.ones(1, np.float32), keypoints[None], np.full((1, 17), score, np.float32))


def dressed(shirt, trousers) -> np.ndarray:
    frame = np.full((120, 100, 3), 200, np.uint8)
    frame[20:60, 40:61], frame[60:101, 40:61] = shirt, trousers
    return frame


def test_frames_and_people_pass_unchanged_and_are_not_kept():
    frames = [np.full((48, 64, 3), 10 * i, np.uint8) for i in range(9)]
    observer, taken = FrameObserver(), []

    def detector(stream):  # answers in batches of three
        batch = []
        for frame in stream:
            batch.append(frame)
            if len(batch) == 3:
                taken.extend(batch)
                yield from (People.nobody() for _ in batch)
                batch = []

    assert len(list(observer.note(detector(observer.watch(iter(frames)))))) == 9
    assert all(a is b for a, b in zip(frames, taken, strict=True))
    assert [rows.shape for rows in observer.appearance] == [(0, 42)] * 9
    assert not observer._unanswered


def test_cuts_are_noted():
    rng = np.random.default_rng(0)
    shots = [rng.integers(0, 256, (2, 2, 3)).astype(np.uint8).repeat(60, 0).repeat(80, 1) for _ in range(3)]
    frames = [shots[i // 10] for i in range(30)]
    observer = FrameObserver()
    list(observer.watch(frames))
    assert observer.cuts == [10, 20]


@pytest.mark.parametrize(
    ("shirt", "trousers", "low", "high"),
    [
        ((150, 30, 30), (40, 40, 90), 0.0, 0.01),
        ((165, 45, 45), (55, 55, 105), 0.01, 0.3),
        ((30, 120, 40), (150, 130, 100), 0.45, 1.0),
    ],
    ids=["same", "same, brighter", "other"],
)
def test_clothes_tell_people_apart_but_not_the_light(shirt, trousers, low, high):
    first = appearance_of(dressed((150, 30, 30), (40, 40, 90)), person())[0]
    second = appearance_of(dressed(shirt, trousers), person())[0]
    assert low <= difference(first, second) <= high
    assert difference(first, second) == difference(second, first)


def test_unseen_clothes_are_no_difference():
    frame = dressed((150, 30, 30), (40, 40, 90))
    hidden = appearance_of(frame, person(score=0.1))[0]
    outside = appearance_of(frame, person(SQUARE + 500))[0]
    assert np.isnan(hidden).all()
    assert np.isnan(outside).all()
    assert np.isnan(difference(hidden, appearance_of(frame, person())[0]))


def test_the_usual_clothes_are_the_mean_of_what_was_seen():
    rows = np.array([[0.0] * 42, [1.0] * 42, [np.nan] * 42], np.float32)
    rows[:, 21:] = np.nan
    np.testing.assert_array_equal(
        mean_appearance(rows), np.r_[np.full(21, 0.5), np.full(21, np.nan)].astype(np.float32)
    )
