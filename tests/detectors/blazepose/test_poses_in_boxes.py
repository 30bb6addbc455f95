"""Several people with a network that sees one: whose body belongs to which box, and how keypoints are steadied."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.blazepose.one_euro_filter import OneEuroFilter
from detectors.blazepose.poses_in_boxes import MIN_FIT, PADDING, MultiPersonPose, fit
from detectors.blazepose.types import PoseDetection, RotatedRoi
from detectors.boxes.types import BoxDetections
from tests.people import COCO_STANDING as STANDING
from tests.people import body

HEIGHT, WIDTH = 480, 640
FRAME = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def box_of(person: PoseDetection) -> np.ndarray:
    low, high = person.keypoints.min(axis=0), person.keypoints.max(axis=0)
    return np.r_[low - 8, high + 8].astype(np.float32)


class Stage:
    """A network that finds the person whose hips are nearest to the middle of a region, as far as it reaches."""

    def __init__(self) -> None:
        self.people: list[PoseDetection] = []
        self.regions: list[RotatedRoi] = []

    def __call__(self, frame: np.ndarray, region: RotatedRoi) -> tuple[PoseDetection, RotatedRoi] | None:
        self.regions.append(region)
        away = [float(np.hypot(*(self.hips(p) - (region.x, region.y)))) for p in self.people]
        if not away or min(away) > region.side / 2:
            return None
        person = self.people[int(np.argmin(away))]
        x, y = self.hips(person)
        return person, RotatedRoi.of_circle(x, y, x, y - 100)

    @staticmethod
    def hips(person: PoseDetection) -> np.ndarray:
        return person.keypoints[11:13].mean(axis=0)


def seen(*people: PoseDetection) -> BoxDetections:
    boxes = np.array([box_of(person) for person in people], np.float32).reshape(-1, 4)
    return BoxDetections(boxes, np.linspace(0.9, 0.5, len(people), dtype=np.float32))


def run(stage: Stage, perbox: MultiPersonPose, people: list[PoseDetection], boxes: BoxDetections | None = None):
    stage.people = people
    return perbox.step(FRAME, seen(*people) if boxes is None else boxes)


def test_somebody_new_is_looked_at_twice_and_then_once_a_frame():
    stage = Stage()
    perbox = MultiPersonPose(stage)
    for t in range(10):
        found = run(stage, perbox, [body(100 + 3 * t), body(400)])
        assert len(found) == 2
    assert len(stage.regions) == 2 * 2 + 9 * 2
    assert stage.regions[0] == RotatedRoi.of_box(box_of(body(100)))
    assert stage.regions[-1].x == pytest.approx(400, abs=1)


def test_everybody_keeps_the_box_and_score_that_they_were_seen_with():
    stage = Stage()
    people = [body(400), body(100, height=90)]
    found = run(stage, MultiPersonPose(stage), people)
    np.testing.assert_array_equal(found.boxes, seen(*people).boxes)
    np.testing.assert_array_equal(found.box_scores, seen(*people).scores)
    np.testing.assert_allclose(found.keypoints, np.stack([p.keypoints for p in people]))


def test_people_who_cross_do_not_pass_their_bodies_on():
    stage = Stage()
    perbox = MultiPersonPose(stage)
    for t in range(41):
        man, woman = body(200 + 4 * t), body(360 - 4 * t, height=150)
        hidden = abs(man.keypoints[0, 0] - woman.keypoints[0, 0]) < 20
        found = run(stage, perbox, [man] if hidden else [man, woman])
        for person, box in zip([man, woman], found.boxes, strict=False):
            assert np.abs(box - box_of(person)).max() < 1e-3
        if len(found) == 2:
            assert np.abs(found.keypoints[0] - man.keypoints).max() < 12  # steadied keypoints lag a little
            assert np.abs(found.keypoints[1] - woman.keypoints).max() < 12


def test_a_box_without_its_own_body_is_nobody():
    stage = Stage()
    person, dog = body(200), np.array([[150, 290, 260, 350]], np.float32)
    boxes = BoxDetections(np.concatenate([seen(person).boxes, dog]), np.array([0.9, 0.5], np.float32))
    assert len(run(stage, MultiPersonPose(stage), [person], boxes)) == 1
    assert len(run(stage, MultiPersonPose(stage), [], boxes)) == 0
    assert len(run(stage, MultiPersonPose(stage), [person], seen())) == 0


def test_a_cut_to_somebody_else_leaves_nothing_behind():
    stage = Stage()
    perbox = MultiPersonPose(stage)
    for _ in range(5):
        run(stage, perbox, [body(200)])
    after = body(500, height=300)
    np.testing.assert_array_equal(run(stage, perbox, [after]).keypoints[0], after.keypoints)


def test_a_region_turns_with_the_person():
    assert RotatedRoi.of_circle(100, 100, 100, 60) == RotatedRoi(100, 100, PADDING * 80, 0.0)
    assert RotatedRoi.of_circle(100, 100, 140, 100).angle == pytest.approx(math.pi / 2)  # head to the right
    assert RotatedRoi.of_circle(100, 100, 60, 100).angle == pytest.approx(-math.pi / 2)
    assert abs(RotatedRoi.of_circle(100, 100, 100, 140).angle) == pytest.approx(math.pi)


def test_what_is_outside_the_picture_does_not_count_against_a_body():
    whole = body(300, y=460, height=400)  # the picture ends below the knees
    scores = np.where(whole.keypoints[:, 1] < HEIGHT, whole.scores, 0.2).astype(np.float32)
    box = np.r_[box_of(whole)[:3], HEIGHT - 1].astype(np.float32)
    assert fit(PoseDetection(whole.keypoints, scores), box, HEIGHT, WIDTH) > 0.7
    assert fit(body(300), box_of(body(300)), HEIGHT, WIDTH) > 0.7
    assert fit(body(300), box_of(body(390)), HEIGHT, WIDTH) < MIN_FIT
    assert fit(PoseDetection(whole.keypoints, np.zeros(17, np.float32)), box, HEIGHT, WIDTH) == 0


def test_steadying_calms_a_standing_person_and_follows_a_moving_one(rng):
    steady, size = OneEuroFilter(), 300.0
    noisy = [STANDING * size + rng.normal(0, 1, (17, 2)) for _ in range(200)]
    calm = np.stack([steady(points, size) for points in noisy])
    assert np.diff(calm, axis=0)[20:].std() < 0.6 * np.diff(noisy, axis=0)[20:].std()
    assert np.abs(calm[20:] - STANDING * size).mean() < np.abs(np.stack(noisy)[20:] - STANDING * size).mean()
    steady = OneEuroFilter()
    walk = [STANDING * size + (6.0 * t, 0) for t in range(60)]
    lag = walk[-1] - [steady(points, size) for points in walk][-1]
    assert np.abs(lag).max() < 6.0  # less than a frame
