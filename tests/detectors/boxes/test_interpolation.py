"""Boxes between two looks of the box network: every frame has its own, people are never mixed up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.boxes.interpolation import boxed_frames, fill_gaps
from detectors.boxes.types import BoxDetections


def at(*corners: float) -> BoxDetections:
    """People of 40 x 100 px whose boxes begin at these x."""
    boxes = np.array([[x, 20, x + 40, 120] for x in corners], np.float32).reshape(-1, 4)
    return BoxDetections(boxes, np.full(len(corners), 0.9, np.float32))


def left_edges(boxes: BoxDetections) -> list[float]:
    return sorted(boxes.boxes[:, 0].round(3).tolist())


def test_a_person_moves_evenly_from_look_to_look():
    found = list(fill_gaps([at(0), None, None, at(24), None, at(24)]))
    assert [left_edges(boxes) for boxes in found] == [[0], [8], [16], [24], [24], [24]]
    assert [boxes.is_detected for boxes in found] == [True, False, False, True, False, True]


def test_people_who_pass_each_other_keep_their_boxes():
    found = list(fill_gaps([at(0, 100), None, at(90, 12)]))
    assert left_edges(found[1]) == pytest.approx([6, 95])


def test_who_comes_or_goes_has_a_box_all_the_time_between():
    found = list(fill_gaps([at(0), None, None, at(0, 500), None, at(500)]))
    assert [left_edges(boxes) for boxes in found] == [[0], [0, 500], [0, 500], [0, 500], [0, 500], [500]]


def test_behind_the_last_look_boxes_stay():
    assert [left_edges(boxes) for boxes in fill_gaps([at(7), None, None])] == [[7], [7], [7]]


def test_nobody_is_nobody():
    assert [len(boxes.boxes) for boxes in fill_gaps([at(), None, at()])] == [0, 0, 0]
    assert list(fill_gaps([])) == []


@given(num_frames=st.integers(0, 40), every=st.integers(1, 9), size=st.integers(1, 10))
def test_every_frame_comes_back_once_with_the_boxes_of_its_time(num_frames, every, size):
    frames = [np.full((8, 8, 3), index, np.uint8) for index in range(num_frames)]
    batches = [frames[i : i + size] for i in range(0, num_frames, size)]
    looked = []

    def find(some):
        looked.extend(int(frame[0, 0, 0]) for frame in some)
        return [at(int(frame[0, 0, 0])) for frame in some]

    found = list(boxed_frames(batches, find, every))
    assert looked == list(range(0, num_frames, every))
    assert [int(frame[0, 0, 0]) for frame, _ in found] == list(range(num_frames))
    last = looked[-1] if looked else 0
    assert [left_edges(boxes)[0] for _, boxes in found] == pytest.approx([min(i, last) for i in range(num_frames)])


def test_the_network_looks_where_a_shot_begins():
    first = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    second = np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    looked = []

    def find(some):
        looked.extend(int(frame[0, 0, 0]) for frame in some)
        return [at(0) for _ in some]

    assert len(list(boxed_frames([[first] * 4, [second] * 5], find, 30))) == 9
    assert looked == [first[0, 0, 0], second[0, 0, 0]]
