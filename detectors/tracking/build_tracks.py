"""A sequence of ``People`` -> one ``Track`` per person: shots, tracklets, people, then gaps and repair. No model.

We track by ourselves, not with the tracker inside ultralytics: a clip is read to its end before tracks are needed, so
both sides of an occlusion can be used (``detectors.tracking.tracklet_linking``); keypoints tell people who overlap
apart better than boxes do; it serves every detector alike; and it is not AGPL.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from detectors.people import NUM_KEYPOINTS, People, Track
from detectors.tracking.appearance import unknown_appearance
from detectors.tracking.association import Tracklet, suppress_duplicates, tracklets
from detectors.tracking.keypoint_repair import UNSEEN_SCORE, repair
from detectors.tracking.segments import contiguous_segments
from detectors.tracking.tracklet_linking import link


def build_tracks(
    people: list[People],
    max_gap_frames: int,
    min_track_frames: int,
    fps: float = 25.0,
    cuts: Sequence[int] = (),
    appearance: list[np.ndarray] | None = None,
    picture: tuple[int, int] | None = None,
) -> list[Track]:
    """Return one track per person, ids 0, 1, 2, ... in order of appearance; [] if nobody was seen.

    Identity: a person continues where a body can have moved to, over occlusions where motion and appearance lead
    (``detectors.tracking.association``, ``detectors.tracking.tracklet_linking``); a jump that no body can make, such
    as a cut to somebody else, starts a new track. After a longer absence whoever appears continues the track if the
    clip had one person so far (they left and came back) and is a new person otherwise, unless place, size
    and appearance agree.

    Whoever has no joint that was seen in any frame (``detectors.tracking.keypoint_repair.UNSEEN_SCORE``) is nobody.

    Repair (``detectors.tracking.keypoint_repair``): sides swapped for less than half of the track, outliers, unseen
    joints.

    Args:
        people: One entry per frame of the video.
        max_gap_frames: Longest run of unseen frames [frames] whose interpolated keypoints count as an estimate:
            ``observed`` False, ``valid`` True, scores 0. In longer runs ``valid`` is False, too.
        min_track_frames: People seen in fewer frames than this are dropped.
        fps: Frames per second.
        cuts: Frames that begin a new shot; nobody is followed across.
        appearance: What everybody looks like (``detectors.tracking.appearance``), one (N, 42) array per frame;
            None if not known.
        picture: Width and height [px]; unsure joints outside of it are guesses. None if not known.

    Raises:
        ValueError: ``max_gap_frames`` is negative, ``min_track_frames`` below 1, ``fps`` not positive, or
            ``appearance`` are not those of ``people``.
    """
    if max_gap_frames < 0:
        raise ValueError(f"max_gap_frames must be 0 or more, got {max_gap_frames}")
    if min_track_frames < 1:
        raise ValueError(f"min_track_frames must be 1 or more, got {min_track_frames}")
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    appearance = [unknown_appearance(len(present)) for present in people] if appearance is None else appearance
    if [len(rows) for rows in appearance] != [len(present) for present in people]:
        raise ValueError("appearance must have one row per person in every frame of people")
    sightings = [suppress_duplicates(present, rows) for present, rows in zip(people, appearance, strict=True)]
    bounds = sorted({0, *(cut for cut in cuts if 0 < cut < len(people)), len(people)})
    everyone: list[Tracklet] = []
    for start, stop in itertools.pairwise(bounds):
        everyone += link(tracklets(sightings[start:stop], start, fps), fps, max_gap_frames, min_track_frames)
    kept = [person for person in everyone if len(person.frames) >= min_track_frames and _is_body(person)]
    return [_to_track(person_id, person, max_gap_frames, fps, picture) for person_id, person in enumerate(kept)]


def _is_body(person: Tracklet) -> bool:
    """Return whether any joint was ever seen; a box in which all of them are guesses is furniture."""
    return bool(np.stack(person.scores).max() >= UNSEEN_SCORE)


def _to_track(
    person_id: int, person: Tracklet, max_gap_frames: int, fps: float, picture: tuple[int, int] | None
) -> Track:
    """Return the gap-free, repaired track of one person."""
    first, num_frames = person.frames[0], person.frames[-1] - person.frames[0] + 1
    rows = np.array(person.frames) - first
    keypoints = np.zeros((num_frames, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((num_frames, NUM_KEYPOINTS), np.float32)
    observed = np.zeros(num_frames, np.bool_)
    keypoints[rows], scores[rows], observed[rows] = np.stack(person.keypoints), np.stack(person.scores), True
    keypoints, scores, repaired, swapped = repair(keypoints, scores, observed, fps, picture)
    valid = observed.copy()
    for start, stop in contiguous_segments(~observed):
        valid[start:stop] = stop - start <= max_gap_frames
    frames = np.arange(first, first + num_frames, dtype=np.int64)
    return Track(person_id, frames, keypoints, scores, observed, valid, repaired, swapped)
