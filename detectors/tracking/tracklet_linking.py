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
from dataclasses import dataclass

import numpy as np

from detectors.matching import NEVER, match_hungarian
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
    people = [tracklet for tracklet in tracklets if tracklet.is_sure]
    people = _without_twins(_across_gaps(_without_twins(people), fps))
    people = _alone(people, max_gap_frames, min_track_frames)
    return sorted(_returning(people), key=lambda person: (person.frames[0], person.boxes[0][0]))


def _across_gaps(people: list[Tracklet], fps: float) -> list[Tracklet]:
    """Return ``people`` with all pairs joined that motion and appearance allow, the cheapest way for all together."""
    while True:
        ends, starts = ([_end(person, fps, is_last) for person in people] for is_last in (True, False))
        looks = [_appearance(person) for person in people]
        first = np.array([start.frame for start in starts])
        cost = np.full((len(people), len(people)), NEVER)
        for i, end in enumerate(ends):
            for j in np.flatnonzero((first > end.frame) & (first <= end.frame + LINK_S * fps)):
                cost[i, j] = _gap_cost(end, starts[j], fps, difference(looks[i], looks[j]))
        # A pair that costs MAX_COST is as good as none: the cap makes "nobody" one of the choices.
        chosen = {i: j for i, j in match_hungarian(np.minimum(cost, MAX_COST)) if cost[i, j] < MAX_COST}
        if not chosen:
            return people
        people = _chained(people, chosen)


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
        return NEVER
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


def _without_twins(people: list[Tracklet]) -> list[Tracklet]:
    """Return ``people`` without second detections of somebody seen for longer, who keeps what only they saw."""
    kept: dict[int, Tracklet] = {}
    for i in sorted(range(len(people)), key=lambda i: -len(people[i].frames)):
        twin = next((k for k, other in kept.items() if _is_twin(people[i], other)), None)
        if twin is None:
            kept[i] = people[i]
        else:
            kept[twin] = _joined([kept[twin], people[i]])
    return sorted(kept.values(), key=lambda person: person.frames[0])


def _is_twin(person: Tracklet, other: Tracklet) -> bool:
    """Return whether ``person`` is where ``other`` is or moves through, joint by joint, in most of their frames."""
    frames = np.array(person.frames)
    inside = (frames >= other.frames[0]) & (frames <= other.frames[-1])
    if inside.sum() < TWIN_SHARE * len(frames):
        return False
    own = np.stack(person.keypoints)[inside][:, BODY]  # (K, 13, 2)
    theirs = np.stack(other.keypoints)[:, BODY].reshape(-1, 2 * len(BODY))
    passing = np.stack([np.interp(frames[inside], other.frames, column) for column in theirs.T], axis=1)
    passing = passing.reshape(own.shape)
    sizes = np.linalg.norm(np.ptp(passing, axis=1), axis=-1)
    distance = np.linalg.norm(own - passing, axis=-1).mean(axis=1) / np.maximum(sizes, 1)
    return int((distance < TWIN_DISTANCE).sum()) >= TWIN_SHARE * len(frames)


def _alone(people: list[Tracklet], max_gap_frames: int, min_track_frames: int) -> list[Tracklet]:
    """Return ``people`` with everybody joined who goes on, or comes back, while nobody else is around."""
    done: list[Tracklet] = []
    for number, person in enumerate(people):
        rest = people[number + 1 :]
        real = [i for i, other in enumerate(done) if len(other.frames) >= min_track_frames]
        match: int | None = None
        limit = OTHER_APPEARANCE
        if len(real) == 1 and person.frames[0] - done[real[0]].frames[-1] > max_gap_frames + 1:
            match, limit = real[0], SIMILAR_APPEARANCE
        else:
            goes_on = (i for i in range(len(done)) if _goes_on(done[i], person, [*done, *rest], max_gap_frames))
            match = next(goes_on, None)
        if (
            match is not None and not difference(_appearance(done[match]), _appearance(person)) > limit
        ):  # NaN is no objection
            done[match] = _joined([done[match], person])
        else:
            done.append(person)
    return done


def _goes_on(before: Tracklet, after: Tracklet, others: list[Tracklet], max_gap_frames: int) -> bool:
    """Return whether ``after`` can be ``before`` a moment later, nobody but them being there meanwhile."""
    last, first = before.frames[-1], after.frames[0]
    if not 0 < first - last <= max_gap_frames + 1:
        return False
    if any(p is not before and p.frames[0] <= first and p.frames[-1] >= last for p in others):
        return False
    return is_possible_motion(before.keypoints[-1], after.keypoints[0], first - last)


def _returning(people: list[Tracklet]) -> list[Tracklet]:
    """Return ``people`` with those joined who come back where they vanished, looking like nobody else."""
    done: list[Tracklet] = []
    for number, person in enumerate(people):
        others = [*done, *people[number + 1 :]]
        match = next((i for i, before in enumerate(done) if _comes_back(before, person, others)), None)
        if match is None:
            done.append(person)
        else:
            done[match] = _joined([done[match], person])
    return done


def _comes_back(before: Tracklet, after: Tracklet, others: list[Tracklet]) -> bool:
    """Return whether ``after`` is surely ``before``: place, size, appearance agree, and nobody else looks like it."""
    if before.frames[-1] >= after.frames[0]:
        return False
    size = body_size(before.keypoints[-1])
    resize = abs(math.log(body_size(after.keypoints[0]) / size))
    move = float(np.linalg.norm(body_center(after.keypoints[0]) - body_center(before.keypoints[-1]))) / size
    own = _appearance(after)
    unlike = difference(_appearance(before), own)
    if not (move <= RETURN_PLACE and resize <= RETURN_RESIZE and unlike <= SAME_APPEARANCE):  # NaN agrees with nothing
        return False
    return not any(difference(_appearance(p), own) < unlike + APPEARANCE_MARGIN for p in others if p is not before)


def _appearance(person: Tracklet) -> np.ndarray:
    """Return what ``person`` looks like on average (42,), NaN if hardly seen."""
    rows = np.stack(person.appearance)
    rows = rows[np.isfinite(rows).any(axis=1)]
    return (
        mean_appearance(rows)
        if len(rows) >= MIN_APPEARANCE_SIGHTINGS
        else np.full(len(person.appearance[0]), np.nan, np.float32)
    )


def _chained(people: list[Tracklet], next_of: dict[int, int]) -> list[Tracklet]:
    """Return ``people`` with person i continued by person ``next_of[i]``, in order of appearance."""
    chained = []
    for i in range(len(people)):
        if i in next_of.values():
            continue
        parts = [i]
        while parts[-1] in next_of:
            parts.append(next_of[parts[-1]])
        chained.append(_joined([people[part] for part in parts]))
    return chained


def _joined(parts: list[Tracklet]) -> Tracklet:
    """Return one tracklet of several; where they share a frame, the sighting of the first of them."""
    order = sorted(
        {frame: (p, i) for p, part in reversed(list(enumerate(parts))) for i, frame in enumerate(part.frames)}.items()
    )
    whole = Tracklet(frames=[frame for frame, _ in order], is_sure=any(part.is_sure for part in parts))
    for name in ("keypoints", "scores", "boxes", "appearance"):
        getattr(whole, name).extend(getattr(parts[p], name)[i] for _, (p, i) in order)
    return whole
