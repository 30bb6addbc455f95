"""Whether the camera moves: pictures shifted, zoomed and turned by known amounts, people in the way, nothing to see."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from detectors.people import People
from detectors.tracking.camera_motion import EVERY, CameraMotion
from detectors.tracking.frame_observer import FrameObserver

NOBODY = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def scenery() -> np.ndarray:
    """A large picture (900, 1600, 3) with structure of every size."""
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.uniform(0, 255, (9 * n, 16 * n, 3)), (1600, 900)) for n in (1, 3, 8)]
    return np.mean(layers, axis=0).astype(np.uint8)


def view(scenery, shift=(0.0, 0.0), zoom=1.0, turn=0.0):
    """A picture of 640 x 360 taken from the middle."""
    matrix = cv2.getRotationMatrix2D((800, 450), turn, zoom)
    matrix[:, 2] += np.array([320, 180]) - (800, 450) - shift
    return cv2.warpAffine(scenery, matrix, (640, 360))


def verdict(frames, boxes=NOBODY):
    camera = CameraMotion()
    for frame in frames:
        for _ in range(EVERY):
            camera.see(frame, boxes)
    return camera.is_moving


def test_a_camera_on_a_tripod_stands_still(scenery):
    rng = np.random.default_rng(1)
    frames = [np.clip(view(scenery) + rng.normal(0, 6, (360, 640, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    assert verdict(frames) is False


@pytest.mark.parametrize(
    "path",
    [
        lambda i: {"shift": (0.8 * i, 0.0)},  # 1.5 % of the width after 12 looks: half a degree a second
        lambda i: {"shift": (12 * i, 3.0 * i)},  # fast, out of the first picture
        lambda i: {"shift": (16 * np.sin(i), 0.0)},  # in the hand
        lambda i: {"zoom": 1.006**i},
        lambda i: {"turn": 0.4 * i},
    ],
    ids=["slow pan", "fast pan", "shake", "zoom", "roll"],
)
def test_a_camera_that_moves_is_noticed(scenery, path):
    assert verdict([view(scenery, **path(i)) for i in range(30)]) is True


def test_a_knock_is_no_motion(scenery):
    assert verdict([view(scenery, shift=(20.0 * (i == 7), 0)) for i in range(20)]) is False


def walker_before(scenery, i):
    frame = view(scenery)
    left = 40 + 15 * i
    frame[40:330, left : left + 120] = scenery[:290, 700:820]  # a person as textured as the room
    return frame, np.array([[left, 40, left + 120, 330]], np.float32)


def test_people_who_walk_do_not_count(scenery):
    camera = CameraMotion()
    for i in range(25):
        for _ in range(EVERY):
            camera.see(*walker_before(scenery, i))
    assert camera.is_moving is False
    assert max(camera.shifts) < 0.005


def test_a_blank_wall_tells_nothing():
    assert verdict([np.full((360, 640, 3), 127, np.uint8)] * 20) is None
    assert CameraMotion().is_moving is None


def test_someone_who_fills_the_picture_leaves_nothing_to_tell(scenery):
    everything = np.array([[0, 0, 640, 360]], np.float32)
    assert verdict([view(scenery, shift=(4.0 * i, 0)) for i in range(20)], everything) is None


def test_every_shot_is_judged_by_itself(scenery):
    frames = [view(scenery)] * 60 + [255 - view(scenery, shift=(3.0 * i, 0)) for i in range(60)]
    observer = FrameObserver()
    list(observer.note(People.nobody() for _ in observer.watch(frames)))
    assert observer.cuts == [60]
    assert {start: camera.is_moving for start, camera in observer.cameras.items()} == {0: False, 60: True}


@pytest.mark.parametrize("size", [(2, 2), (9, 1600), (360, 40)])
def test_odd_pictures_do_not_fail(size, rng):
    frames = [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for _ in range(5)]
    assert verdict(frames) in (None, True, False)
