"""Frame-by-frame association: ``People`` of one shot -> tracklets, unbroken sequences of detections of one person.

Frame by frame, the first half of tracking; ``detectors.tracking.tracklet_linking`` joins tracklets over what is
hidden or missed. A detection goes to the tracklet whose predicted pose and box it resembles most, all pairs of a
frame at once (Hungarian assignment), sure detections first, then the unsure ones (as in ByteTrack). Where two ways to
pair them are as good, nobody is paired: a tracklet ends rather than become somebody else, and linking decides with
both sides in view.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from detectors.matching import NEVER, box_iou, match_hungarian
from detectors.people import NUM_KEYPOINTS, People
from detectors.pose_geometry import MIRRORED, body_center, body_size, motion_strain, oks
from detectors.tracking.appearance import difference

DUPLICATE_OKS = 0.65  # two detections this alike are one person; two people who cross in front of each other reach 0.46
SURE_SCORE = 0.4  # of a box; those below wait until the others are paired, and make no person by themselves
COAST_S = 0.1  # a tracklet goes on over this long without a sighting; longer is left to linking
MEMORY_S = 0.2  # motion is measured over this time
OKS_WEIGHT = 0.75  # of the pose, next to the box's overlap
RESTING_SLACK, SPEED_SLACK, START_SLACK = 0.04, 0.6, 2.0  # tolerance [body sizes], plus so much per second since seen
MIN_SIMILARITY = 0.5  # among others, also those who vanished there up to LOST_S ago; a person alone may do ...
LOST_S = 1.0  # ... whatever a body can (``motion_strain``)
UNSURE_SIMILARITY = 0.5  # for unsure detections
AMBIGUOUS = 0.1  # two ways to pair people whose similarities differ by less are as good
OTHER_APPEARANCE = 0.5  # ``difference`` of two sightings that are certainly two people
CROWDED_IOU = 0.15  # a box that overlaps another by this may show the other's appearance


@dataclass(slots=True, eq=False)
class Tracklet:
    """Sightings of one person, in order of frames.

    Attributes:
        frames: Frame indices, increasing.
        keypoints: (17, 2) px each.
        scores: (17,) each.
        boxes: (4,) px each.
        appearance: (42,) each, NaN where unseen or where somebody else may be in the box.
        is_sure: Whether any sighting was.
    """

    frames: list[int] = field(default_factory=list)
    keypoints: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    appearance: list[np.ndarray] = field(default_factory=list)
    is_sure: bool = False

    def drift(self, fps: float) -> np.ndarray | None:
        """Return the center's motion (2,) [px per frame] over the last ``MEMORY_S``; None after one sighting."""
        if len(self.frames) < 2:
            return None
        before = next(
            (i for i in range(len(self.frames) - 2, 0, -1) if self.frames[-1] - self.frames[i] >= MEMORY_S * fps), 0
        )
        move = body_center(self.keypoints[-1]) - body_center(self.keypoints[before])
        return move / (self.frames[-1] - self.frames[before])


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Everybody in one frame, one detection per person; arrays as in ``People``."""

    people: People
    appearance: np.ndarray  # (N, 42), NaN where crowded
    is_sure: np.ndarray  # (N,)


def suppress_duplicates(people: People, appearance: np.ndarray) -> Sightings:
    """Return the people of a frame without second detections of the same body; the surer one stays.

    Args:
        people: N detections.
        appearance: (N, 42) float32, see ``detectors.tracking.appearance``.
    """
    order = np.argsort(-people.box_scores, kind="stable")
    alike = oks(people.keypoints, people.keypoints, people.scores, people.scores)
    kept: list[int] = []
    for index in order:
        if all(max(alike[index, other], alike[other, index]) < DUPLICATE_OKS for other in kept):
            kept.append(int(index))
    rows = np.array(sorted(kept), np.int64)
    chosen = People(people.boxes[rows], people.box_scores[rows], people.keypoints[rows], people.scores[rows])
    overlap = box_iou(chosen.boxes, chosen.boxes) - np.eye(len(chosen))
    is_crowded = (overlap > CROWDED_IOU).any(axis=1)
    # A one-person detector's score tells how much of the body shows, no choice between people depends on it.
    is_sure = (chosen.box_scores >= SURE_SCORE) | (len(chosen) == 1)
    return Sightings(chosen, np.where(is_crowded[:, None], np.nan, appearance[rows]).astype(np.float32), is_sure)


def tracklets(sightings: list[Sightings], first_frame: int, fps: float) -> list[Tracklet]:
    """Return the tracklets of one shot in order of appearance, from left to right within a frame.

    Args:
        sightings: One entry per frame of the shot.
        first_frame: Index of the shot's first frame in the video.
        fps: Frames per second.
    """
    everyone: list[Tracklet] = []
    coast = 1 + max(1, round(COAST_S * fps))
    for frame, seen in enumerate(sightings, first_frame):
        active = [tracklet for tracklet in everyone if frame - tracklet.frames[-1] <= coast]
        lost = [t for t in everyone if coast < frame - t.frames[-1] <= LOST_S * fps]
        matches = _match(active, lost, seen, frame, fps)
        for index in np.argsort(seen.people.boxes[:, 0], kind="stable"):
            tracklet = matches.get(int(index))
            if tracklet is None:
                tracklet = Tracklet()
                everyone.append(tracklet)
            tracklet.frames.append(frame)
            tracklet.keypoints.append(seen.people.keypoints[index])
            tracklet.scores.append(seen.people.scores[index])
            tracklet.boxes.append(seen.people.boxes[index])
            tracklet.appearance.append(seen.appearance[index])
            tracklet.is_sure |= bool(seen.is_sure[index])
    return everyone


def _match(
    active: list[Tracklet], lost: list[Tracklet], seen: Sightings, frame: int, fps: float
) -> dict[int, Tracklet]:
    """Return detection index -> the active tracklet that it continues; ``lost`` ones may be back, too."""
    if not active or not len(seen.people):
        return {}
    similarity, strain = _similarity(active, seen, frame, fps)
    possible = strain <= 1
    num_claims = possible.sum(axis=0) + _num_near(lost, seen, frame)  # (N,)
    has_rivals = (num_claims > 1)[None] | (possible.sum(axis=1) > 1)[:, None]
    possible &= ~has_rivals | (similarity >= MIN_SIMILARITY)
    cost = np.where(possible, 1 - similarity + 0.5 * strain, NEVER)  # (M, N)
    sure = np.flatnonzero(seen.is_sure)
    pairs = {int(sure[n]): m for m, n in match_hungarian(cost[:, sure])}
    left = np.array([m for m in range(len(active)) if m not in pairs.values()], np.int64)
    unsure = np.flatnonzero(~seen.is_sure)
    doubtful = np.where(similarity < UNSURE_SIMILARITY, NEVER, cost)[np.ix_(left, unsure)]
    pairs |= {int(unsure[n]): int(left[m]) for m, n in match_hungarian(doubtful)}
    return {n: active[m] for n, m in pairs.items() if not _is_ambiguous(m, n, pairs, cost)}


def _num_near(lost: list[Tracklet], seen: Sightings, frame: int) -> np.ndarray:
    """Return (N,): how many of the ``lost`` can be where each detection is."""
    return np.array(
        [
            sum(motion_strain(tracklet.keypoints[-1], pose, frame - tracklet.frames[-1]) <= 1 for tracklet in lost)
            for pose in seen.people.keypoints
        ]
    )


def _is_ambiguous(m: int, n: int, pairs: dict[int, int], cost: np.ndarray) -> bool:
    """Return whether detection ``n`` could as well continue another tracklet than ``m``, everybody considered."""
    detection_of = {tracklet: detection for detection, tracklet in pairs.items()}
    for other in range(len(cost)):
        if other == m or cost[other, n] >= NEVER:
            continue
        swapped, paired = cost[other, n], cost[m, n]
        if (taken := detection_of.get(other)) is not None:
            swapped, paired = swapped + cost[m, taken], paired + cost[other, taken]
        if swapped - paired < AMBIGUOUS:
            return True
    return False


def _similarity(active: list[Tracklet], seen: Sightings, frame: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (M, N) similarity in [0, 1] of predicted tracklets and detections, and their (M, N) motion strain."""
    elapsed = np.array([frame - tracklet.frames[-1] for tracklet in active])
    drifts = [tracklet.drift(fps) for tracklet in active]
    ahead = np.stack([np.zeros(2) if d is None else d * t for d, t in zip(drifts, elapsed, strict=True)])  # (M, 2)
    last = np.stack([tracklet.keypoints[-1] for tracklet in active])
    scores = np.stack([tracklet.scores[-1] for tracklet in active])
    boxes = np.stack([tracklet.boxes[-1] for tracklet in active]) + np.tile(ahead, 2)
    pace = np.array([START_SLACK if drift is None else SPEED_SLACK for drift in drifts])
    slack = RESTING_SLACK + pace * elapsed / fps
    likeness = np.maximum(
        *(oks(last + ahead[:, None], seen.people.keypoints[:, order], scores, seen.people.scores[:, order], slack)
          for order in (np.arange(NUM_KEYPOINTS), MIRRORED))
    )  # fmt: skip
    similarity = OKS_WEIGHT * likeness + (1 - OKS_WEIGHT) * box_iou(boxes, seen.people.boxes)
    strain = np.full(similarity.shape, np.inf)
    for m, tracklet in enumerate(active):
        reach = 2 * body_size(last[m])  # nobody farther away can pass ``motion_strain``, which is slow
        for n, pose in enumerate(seen.people.keypoints):
            move = np.abs(body_center(pose) - body_center(last[m]))
            if min(move.max(), np.abs(move - ahead[m]).max()) <= reach and not (
                difference(tracklet.appearance[-1], seen.appearance[n]) > OTHER_APPEARANCE
            ):
                strain[m, n] = motion_strain(last[m], pose, int(elapsed[m]), drifts[m])
    return similarity, strain
