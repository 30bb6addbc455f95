"""A sequence of ``People`` -> one ``Track`` per person: identity, gaps, sides, single bad joints. No model, no video.

Lengths are measured in body sizes (``body_size``), so that nothing depends on the resolution; times in frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from detectors.people import NUM_KEYPOINTS, People, Track

BODY = np.r_[0, 5:17]  # nose and the twelve limb joints; eyes and ears add nothing to place and size
TORSO = np.array([5, 6, 11, 12])  # shoulders and hips
MIRRORED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])  # left and right exchanged

# What a body can do from one frame to the next (the first number) and for every further frame unseen. Chosen for 10 fps
# and hence generous at 60: on real clips, 10 to 30 fps, the 99th percentiles are shift 0.09, log size 0.2, pose 0.14.
MAX_SHIFT, SHIFT_GROWTH, SHIFT_LIMIT = 0.35, 0.10, 1.5  # of the torso's middle [body sizes]; running at 10 fps: 0.33
MAX_RESIZE, RESIZE_GROWTH, RESIZE_LIMIT = 0.50, 0.05, 1.0  # |log(size ratio)|; 0.5 is a factor of 1.65
MAX_REPOSE, REPOSE_GROWTH, REPOSE_LIMIT = 0.30, 0.03, 0.6  # mean joint motion relative to the torso [body sizes]

FLIP = 0.08  # mean joint motion that makes an exchange of sides worth a thought [body sizes]; a side view has less
FLIP_RATIO = 0.5  # ... and one if the exchanged pose lies nearer than this times the motion: measured 0.1
MAX_FLIP_FRAMES = 5  # no body turns round and back this fast at 25 fps; longer, either side could be the wrong one

SPIKE = 0.35  # a joint away from its neighbours' line by this is 0.6 m: out and back, 6 m/s each way even at 10 fps
SPIKE_RETURN = 0.10  # ... while the frames around it agree to this [body sizes]
MAX_SPIKE_FRAMES = 2
UNSEEN_SCORE = 0.1  # a joint below this is a guess ...
CONFIDENT_SCORE = 0.5  # ... and replaced if both frames around the guess are at least this sure
MAX_UNSEEN_FRAMES = 5


def body_size(keypoints: np.ndarray) -> float:
    """Return the diagonal [px] of the box around nose and limbs of keypoints (17, 2), at least 1."""
    spans = np.ptp(keypoints[BODY], axis=0)
    return max(float(np.hypot(spans[0], spans[1])), 1.0)


def body_centre(keypoints: np.ndarray) -> np.ndarray:
    """Return the middle of shoulders and hips (2,) in px: the part that limbs do not move."""
    return keypoints[TORSO].mean(axis=0)


def motion_strain(before: np.ndarray, after: np.ndarray, elapsed: int, drift: np.ndarray | None = None) -> float:
    """Return how hard it is for one body to get from one pose to another; 1 is the most that a body can.

    Poses with left and right exchanged count as the same: detectors do that to the backs of people.

    Args:
        before: (17, 2) keypoints in px.
        after: (17, 2) keypoints in px, ``elapsed`` frames later.
        elapsed: Frames between the two, at least 1. Limits grow with it and then stay.
        drift: (2,) motion of the body's centre before [px per frame]; both standing still and going on are possible.
    """
    extra = elapsed - 1
    size = min(body_size(before), body_size(after))
    move = body_centre(after) - body_centre(before)
    going_on = move if drift is None else move - elapsed * drift
    shift = min(float(np.linalg.norm(move)), float(np.linalg.norm(going_on))) / size
    resize = abs(math.log(body_size(after) / body_size(before)))
    repose = min(_mean_distance(before, pose - move) for pose in (after, after[MIRRORED])) / size
    return max(
        shift / min(MAX_SHIFT + SHIFT_GROWTH * extra, SHIFT_LIMIT),
        resize / min(MAX_RESIZE + RESIZE_GROWTH * extra, RESIZE_LIMIT),
        repose / min(MAX_REPOSE + REPOSE_GROWTH * extra, REPOSE_LIMIT),
    )


def is_possible_motion(before: np.ndarray, after: np.ndarray, elapsed: int, drift: np.ndarray | None = None) -> bool:
    """Return whether one body can do this (see ``motion_strain``); if not, they are two bodies, or one is none."""
    return motion_strain(before, after, elapsed, drift) <= 1


def _mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean distance [px] of nose and limbs of keypoints (17, 2)."""
    return float(np.linalg.norm((first - second)[BODY], axis=1).mean())


def build_tracks(people: list[People], max_gap_frames: int, min_track_frames: int) -> list[Track]:
    """Return one track per person, ids 0, 1, 2, ... in order of appearance; [] if nobody was seen.

    Identity: from frame to frame (and over up to ``max_gap_frames`` unseen ones) a person continues where a body can
    have moved to, the nearest first; a jump that no body can make, such as a cut to somebody else, starts a new track.
    After a longer absence place and size say nothing any more: whoever appears continues the track if the clip had
    one person so far (he left and came back), and is a new person otherwise.

    Repairs, all of them inside observed stretches only: frames with left and right exchanged for a moment are exchanged
    back (``_flips``); joints that jump away and back are interpolated and score 0 (``_spikes``); guessed joints between
    confident ones are interpolated and keep their score (``_unseen_joints``). Clean motion passes unchanged.

    Args:
        people: One entry per frame of the video.
        max_gap_frames: Longest run of unseen frames [frames] whose interpolated keypoints count as an estimate:
            ``observed`` False, ``valid`` True, scores 0. In longer runs ``valid`` is False, too.
        min_track_frames: Tracks seen in fewer frames than this are dropped.

    Raises:
        ValueError: ``max_gap_frames`` is negative or ``min_track_frames`` is below 1.
    """
    if max_gap_frames < 0:
        raise ValueError(f"max_gap_frames must be 0 or more, got {max_gap_frames}")
    if min_track_frames < 1:
        raise ValueError(f"min_track_frames must be 1 or more, got {min_track_frames}")
    sightings = _associate(people, max_gap_frames, min_track_frames)
    kept = [seen for seen in sightings if len(seen.frames) >= min_track_frames]
    return [_to_track(person_id, seen, max_gap_frames) for person_id, seen in enumerate(kept)]


@dataclass(slots=True, eq=False)
class _Sightings:
    """Where one person was seen; grows frame by frame."""

    frames: list[int] = field(default_factory=list)
    keypoints: list[np.ndarray] = field(default_factory=list)  # (17, 2) each
    scores: list[np.ndarray] = field(default_factory=list)  # (17,) each

    def add(self, frame: int, keypoints: np.ndarray, scores: np.ndarray) -> None:
        self.frames.append(frame)
        self.keypoints.append(keypoints)
        self.scores.append(scores)

    def distance(self, frame: int, keypoints: np.ndarray, max_gap_frames: int) -> float:
        """Return the mean joint distance [body sizes] to keypoints (17, 2); inf if this cannot be the same body."""
        elapsed = frame - self.frames[-1]
        last = self.keypoints[-1]
        if elapsed > max_gap_frames + 1 or not is_possible_motion(last, keypoints, elapsed, self._drift()):
            return math.inf
        return _mean_distance(last, keypoints) / body_size(last)

    def _drift(self) -> np.ndarray | None:
        """Return the centre's motion (2,) [px per frame] between the last two sightings."""
        if len(self.frames) < 2:
            return None
        move = body_centre(self.keypoints[-1]) - body_centre(self.keypoints[-2])
        return move / (self.frames[-1] - self.frames[-2])


def _associate(people: list[People], max_gap_frames: int, min_track_frames: int) -> list[_Sightings]:
    """Return the sightings of every person, in order of appearance."""
    everyone: list[_Sightings] = []
    for frame, present in enumerate(people):
        matches = _match(everyone, frame, present, max_gap_frames)
        for index in range(len(present)):
            seen = matches.get(index) or _returning(everyone, frame, max_gap_frames, min_track_frames)
            if seen is None:
                seen = _Sightings()
                everyone.append(seen)
            seen.add(frame, present.keypoints[index], present.scores[index])
    return everyone


def _match(everyone: list[_Sightings], frame: int, present: People, max_gap_frames: int) -> dict[int, _Sightings]:
    """Return person index -> known person, the nearest pairs first, each used once."""
    pairs = sorted(
        (distance, known, index)
        for known, seen in enumerate(everyone)
        for index in range(len(present))
        if (distance := seen.distance(frame, present.keypoints[index], max_gap_frames)) < math.inf
    )
    matches: dict[int, _Sightings] = {}
    taken: set[int] = set()
    for _, known, index in pairs:
        if known not in taken and index not in matches:
            matches[index] = everyone[known]
            taken.add(known)
    return matches


def _returning(everyone: list[_Sightings], frame: int, max_gap_frames: int, min_track_frames: int) -> _Sightings | None:
    """Return the one person this clip has had so far if he has been away for long, else None."""
    real = [seen for seen in everyone if len(seen.frames) >= min_track_frames]
    if len(real) == 1 and frame - real[0].frames[-1] > max_gap_frames + 1:
        return real[0]
    return None


def _to_track(person_id: int, seen: _Sightings, max_gap_frames: int) -> Track:
    """Return the gap-free track of one person."""
    first, num_frames = seen.frames[0], seen.frames[-1] - seen.frames[0] + 1
    rows = np.array(seen.frames) - first
    keypoints = np.zeros((num_frames, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((num_frames, NUM_KEYPOINTS), np.float32)
    observed = np.zeros(num_frames, np.bool_)
    keypoints[rows], scores[rows], observed[rows] = np.stack(seen.keypoints), np.stack(seen.scores), True

    flipped = _flips(keypoints, observed)
    keypoints[flipped], scores[flipped] = keypoints[flipped][:, MIRRORED], scores[flipped][:, MIRRORED]
    bad = _spikes(keypoints, observed)
    scores[bad] = 0
    bad |= _unseen_joints(scores, observed)
    keypoints = _interpolate(keypoints, bad | ~observed[:, None])

    valid = observed.copy()
    for start, stop in _runs(~observed):
        valid[start:stop] = stop - start <= max_gap_frames
    frames = np.arange(first, first + num_frames, dtype=np.int64)
    return Track(person_id, frames, keypoints, scores, observed, valid)


def _flips(keypoints: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return (T,) bool: short runs of frames that begin and end with left and right of the whole body exchanged.

    Shortest runs first, and only where both neighbours last longer or as long: they are right.
    """
    flipped = np.zeros(len(keypoints), np.bool_)
    for start, stop in _runs(observed):
        bounds = [t for t in range(start + 1, stop) if _is_flip(keypoints[t - 1], keypoints[t])]
        bounds = [start, *bounds, stop]
        while len(bounds) > 3:
            lengths = np.diff(bounds)
            shortest = 1 + int(np.argmin(lengths[1:-1]))  # the first and the last run have one neighbour only
            first, last = bounds[shortest : shortest + 2]
            if lengths[shortest] > min(MAX_FLIP_FRAMES, lengths[shortest - 1], lengths[shortest + 1]):
                break
            flipped[first:last] = ~flipped[first:last]
            del bounds[shortest : shortest + 2]
    return flipped


def _is_flip(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether left and right changed places from one frame to the next; keypoints (17, 2)."""
    straight, exchanged = _mean_distance(before, after), _mean_distance(before, after[MIRRORED])
    return straight > FLIP * body_size(before) and exchanged < FLIP_RATIO * straight


def _spikes(keypoints: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return (T, 17) bool: joints that jump away and back within one or two frames.

    Only where the frames around the spike agree with each other, and every frame involved was observed. A fast limb
    passes: it does not come back, or not that far.
    """
    spikes = np.zeros(keypoints.shape[:2], np.bool_)
    sizes = np.array([body_size(pose) for pose in keypoints])
    for length in range(1, MAX_SPIKE_FRAMES + 1):
        for before in range(len(keypoints) - length - 1):
            after = before + length + 1
            if not observed[before : after + 1].all():
                continue
            size = np.median(sizes[[before, after]])  # the spike itself inflates the size of its own frame
            ends = keypoints[[before, after]]
            agrees = np.linalg.norm(ends[1] - ends[0], axis=-1) <= SPIKE_RETURN * size  # (17,)
            away = np.linalg.norm(keypoints[before + 1 : after] - ends.mean(axis=0), axis=-1)  # (length, 17)
            spikes[before + 1 : after] |= agrees & (away > SPIKE * size).all(axis=0)
    return spikes


def _unseen_joints(scores: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return (T, 17) bool: short runs of guessed joints between confident ones, in frames that were observed."""
    unseen = np.zeros(scores.shape, np.bool_)
    for joint in range(NUM_KEYPOINTS):
        guessed = (scores[:, joint] < UNSEEN_SCORE) & observed
        for start, stop in _runs(guessed):
            if start == 0 or stop == len(scores) or stop - start > MAX_UNSEEN_FRAMES:
                continue
            unseen[start:stop, joint] = min(scores[start - 1, joint], scores[stop, joint]) >= CONFIDENT_SCORE
    return unseen


def _interpolate(keypoints: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return keypoints (T, 17, 2) with ``missing`` (T, 17) ones on the line in time between those around them."""
    filled = keypoints.copy()
    time = np.arange(len(keypoints))
    for joint in np.flatnonzero(missing.any(axis=0)):
        gone = missing[:, joint]
        for axis in range(2):
            filled[gone, joint, axis] = np.interp(time[gone], time[~gone], keypoints[~gone, joint, axis])
    return filled


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return (start, stop) of every run of True in (T,) flags."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
