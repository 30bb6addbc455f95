"""Tracklet linking: joins the tracklets of one shot over occlusions, missed detections and absences.

Working offline is the advantage over a tracker that decides frame by frame: both sides of a gap are known, with the
motion before and after it, and all ends and beginnings are paired at once (Hungarian assignment). Two tracklets are
one person only if that is safe; otherwise there are two ids, as a merged person is worse than a split one:

1. ``_across_gaps``: up to ``LINK_S``, where the motion before and after meets, alike in appearance.
2. ``_alone``: with nobody else around, wherever a body can have moved to; and the only person so far who comes back
   after a longer absence, unless they look different.
3. ``_returning``: among several people, back where they vanished, looking the same, and nobody else does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detectors.matching import match_hungarian
from detectors.pose_geometry import BODY, body_center, body_size, is_possible_motion
from detectors.tracking.appearance import difference, mean_appearance
from detectors.tracking.association import Tracklet

LINK_S = 1.5  # longest gap that is crossed by motion
MOTION_S = 0.4  # motion at a tracklet's end is measured over this time ...
MOTION_SIGHTINGS = 4  # ... and at least so many sightings, else it is unknown ...
BRIEF_LINK_S = 0.3  # ... and no longer gap than this is crossed: few sightings may be a false alarm
TAU_S = 1.0  # a motion dies away in this time: who is hidden for long may have stopped
# Standard deviations: place [body sizes] of a meeting predicted from both sides, log size, appearance (``difference``);
# the second number is the growth per second of gap. Clothes: 95 % of sightings of one person differ by less than 0.3.
PLACE, PLACE_GROWTH = 0.12, 0.35
UNKNOWN_MOTION = 0.8  # added to PLACE_GROWTH for a side without a known motion [body sizes per second]
RESIZE, RESIZE_GROWTH = 0.15, 0.15
APPEARANCE = 0.15
MAX_COST = 12.0  # sum of squared standard deviations, and what the uncertainty of a long gap costs
MAX_PLACE = 1.2  # no meeting farther apart than this, whatever the uncertainty [body sizes]
# Means over tracklets of one person differed by 0.03 to 0.26 on real clips, those of two people by 0.13 to 0.65.
OTHER_APPEARANCE = 0.45  # means that differ by this belong to two people
SIMILAR_APPEARANCE = 0.35  # the only person so far comes back looking like this
SAME_APPEARANCE = 0.25  # ... below this they may be one: needed for a return among several people ...
APPEARANCE_MARGIN = 0.1  # ... where everybody else must differ by this much more
MIN_APPEARANCE_SIGHTINGS = 5  # sightings with appearance that make a mean
RETURN_PLACE = 1.0  # a person returns this near to where they vanished [body sizes] ...
RETURN_RESIZE = 0.4  # ... at about this log size
TWIN_SHARE, TWIN_DISTANCE = 0.5, 0.08  # joints this near [body sizes] to those of another for this share of frames


class _Person:
    """A tracklet with what linking asks of it again and again, computed once."""

    def __init__(self, tracklet: Tracklet) -> None:
        self.tracklet = tracklet
        self.first, self.last, self.count = tracklet.frames[0], tracklet.frames[-1], len(tracklet.frames)

    @cached_property
    def appearance(self) -> np.ndarray:
        """What the person looks like on average (42,), NaN if hardly seen."""
        rows = np.stack(self.tracklet.appearance)
        rows = rows[np.isfinite(rows).any(axis=1)]
        if len(rows) < MIN_APPEARANCE_SIGHTINGS:
            return np.full(len(self.tracklet.appearance[0]), np.nan, np.float32)
        return mean_appearance(rows)

    @cached_property
    def frames(self) -> np.ndarray:
        """Frame indices (K,)."""
        return np.array(self.tracklet.frames)

    @cached_property
    def poses(self) -> np.ndarray:
        """Nose and limbs (K, 13, 2) px."""
        return np.stack(self.tracklet.keypoints)[:, BODY]

    @cached_property
    def extent(self) -> np.ndarray:
        """x0, y0, x1, y1 px that hold all poses."""
        return np.concatenate([self.poses.min(axis=(0, 1)), self.poses.max(axis=(0, 1))])

    @cached_property
    def vanishes(self) -> tuple[np.ndarray, float]:
        """Center (2,) and size of the last pose, px."""
        return body_center(self.tracklet.keypoints[-1]), body_size(self.tracklet.keypoints[-1])

    @cached_property
    def appears(self) -> tuple[np.ndarray, float]:
        """Center (2,) and size of the first pose, px."""
        return body_center(self.tracklet.keypoints[0]), body_size(self.tracklet.keypoints[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One end of a tracklet: where, how large, moving how; motion always points forward in time."""

    frame: int
    center: np.ndarray  # (2,) px
    size: float  # px
    motion: np.ndarray | None  # (2,) px per frame


def link(tracklets: list[Tracklet], fps: float, max_gap_frames: int, min_track_frames: int) -> list[Tracklet]:
    """Return one tracklet per person, in order of appearance, from left to right within a frame.

    Args:
        tracklets: Of one shot, in order of appearance.
        fps: Frames per second.
        max_gap_frames: A person alone who is unseen for longer than this may return anywhere.
        min_track_frames: Who is seen in fewer frames than this does not count as another person.
    """
    people = [_Person(tracklet) for tracklet in tracklets if tracklet.is_sure]
    people = _without_twins(_across_gaps(_without_twins(people), fps))
    people = _returning(_alone(people, max_gap_frames, min_track_frames))
    return sorted((p.tracklet for p in people), key=lambda each: (each.frames[0], each.boxes[0][0]))


def _across_gaps(people: list[_Person], fps: float) -> list[_Person]:
    """Return ``people`` with all pairs joined that motion and appearance allow, the cheapest way for all together."""
    while True:
        ends, starts = ([_end(person.tracklet, fps, is_last) for person in people] for is_last in (True, False))
        first = np.array([start.frame for start in starts])
        cost: dict[tuple[int, int], float] = {}
        for i, end in enumerate(ends):
            for j in map(int, np.flatnonzero((first > end.frame) & (first <= end.frame + LINK_S * fps))):
                if _is_out_of_reach(end, starts[j], fps):
                    continue
                each = _gap_cost(end, starts[j], fps, difference(people[i].appearance, people[j].appearance))
                if each < MAX_COST:
                    cost[i, j] = each
        chosen = dict(pair for part in _independent_parts(cost) for pair in _cheapest(part))
        if not chosen:
            return people
        people = _chained(people, chosen)


def _is_out_of_reach(end: _Side, start: _Side, fps: float) -> bool:
    """Return whether no motion that is known leads from ``end`` to ``start``, by distance alone."""
    frames = start.frame - end.frame
    carried = sum(0.0 if side.motion is None else float(np.linalg.norm(side.motion)) for side in (end, start)) / 2
    apart = float(np.linalg.norm(start.center - end.center))
    return apart - carried * min(frames, fps * TAU_S) > MAX_PLACE * min(end.size, start.size)


def _independent_parts(cost: dict[tuple[int, int], float]) -> Iterator[dict[tuple[int, int], float]]:
    """Yield the costs of pairs (i, j) in groups that share neither an end i nor a start j with each other."""
    if not cost:
        return
    rows, columns = np.array(list(cost)).T
    size = int(max(rows.max(), columns.max())) + 1
    links = coo_array((np.ones(len(rows)), (rows, columns + size)), (2 * size, 2 * size))
    _, group_of = connected_components(links, directed=False)
    groups: dict[int, dict[tuple[int, int], float]] = {}
    for pair, value in cost.items():
        groups.setdefault(int(group_of[pair[0]]), {})[pair] = value
    yield from groups.values()


def _cheapest(cost: dict[tuple[int, int], float]) -> Iterator[tuple[int, int]]:
    """Yield the pairs (i, j) that are cheapest together, where a pair that costs MAX_COST is as good as none."""
    rows, columns = (sorted({pair[side] for pair in cost}) for side in (0, 1))
    dense = np.full((len(rows), len(columns)), MAX_COST)  # the cap makes "nobody" one of the choices
    for (i, j), value in cost.items():
        dense[rows.index(i), columns.index(j)] = value
    yield from ((rows[m], columns[n]) for m, n in match_hungarian(dense) if dense[m, n] < MAX_COST)


def _gap_cost(end: _Side, start: _Side, fps: float, unlike: float) -> float:
    """Return -2 log likelihood, up to a constant, that one person crosses from ``end`` to ``start``."""
    gap_s = (start.frame - end.frame) / fps
    size = min(end.size, start.size)
    spread, miss = PLACE + PLACE_GROWTH * gap_s, 0.0
    for side in (end, start):  # where the one leads to, and where the other comes from
        if side.motion is None:
            spread += 0.5 * UNKNOWN_MOTION * gap_s
        motion = np.zeros(2) if side.motion is None else side.motion
        carried = motion * fps * TAU_S * (1 - math.exp(-gap_s / TAU_S))
        miss += 0.5 * float(np.linalg.norm(start.center - end.center - carried)) / size
    is_brief = end.motion is None or start.motion is None
    if gap_s > (BRIEF_LINK_S if is_brief else LINK_S) or miss > MAX_PLACE or unlike > OTHER_APPEARANCE:
        return math.inf
    resize = math.log(start.size / end.size) / (RESIZE + RESIZE_GROWTH * gap_s)
    looks = 0.0 if math.isnan(unlike) else unlike / APPEARANCE
    return (miss / spread) ** 2 + 4 * math.log(spread / PLACE) + resize**2 + looks**2


def _end(person: Tracklet, fps: float, is_last: bool = True) -> _Side:
    """Return the last moment of ``person``, or the first one."""
    moment = person.frames[-1 if is_last else 0]
    near = [i for i, frame in enumerate(person.frames) if abs(moment - frame) <= MOTION_S * fps]
    return _side(person, near, moment)


def _side(person: Tracklet, sightings: list[int], frame: int) -> _Side:
    """Return place, size and motion at ``frame`` from a line through the centers of some sightings."""
    centers = np.stack([body_center(person.keypoints[i]) for i in sightings])
    size = float(np.median([body_size(person.keypoints[i]) for i in sightings]))
    if len(sightings) < MOTION_SIGHTINGS:
        nearest = int(np.argmin([abs(person.frames[i] - frame) for i in sightings]))
        return _Side(frame, centers[nearest], size, None)
    times = np.array([person.frames[i] - frame for i in sightings])
    motion, center = np.polyfit(times, centers, 1)
    return _Side(frame, center, size, motion)


def _without_twins(people: list[_Person]) -> list[_Person]:
    """Return ``people`` without second detections of somebody seen for longer, who keeps what only they saw."""
    kept: dict[int, _Person] = {}
    for i in sorted(range(len(people)), key=lambda i: -people[i].count):
        twin = next((k for k, other in kept.items() if _is_twin(people[i], other)), None)
        if twin is None:
            kept[i] = people[i]
        else:
            kept[twin] = _joined([kept[twin], people[i]])
    return sorted(kept.values(), key=lambda person: person.first)


def _is_twin(person: _Person, other: _Person) -> bool:
    """Return whether ``person`` is where ``other`` is or moves through, joint by joint, in most of their frames."""
    if person.last < other.first or other.last < person.first or _are_apart(person, other):
        return False
    inside = (person.frames >= other.first) & (person.frames <= other.last)
    if inside.sum() < TWIN_SHARE * person.count:
        return False
    own, frames = person.poses[inside], person.frames[inside]  # (K, 13, 2)
    theirs = other.poses.reshape(other.count, -1)
    passing = np.stack([np.interp(frames, other.frames, column) for column in theirs.T], axis=1).reshape(own.shape)
    sizes = np.linalg.norm(np.ptp(passing, axis=1), axis=-1)
    distance = np.linalg.norm(own - passing, axis=-1).mean(axis=1) / np.maximum(sizes, 1)
    return int((distance < TWIN_DISTANCE).sum()) >= TWIN_SHARE * person.count


def _are_apart(person: _Person, other: _Person) -> bool:
    """Return whether two people are never near enough to be twins, wherever they go."""
    low, high = np.maximum(person.extent[:2], other.extent[:2]), np.minimum(person.extent[2:], other.extent[2:])
    reach = TWIN_DISTANCE * max(float(np.hypot(*np.ptp(other.extent.reshape(2, 2), axis=0))), 1.0)
    return bool((low - high > reach).any())


def _alone(people: list[_Person], max_gap_frames: int, min_track_frames: int) -> list[_Person]:
    """Return ``people`` with everybody joined who goes on, or comes back, while nobody else is around."""
    done: list[_Person] = []
    for number, person in enumerate(people):
        real = [i for i, other in enumerate(done) if other.count >= min_track_frames]
        match: int | None = None
        limit = OTHER_APPEARANCE
        if len(real) == 1 and person.first - done[real[0]].last > max_gap_frames + 1:
            match, limit = real[0], SIMILAR_APPEARANCE
        else:
            near = [i for i, before in enumerate(done) if 0 < person.first - before.last <= max_gap_frames + 1]
            around = [*done, *people[number + 1 :]] if near else []
            match = next((i for i in near if _goes_on(done[i], person, around)), None)
        # NaN, nothing known of somebody, is no objection
        if match is not None and not difference(done[match].appearance, person.appearance) > limit:
            done[match] = _joined([done[match], person])
        else:
            done.append(person)
    return done


def _goes_on(before: _Person, after: _Person, others: list[_Person]) -> bool:
    """Return whether ``after`` can be ``before`` a moment later, nobody but them being there in between."""
    if any(p is not before and p.first <= after.first and p.last >= before.last for p in others):
        return False
    elapsed = after.first - before.last
    return is_possible_motion(before.tracklet.keypoints[-1], after.tracklet.keypoints[0], elapsed)


def _returning(people: list[_Person]) -> list[_Person]:
    """Return ``people`` with those joined who come back where they vanished, looking like nobody else."""
    done: list[_Person] = []
    for number, person in enumerate(people):
        rest = people[number + 1 :]
        match = next((i for i, before in enumerate(done) if _comes_back(before, person, done, rest)), None)
        if match is None:
            done.append(person)
        else:
            done[match] = _joined([done[match], person])
    return done


def _comes_back(before: _Person, after: _Person, *others: list[_Person]) -> bool:
    """Return whether ``after`` is surely ``before``: place, size, appearance agree, and nobody else looks like it."""
    if before.last >= after.first:
        return False
    (center, size), (place, new_size) = before.vanishes, after.appears
    if math.hypot(*(place - center)) > RETURN_PLACE * size or abs(math.log(new_size / size)) > RETURN_RESIZE:
        return False
    unlike = difference(before.appearance, after.appearance)
    if not unlike <= SAME_APPEARANCE:  # NaN agrees with nothing
        return False
    return not any(
        difference(p.appearance, after.appearance) < unlike + APPEARANCE_MARGIN
        for group in others for p in group if p is not before
    )  # fmt: skip


def _chained(people: list[_Person], next_of: dict[int, int]) -> list[_Person]:
    """Return ``people`` with person i continued by person ``next_of[i]``, in order of appearance."""
    chained, later = [], set(next_of.values())
    for i in range(len(people)):
        if i in later:
            continue
        parts = [i]
        while parts[-1] in next_of:
            parts.append(next_of[parts[-1]])
        chained.append(_joined([people[part] for part in parts]) if len(parts) > 1 else people[i])
    return chained


def _joined(people: list[_Person]) -> _Person:
    """Return one person of several; where they share a frame, the sighting of the first of them."""
    parts = [person.tracklet for person in people]
    order = sorted(
        {frame: (p, i) for p, part in reversed(list(enumerate(parts))) for i, frame in enumerate(part.frames)}.items()
    )
    whole = Tracklet(frames=[frame for frame, _ in order], is_sure=any(part.is_sure for part in parts))
    for name in ("keypoints", "scores", "boxes", "appearance"):
        getattr(whole, name).extend(getattr(parts[p], name)[i] for _, (p, i) in order)
    return _Person(whole)
