"""Everybody is found, followed and told apart; the networks are replaced by people whose places are known."""

import numpy as np
import pytest

from detectors.blazepose.headless_search import HeadlessSearch
from detectors.blazepose.landmarker_pool import mirrored_answer, mirrored_region
from detectors.blazepose.multi_person_tracker import HELD_FRAMES, PATIENCE_FRAMES, MultiPersonTracker
from detectors.blazepose.search_plan import SearchPlan
from detectors.blazepose.types import PoseDetection, RotatedRoi
from detectors.pose_geometry import body_center, body_size, share_on_body
from tests.people import body, standing

HEIGHT, WIDTH, SIZE = 480, 640, 160


class World:
    """People at known places in every frame, seen by networks that make no mistakes but those that are asked for.

    Args:
        places: Per frame the x of everybody who is there [px].
        found: Per frame the places that the person detector finds; everybody if left out.
        odd: x of a thing that looks like a person from one side only.
    """

    def __init__(self, places, found=None, odd=()):
        self.places, self.found, self.odd = places, found or places, odd
        self.num_looks = 0

    def frames(self):
        for number in range(len(self.places)):
            frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            frame[0, 0, 0], frame[0, 0, 1] = number % 256, number // 256
            yield frame

    @staticmethod
    def number(frame):
        return int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1])

    def look(self, frame, regions, is_mirrored):
        self.num_looks += len(regions)
        return [self._look(self.number(frame), region, is_mirrored) for region in regions]

    def _look(self, number, region, is_mirrored):
        present = [x for x in self.places[number] if abs(x - region.x) < SIZE / 4]
        if not present:
            return None
        x = min(present, key=lambda each: abs(each - region.x))
        seen = body(x)
        if x in self.odd:  # another pose from every side
            seen = body(x + 0.5 * region.side * (is_mirrored - 0.5) + 40 * region.angle)
        return seen, region_of(x)

    def find(self, frame, part):
        x0, _, x1, _ = part
        return [region_of(x) for x in self.found[self.number(frame)] if x0 <= x < x1]

    def track(self):
        """Return per frame the x of everybody who is found, rounded, from left to right."""
        self.tracker = MultiPersonTracker(self.look, self.find)
        answers = list(self.tracker(self.frames()))
        return [sorted(round(float(body_center(pose)[0])) for pose in people.keypoints) for people in answers]


def region_of(x):
    return RotatedRoi.of_circle(x, 240, x, 240 - SIZE / 1.25)


def middle(x):
    return round(float(body_center(standing(x, 240, SIZE))[0]))


def test_everybody_is_there_in_every_frame():
    world = World([[100, 320, 520]] * 40)
    assert world.track() == [[middle(x) for x in (100, 320, 520)]] * 40


def test_people_who_move_keep_their_filters():
    places = [[100 + 4 * t, 520 - 2 * t] for t in range(60)]
    for seen, truth in zip(World(places).track()[5:], places[5:], strict=True):
        assert np.abs(np.array(seen) - [middle(x) for x in sorted(truth)]).max() < 25  # the one-euro filter lags


def test_who_is_found_late_is_followed_back():
    found = [[100]] * 20 + [[100, 400]] * 40
    assert World([[100, 400]] * 60, found).track() == [[middle(100), middle(400)]] * 60


def test_who_comes_later_is_not_seen_before():
    places = [[100]] * 20 + [[100, 400]] * 60
    assert World(places).track() == [[middle(x) for x in frame] for frame in places]


def test_who_is_hidden_for_a_moment_is_found_again():
    places = [[100, 400]] * 20 + [[100]] * (PATIENCE_FRAMES // 2) + [[100, 400]] * 20
    found = [[100, 400]] + [[100]] * (len(places) - 1)  # only by looking where he was
    assert World(places, found).track() == [[middle(x) for x in frame] for frame in places]


def test_two_people_who_are_one_are_one():
    """Both stand in one place from frame 20 on, as if one region had slid onto the other."""
    places = [[200 + min(t, 20) * 4, 360 - min(t, 20) * 4] for t in range(60)]
    seen = World(places).track()
    assert len(seen[0]) == 2
    assert all(len(frame) == 1 for frame in seen[25:])


def test_what_looks_like_a_person_from_one_side_only_is_none():
    world = World([[100, 400]] * 40, odd=(400,))
    assert world.track() == [[middle(100)]] * 40


def test_a_part_of_a_body_is_nobody():
    """Two legs with an arm, seen as a smaller bent body, lie on the bones of the person; a child beside does not."""
    whole, part = body(300, 240, 300), standing(300, 240, 300)
    part[:11] = part[11:13].repeat([6, 5], axis=0) + np.random.default_rng(0).normal(0, 4, (11, 2))
    assert share_on_body(part, whole.keypoints, 0.06) > 0.9
    assert share_on_body(body(300, 240, 300).keypoints, part, 0.06) < 0.7
    for x in (380, 420):
        assert share_on_body(body(x, 300, 150).keypoints, whole.keypoints, 0.06) < 0.3


def test_what_looks_like_a_person_for_less_than_a_confirmation_is_none():
    places = [[100]] * 20 + [[100, 400]] * 9 + [[100]] * 30
    assert World(places).track() == [[middle(100)]] * len(places)


def test_somebody_behind_a_passer_by_stays_the_same():
    """They meet in the middle, where for some frames only the one in front can be seen."""
    places = [[100 + 8 * t, 400 - 4 * t] for t in range(70)]
    visible = [frame if abs(frame[0] - frame[1]) > 40 else frame[:1] for frame in places]
    found = [places[0], *[[]] * (len(places) - 1)]  # by their regions only: nobody is found anew
    seen = World(visible, found).track()
    assert [len(frame) for frame in seen] == [len(frame) for frame in visible]


def test_a_region_at_the_upper_border_is_tried_where_something_moves():
    room = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    search = HeadlessSearch(HEIGHT, WIDTH)
    assert search.next(room, []) is None  # nothing to compare with
    assert search.next(room, []) is None
    walker = room.copy()
    walker[:, 300:380] = 20
    region = search.next(walker, [])
    assert region is not None
    assert abs(region.x - 340) < 80
    assert region.y < HEIGHT / 4  # hips; the head would be above the picture
    car = walker.copy()
    car[200:, :200] = 20
    assert search.next(car, []) is None  # what moves does not reach up to the border
    assert search.next(room, [np.array([300, 0, 380, 480])]) is None  # the walker is followed already


def test_a_cut_begins_anew():
    world = World([[100]] * 30 + [[500]] * 30)
    frames = list(world.frames())
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8).repeat(40, axis=0).repeat(40, axis=1)
    for number, frame in enumerate(frames):
        frame[40:] = noise[40:] if number >= 30 else noise[:-40][::-1]
    world.frames = lambda: iter(frames)
    assert world.track() == [[middle(100)]] * 30 + [[middle(500)]] * 30
    assert world.tracker.events["cut"] == 1


@pytest.mark.parametrize("count", [0, 1, HELD_FRAMES, HELD_FRAMES + 1])
def test_every_frame_is_answered(count):
    assert World([[100]] * count).track() == [[middle(100)]] * count


def test_nobody_is_an_empty_frame():
    assert World([[]] * 10).track() == [[]] * 10


def test_one_person_costs_little_more_than_a_look_per_frame():
    world = World([[100]] * 240)
    world.track()
    assert world.num_looks < 1.2 * 240


def test_the_plan_covers_the_picture_at_every_scale():
    plan = SearchPlan(480, 640)
    for parts in (plan.coarse, plan.fine):
        covered = np.zeros((480, 640), bool)
        for x0, y0, x1, y1 in parts:
            assert 0 <= x0 < x1 <= 640
            assert 0 <= y0 < y1 <= 480
            covered[y0:y1, x0:x1] = True
        assert covered.all()
    turns = [plan.next() for _ in range(4 * (len(plan.coarse) + len(plan.fine)))]
    assert set(turns) == {*plan.coarse, *plan.fine}


def test_what_is_seen_in_the_mirror_is_put_back():
    seen, region = body(100), region_of(100)
    turned = mirrored_region(RotatedRoi(30, 40, 50, 0.2), WIDTH)
    assert (turned.x, turned.y, turned.angle) == (WIDTH - 31, 40, -0.2)
    again, _ = mirrored_answer(mirrored_answer((seen, region), WIDTH), WIDTH)
    np.testing.assert_allclose(again.keypoints, seen.keypoints, atol=1e-3)
    flipped = seen.keypoints.copy()
    flipped[:, 0] = WIDTH - 1 - flipped[:, 0]
    answer, _ = mirrored_answer((PoseDetection(flipped, seen.scores), region), WIDTH)
    assert np.abs(answer.keypoints - seen.keypoints).mean() < 0.2 * body_size(seen.keypoints)  # sides exchanged
