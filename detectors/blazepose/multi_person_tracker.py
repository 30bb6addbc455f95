"""``MultiPersonTracker``: everybody in a video, found by a detector of people and followed by their landmarks.

    everybody who is followed   look where the last landmarks lead: the same body, moved as a body can move -> go on
                                not there -> look again for some frames where it was going, then give up
    somewhere in the picture    search a part of it every few frames; whoever is found there and is nobody of the
                                above is looked at from several views: the same pose in all -> followed from now on,
                                tentatively until more views agree ...
    the frames before           ... and backwards, through the last frames, which are held back for that

It knows no model: ``look`` finds landmarks in regions, ``find`` finds regions of people in a part of a picture.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from detectors.blazepose.headless_search import HeadlessSearch
from detectors.blazepose.one_euro_filter import OneEuroFilter
from detectors.blazepose.poses_in_boxes import BOX_MARGIN
from detectors.blazepose.search_plan import Part, SearchPlan
from detectors.blazepose.types import PADDING, VISIBLE_SCORE, PoseDetection, RotatedRoi
from detectors.people import People
from detectors.pose_geometry import (
    BODY,
    body_center,
    body_size,
    grow_box,
    motion_strain,
    oks,
    pose_difference,
    share_on_body,
)
from detectors.shot_boundaries import ShotBoundaryDetector

SEARCH_FRAMES = 3  # one part of the picture is searched every so many frames; every frame while nobody is followed
HELD_FRAMES = 48  # of the past, to follow newcomers backwards: a round of coarse searches and a confirmation take less
HELD_BYTES = 512 << 20  # 20 frames of 4K, as a confirmation takes
PATIENCE_FRAMES = 12  # a person is looked for this long where they were lost
# Views of a body, as factors of the region's side, turns [radians] and whether mirrored. People look alike in all of
# them (median joint distances of 0.01 to 0.05 body sizes on real clips); furniture becomes another body, or none.
VIEWS = ((1.25, 0.0, True), (1.0, 0.3, False), (0.85, 0.0, False), (1.0, 0.0, True))
# A newcomer is tentative: confirmed, from the first held frame on, once so many further views agreed (one every
# TENTATIVE_FRAMES) and fewer than TENTATIVE_FAILURES did not, while never out of sight for longer than
# TENTATIVE_PATIENCE frames.
CONFIRMING_VIEWS, TENTATIVE_FAILURES, TENTATIVE_FRAMES, TENTATIVE_PATIENCE = 6, 2, 3, 2
CLOSER = 0.85  # side of a region in which somebody was lost is once more looked at
MAX_DIFFERENCE = 0.12  # of two views of one body [body sizes]
AUDIT_FRAMES = 12  # one of these views of everybody this often: drift onto furniture is smooth
MAX_FAILURES = 3  # of these in a row that may fail
SAME_BODY_OKS = 0.6  # of two bodies in one frame
# A smaller body most of whose joints lie on somebody's bones is a part of that person, such as two legs and an arm.
PART_SIZE, PART_SHARE, PART_REACH = 0.85, 0.7, 0.06
SAME_PLACE = 0.12  # distance of two regions' centers [sides of the larger without padding] of one person ...
SAME_SIZE = 1.6  # ... and ratio of their sides
REGION_SHARE = 0.5  # of the newest answer in size and turn of the next region; MediaPipe smooths it, too
DRIFT_MEMORY = 0.5  # weight of the past in the running mean of a person's motion

Answer = tuple[PoseDetection, RotatedRoi] | None
Look = Callable[[np.ndarray, "list[RotatedRoi]", bool], "list[Answer]"]
Find = Callable[[np.ndarray, Part], "list[RotatedRoi]"]


@dataclass(slots=True, eq=False)
class TrackedPerson:
    """Somebody who is followed.

    Attributes:
        body: Landmarks when last seen.
        region: Fits the body when last seen, smoothed.
        drift: (2,) motion of the middle of the body [px per frame].
        missing: Frames since last seen.
        unaudited: Frames since a look from another view found the same pose.
        failures: Views since then that did not.
        unconfirmed: Views that must still agree before the person is confirmed and shown.
        is_doubtful: Whether one of the first views disagreed, as of somebody half hidden: without a confirmation not
            shown even if the shot ends.
        steady: Filter of the keypoints, in the order of frames.
    """

    body: PoseDetection
    region: RotatedRoi
    drift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    missing: int = 0
    unaudited: int = 0
    failures: int = 0
    unconfirmed: int = CONFIRMING_VIEWS
    is_doubtful: bool = False
    steady: OneEuroFilter = field(default_factory=OneEuroFilter)

    @property
    def expected_region(self) -> RotatedRoi:
        """Where to look: in the last region, moved on for as long as the person was out of sight."""
        x, y = self.missing * self.drift
        return replace(self.region, x=self.region.x + float(x), y=self.region.y + float(y))

    def moved_to(self, body: PoseDetection, region: RotatedRoi) -> None:
        """Note where the person is seen now."""
        move = (body_center(body.keypoints) - body_center(self.body.keypoints)) / (self.missing + 1)
        self.drift = DRIFT_MEMORY * self.drift + (1 - DRIFT_MEMORY) * move
        turn = (region.angle - self.region.angle + np.pi) % (2 * np.pi) - np.pi
        self.region = replace(
            region,
            side=self.region.side + REGION_SHARE * (region.side - self.region.side),
            angle=self.region.angle + REGION_SHARE * turn,
        )
        self.body, self.missing = body, 0

    def strain_of(self, body: PoseDetection) -> float:
        """Return how hard it is to get to ``body``, see ``motion_strain``."""
        return motion_strain(self.body.keypoints, body.keypoints, self.missing + 1, self.drift)


@dataclass(slots=True, eq=False)
class HeldFrame:
    """A frame that was seen and not answered yet, with who is in it."""

    frame: np.ndarray
    sightings: dict[int, tuple[TrackedPerson, PoseDetection, RotatedRoi]] = field(default_factory=dict)

    def add(self, person: TrackedPerson, body: PoseDetection, region: RotatedRoi) -> None:
        """Note a sighting of ``person``."""
        self.sightings[id(person)] = (person, body, region)

    def has(self, body: PoseDetection) -> bool:
        """Return whether somebody who was seen in the frame is this body, or it is a part of somebody."""
        seen = [other for _, other, _ in self.sightings.values()]
        return _is_any_of(body, seen) or any(_is_part_of(body, other) for other in seen)


class MultiPersonTracker:
    """Frames -> ``People``. One instance for one video.

    Args:
        look: Frame (H, W, 3), regions, whether to look at the mirror image -> per region the body there and the region
            that fits it, None where nobody is.
        find: Frame and a part of it -> regions of the people there, the surest first.

    Attributes:
        events: How often what happened, for the log.
    """

    def __init__(self, look: Look, find: Find) -> None:
        self.events: Counter[str] = Counter()
        self._look, self._find = look, find
        self._cuts = ShotBoundaryDetector()
        self._people: list[TrackedPerson] = []
        self._held: deque[HeldFrame] = deque()
        self._plan: SearchPlan | None = None
        self._headless: HeadlessSearch | None = None
        self._since_search = 0

    def __call__(self, frames: Iterable[np.ndarray]) -> Iterator[People]:
        """Yield the people of every frame in order; up to ``HELD_FRAMES`` frames are held back."""
        for frame in frames:
            if self._cuts.is_cut(frame):
                self.events["cut"] += 1
                yield from self._answers(0)
                self._people, self._plan = [], None
            held = HeldFrame(frame)
            self._follow(held)
            self._search(held)
            self._held.append(held)
            yield from self._answers(min(HELD_FRAMES, HELD_BYTES // frame.nbytes))
        yield from self._answers(0)

    def _answers(self, keep: int) -> Iterator[People]:
        if not keep:  # the shot ends, which is nobody's fault
            for person in self._people:
                person.unconfirmed *= person.is_doubtful
        while len(self._held) > keep:
            yield _to_people(self._held.popleft())

    def _follow(self, held: HeldFrame) -> None:
        """Look for everybody who is followed."""
        answers = self._look(held.frame, [person.expected_region for person in self._people], False)
        lost = [n for n, each in enumerate(answers) if each is None and self._people[n].missing == 0]
        regions = [self._people[number].region for number in lost]
        closer = [replace(region, side=CLOSER * region.side) for region in regions]  # without who stands beside
        for number, answer in zip(lost, self._look(held.frame, closer, False), strict=True):
            answers[number] = answer
        fitting = [
            (person.unconfirmed > 0, person.missing, person.strain_of(answer[0]), number, answer)
            for number, (person, answer) in enumerate(zip(self._people, answers, strict=True))
            if answer is not None and person.strain_of(answer[0]) <= 1
        ]
        seen: dict[int, PoseDetection] = {}
        for *_, number, answer in sorted(fitting, key=lambda each: each[:4]):
            # Of two who are led to one body it is that of who was seen last, or moved more evenly.
            person = self._people[number]
            if _is_any_of(answer[0], list(seen.values())):
                self.events["duplicate"] += 1
            elif not person.missing or self._is_alike(held.frame, *answer, VIEWS[0]):
                seen[number] = answer[0]
                was_missing = person.missing > 1
                person.moved_to(*answer)
                if was_missing:
                    self._follow_back(person)
        for number, person in enumerate(self._people):
            if number not in seen:
                self.events["loss"] += person.missing == 0
                person.missing += 1
        self._audit(held.frame)
        self._people = [person for person in self._people if not self._is_given_up(person)]
        for person in self._people:
            if person.missing == 0:
                held.add(person, person.body, person.region)

    def _is_given_up(self, person: TrackedPerson) -> bool:
        if person.failures < (TENTATIVE_FAILURES if person.unconfirmed else MAX_FAILURES):
            if not person.unconfirmed:
                return person.missing > PATIENCE_FRAMES
            if person.missing <= TENTATIVE_PATIENCE:
                return False
        self.events["false"] += 1
        for held in self._held:  # nobody was there
            held.sightings.pop(id(person), None)
        return True

    def _audit(self, frame: np.ndarray) -> None:
        """Look at those whose turn it is from another view: people look alike in it, hallucinations do not."""
        for number, person in enumerate(self._people):
            person.unaudited += person.missing == 0
            if person.missing or person.unaudited < (TENTATIVE_FRAMES if person.unconfirmed else AUDIT_FRAMES):
                continue
            is_part = any(_is_part_of(person.body, p.body) for p in self._people[:number] if p.missing == 0)
            view = VIEWS[(person.failures + person.unconfirmed) % len(VIEWS)]
            if not is_part and self._is_alike(frame, person.body, person.region, view):
                person.unaudited = 0
                person.unconfirmed = max(0, person.unconfirmed - 1)
                person.failures = person.failures if person.unconfirmed else 0
            else:  # and once more in the next frame
                person.failures += 1

    def _search(self, held: HeldFrame) -> None:
        """Search a part of the picture; where a shot begins all of it, at smaller scales only if nobody is found."""
        height, width = held.frame.shape[:2]
        self._since_search += 1
        if self._plan is None or self._headless is None:
            self._plan, self._headless = SearchPlan(height, width), HeadlessSearch(height, width)
            for part in self._plan.coarse:
                self._search_part(held, part)
            if not self._people:
                for part in self._plan.fine:
                    self._search_part(held, part)
        elif self._since_search >= SEARCH_FRAMES or not self._people:
            self._since_search = 0
            self._search_part(held, self._plan.next())
            region = self._headless.next(held.frame, [p.body.box for p in self._people if p.missing == 0])
            if region is not None:
                self._follow_new(held, [region], is_doubtful=True)

    def _search_part(self, held: HeldFrame, part: Part) -> None:
        """Follow from now on who is new in a part of the frame."""
        self._follow_new(held, [region for region in self._find(held.frame, part) if not self._is_known(region)])

    def _follow_new(self, held: HeldFrame, regions: list[RotatedRoi], is_doubtful: bool = False) -> None:
        """Follow from now on who is in these regions of the frame and not followed yet."""
        for region in regions:
            person = self._confirmed(held, region)
            if person is not None:
                person.is_doubtful |= is_doubtful
                self.events["newcomer"] += 1
                self._people.append(person)
                held.add(person, person.body, person.region)
                self._follow_back(person)

    def _is_known(self, region: RotatedRoi) -> bool:
        """Return whether somebody who is followed is at ``region`` already."""
        for person in self._people:
            other = person.region
            larger, smaller = max(region.side, other.side), min(region.side, other.side)
            apart = np.hypot(region.x - other.x, region.y - other.y)
            if apart < SAME_PLACE * larger / PADDING and larger < SAME_SIZE * smaller:
                return True
        return False

    def _confirmed(self, held: HeldFrame, region: RotatedRoi) -> TrackedPerson | None:
        """Return the person at ``region``; None if nobody, or somebody who is followed already."""
        (rough,) = self._look(held.frame, [region], False)
        if rough is None:
            return None
        (answer,) = self._look(held.frame, [rough[1]], False)
        if answer is None or held.has(answer[0]):
            return None
        odd = 0
        for view in VIEWS:
            odd += not self._is_alike(held.frame, *answer, view)
            if odd > 1:
                self.events["rejected"] += 1
                return None
        return TrackedPerson(*answer, is_doubtful=odd > 0)

    def _is_alike(
        self, frame: np.ndarray, body: PoseDetection, region: RotatedRoi, view: tuple[float, float, bool]
    ) -> bool:
        """Return whether another view of a region shows the same body."""
        factor, turn, is_mirrored = view
        region = replace(region, side=factor * region.side, angle=region.angle + turn)
        (answer,) = self._look(frame, [region], is_mirrored)
        if answer is None:
            return False
        is_seen = body.scores >= VISIBLE_SCORE  # of the others, such as those outside the picture, nothing is known
        return pose_difference(body.keypoints, answer[0].keypoints, is_seen) <= MAX_DIFFERENCE

    def _follow_back(self, found: TrackedPerson) -> None:
        """Follow somebody who was just found backwards through the held frames in which they were not seen."""
        person = TrackedPerson(found.body, found.region)
        for held in reversed(self._held):
            if id(found) in held.sightings:
                return
            (answer,) = self._look(held.frame, [person.region], False)
            if answer is None or person.strain_of(answer[0]) > 1 or held.has(answer[0]):
                return
            person.moved_to(*answer)
            held.add(found, *answer)


def _is_any_of(body: PoseDetection, others: list[PoseDetection]) -> bool:
    """Return whether ``body`` is one of the ``others`` in the same frame."""
    if not others:
        return False
    return bool(
        oks(
            np.stack([other.keypoints for other in others]), body.keypoints[None],
            np.stack([other.scores for other in others]), body.scores[None],
        ).max() > SAME_BODY_OKS
    )  # fmt: skip


def _is_part_of(body: PoseDetection, other: PoseDetection) -> bool:
    """Return whether ``body`` is made of some limbs of ``other``."""
    if body_size(body.keypoints) > PART_SIZE * body_size(other.keypoints):
        return False
    return share_on_body(body.keypoints, other.keypoints, PART_REACH) >= PART_SHARE


def _to_people(held: HeldFrame) -> People:
    """Return the answer for a frame: boxes with a margin inside the picture, keypoints steadied."""
    seen = [sighting for sighting in held.sightings.values() if not sighting[0].unconfirmed]
    if not seen:
        return People.nobody()
    height, width = held.frame.shape[:2]
    limits = np.array([width - 1, height - 1] * 2, np.float32)
    boxes, keypoints, scores = [], [], []
    for person, body, region in seen:
        boxes.append(np.clip(grow_box(body.box, BOX_MARGIN), 0, limits))
        keypoints.append(person.steady(body.keypoints, region.side / PADDING))
        scores.append(body.scores)
    stacked = np.stack(scores).astype(np.float32)
    return People(
        np.stack(boxes).astype(np.float32), stacked[:, BODY].mean(axis=1, dtype=np.float32),
        np.stack(keypoints).astype(np.float32), stacked,
    )  # fmt: skip
