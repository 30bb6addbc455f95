"""Who is lifted: ``--people``."""

from __future__ import annotations

import numpy as np
import pytest

from app.options import Options
from app.person_selection import check_heights, select_people
from detectors.people import Track


def track(person_id: int, size: float, num_seen: int) -> Track:
    keypoints = np.zeros((20, 17, 2), np.float32)
    keypoints[:, 15] = size
    observed = np.arange(20) < num_seen
    return Track(person_id, np.arange(20), keypoints, np.ones((20, 17), np.float32), observed, np.ones(20, bool))


CLIP = [track(0, 100, 20), track(1, 300, 10), track(4, 200, 15)]


@pytest.mark.parametrize(
    ("people", "ids"),
    [("all", [0, 1, 4]), ("largest", [1]), ("longest", [0]), ("4", [4]), ("4, 0", [0, 4]), ("1,1", [1])],
)
def test_people_are_selected_and_keep_their_ids(people, ids):
    assert [t.person_id for t in select_people(CLIP, Options(people=people).people)] == ids


@pytest.mark.parametrize("people", ["all", "largest", "longest"])
def test_nobody_is_no_error(people):
    assert select_people([], people) == []


@pytest.mark.parametrize(("tracks", "text"), [(CLIP, "no person 2, 3 in this clip; found 0, 1, 4"), ([], "nobody")])
def test_absent_people_are_named_with_those_found(tracks, text):
    with pytest.raises(ValueError, match=text):
        select_people(tracks, "0,2,3")


@pytest.mark.parametrize("people", ["", "tallest", "1;2", "-1", "1,", "²"])
def test_options_refuse_what_names_nobody(people):
    with pytest.raises(ValueError, match="people must be"):
        Options(people=people)


def test_heights_by_person_and_for_everybody_else():
    by_id = Options(height="0=1.82, 1 = 1.20,1.75")
    assert [by_id.height_of(person) for person in (0, 1, 2)] == [1.82, 1.20, 1.75]
    assert Options(height="0=1.82").height_of(1) is None
    assert [Options(height="1.82").height_of(person) for person in (0, 7)] == [1.82, 1.82]
    assert Options().height_of(0) is None


@pytest.mark.parametrize("height", ["tall", "0=", "=1.8", "a=1.8", "-1=1.8", "1,8m", "nan", "0=1.8;1=1.2", "²=1.8"])
def test_options_refuse_what_is_no_height(height):
    with pytest.raises(ValueError, match="height must"):
        Options(height=height)


@pytest.mark.parametrize(("height", "text"), [("0=17", "between 0.4 and 2.8"), ("1=1.8,1=1.7", "two values")])
def test_options_refuse_impossible_and_contradictory_heights(height, text):
    with pytest.raises(ValueError, match=text):
        Options(height=height)


def test_heights_of_absent_people_are_refused_with_those_found():
    check_heights(CLIP, "4=1.8,1.7")
    check_heights(CLIP, None)
    with pytest.raises(ValueError, match="no person 2 in this clip; found 0, 1, 4"):
        check_heights(CLIP, "0=1.8,2=1.7")
