"""Cuts are found; flashes, strobe light and fades are none."""

import numpy as np
import pytest

from app.video.reader import VideoReader
from detectors.shot_boundaries import ShotBoundaryDetector


@pytest.fixture(scope="module")
def walk(root):
    return [
        frame[::2, ::2] for frame, _ in zip(VideoReader(root / "assets" / "walk_wave.mp4"), range(64), strict=False)
    ]


@pytest.fixture(scope="module")
def room(root):
    return [
        frame[::2, ::2] for frame, _ in zip(VideoReader(root / "assets" / "empty_room.mp4"), range(16), strict=False)
    ]


def cuts(frames):
    detector = ShotBoundaryDetector()
    return [number for number, frame in enumerate(frames) if detector.is_cut(frame)]


def lit(frame, gain=1.0, offset=0.0):
    return np.clip(gain * frame.astype(np.float32) + offset, 0, 255).astype(np.uint8)


def test_a_shot_has_no_cut(walk):
    assert cuts(walk) == []


def test_a_cut_is_found_once(walk, rng):
    other = rng.integers(0, 255, (8, 6, 3), np.uint8).repeat(30, axis=0).repeat(54, axis=1)
    other = other[: walk[0].shape[0], : walk[0].shape[1]]
    assert cuts([*walk[:20], *[other] * 20]) == [20]


@pytest.mark.parametrize("offset", [60, 110, 160])
def test_strobe_light_is_no_cut(walk, offset):
    assert cuts([lit(frame, offset=offset * (number % 8 == 0)) for number, frame in enumerate(walk)]) == []


@pytest.mark.parametrize("level", [0, 255])
def test_a_flash_that_hides_everything_is_no_cut(walk, level):
    frames = list(walk)
    frames[30] = np.full_like(frames[30], level)
    assert cuts(frames) == []


def test_a_fade_to_black_and_back_is_no_cut(walk):
    gains = np.concatenate([np.ones(16), np.linspace(1, 0, 8), np.linspace(0, 1, 8), np.ones(32)])
    assert cuts([lit(frame, gain=gain) for frame, gain in zip(walk, gains, strict=True)]) == []


def test_a_black_start_does_not_blind_it(walk, rng):
    other = rng.integers(0, 255, (8, 6, 3), np.uint8).repeat(30, axis=0).repeat(54, axis=1)
    other = other[: walk[0].shape[0], : walk[0].shape[1]]
    assert cuts([*[np.zeros_like(other)] * 5, *walk[:20], *[other] * 10]) == [25]


def test_a_cut_behind_black_is_found(walk, rng):
    other = rng.integers(0, 255, (8, 6, 3), np.uint8).repeat(30, axis=0).repeat(54, axis=1)
    other = other[: walk[0].shape[0], : walk[0].shape[1]]
    black = np.zeros_like(other)
    assert cuts([*walk[:20], *[black] * 5, *[other] * 20]) == [25]
