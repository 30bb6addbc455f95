"""Box recall, PCK and identity switches of a detector and its tracks in clips with ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from app.evaluation.ground_truth import check_length, read_ground_truth
from app.evaluation.tables import new_table
from app.options import Options
from app.pipeline import detector_of, watch_people
from app.video.reader import VideoReader
from detectors.matching import NEVER, box_iou, match_hungarian
from detectors.people import People, Track
from lifter.skeletons import COCO17

MIN_IOU = 0.5  # a box that overlaps a true one by less is no find
MAX_DISTANCE = 0.5  # between a track and the person it is [longer side of the person's true box]
PCK = (0.1, 0.05)  # distances that count as right [longer side of the person's true box]
PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
LIMBS = [j for j, name in enumerate(COCO17.names) if name.rpartition("_")[2] in PARTS]


@dataclass(frozen=True, eq=False)
class DetectorRun:
    """A clip with truth, and what the detector and the tracks make of it.

    Attributes:
        clip: The video.
        boxes: (F, P, 4) true boxes x0 y0 x1 y1 px; no area where a person is out of the picture.
        keypoints: (F, P, 17, 2) true COCO-17 px.
        hidden: (F, P, 17) bool.
        fps: Frames per second.
        people: What the detector says of every frame.
        tracks: Everybody over time.
    """

    clip: Path
    boxes: np.ndarray
    keypoints: np.ndarray
    hidden: np.ndarray
    fps: float
    people: list[People]
    tracks: list[Track]


@dataclass(frozen=True)
class PersonScore:
    """How well one true person was found.

    Attributes:
        frames: In which the person is in the picture.
        box_recall: Share of them with a detection whose box overlaps the true one by ``MIN_IOU``.
        pck: For every distance of ``PCK`` the share of limb joints within it, of all those frames.
        ids: Tracks that were this person for at least one frame, in order of time.
        switches: How often the person goes on as another track.
    """

    frames: int
    box_recall: float
    pck: tuple[float, ...]
    ids: tuple[int, ...]
    switches: int


def run_detector(clip: Path, truth: Path, options: Options) -> DetectorRun:
    """Return what the detector of ``options`` finds in a clip.

    Raises:
        ValueError: Clip and ground truth have different numbers of frames, or the latter lacks an array.
    """
    arrays = read_ground_truth(truth, ("coco_px", "coco_visible", "bbox", "fps"))
    detector = detector_of(options, "cpu")
    people, tracks, _ = watch_people(VideoReader(clip), detector, options)
    check_length(truth, len(arrays["coco_px"]), clip, len(people))
    return DetectorRun(
        clip, arrays["bbox"], arrays["coco_px"], ~arrays["coco_visible"], float(arrays["fps"]), people, tracks
    )


def score_people(run: DetectorRun) -> list[PersonScore]:
    """Return one entry per true person.

    Detections belong to the people whose boxes they overlap most, one each. A track can be, in every frame in which it
    was observed, whoever its keypoints are within ``MAX_DISTANCE`` of.
    """
    size = np.maximum(run.boxes[..., 2:] - run.boxes[..., :2], 0)  # (F, P, 2)
    is_there, length = size.prod(-1) > 0, size.max(-1)
    has_box = np.zeros(is_there.shape, bool)
    error = np.full((*is_there.shape, len(LIMBS)), np.inf)  # [person sizes]
    for t, seen in enumerate(run.people):
        overlap = box_iou(run.boxes[t], seen.boxes)
        for person, n in match_hungarian(np.where(overlap < MIN_IOU, NEVER, 1 - overlap)):
            has_box[t, person] = True
            distance = np.linalg.norm(seen.keypoints[n] - run.keypoints[t, person], axis=-1)[LIMBS]
            error[t, person] = distance / max(length[t, person], 1)
    holders = _holders(run, length, is_there)
    return [
        PersonScore(
            frames=int(there.sum()),
            box_recall=float(has_box[there, person].mean()) if there.any() else 0.0,
            pck=tuple(float((error[there, person] <= limit).mean()) if there.any() else 0.0 for limit in PCK),
            ids=tuple(dict.fromkeys(holders[person])),
            switches=int(np.count_nonzero(np.diff(holders[person]))),
        )
        for person, there in enumerate(is_there.T)
    ]


def _holders(run: DetectorRun, length: np.ndarray, is_there: np.ndarray) -> list[list[int]]:
    """Return for every person the ids of the tracks that are this person, frame after frame.

    A track goes on as whoever it was while it is near enough; the others are assigned, the nearest together. Source:
    CLEAR MOT, Bernardin and Stiefelhagen 2008.
    """
    count = is_there.shape[1]
    ids = [track.person_id for track in run.tracks]
    cost = np.full((len(run.people), count, len(ids)), NEVER)  # [person sizes]
    for n, track in enumerate(run.tracks):
        frames = track.frames[track.observed]
        distance = np.linalg.norm(track.keypoints[track.observed][:, None] - run.keypoints[frames], axis=-1)
        sizes = distance[..., LIMBS].mean(-1) / np.maximum(length[frames], 1)  # (T, P)
        cost[frames, :, n] = np.where(is_there[frames] & (sizes < MAX_DISTANCE), sizes, NEVER)
    holders: list[list[int]] = [[] for _ in range(count)]
    now: dict[int, int] = {}  # person: track
    for frame in cost:
        kept = {person: n for person, n in now.items() if frame[person, n] < NEVER}
        open_cost = frame.copy()
        open_cost[list(kept)], open_cost[:, list(kept.values())] = NEVER, NEVER
        pairs = kept | dict(match_hungarian(open_cost))
        now = {person: n for person, n in now.items() if n not in pairs.values()} | pairs
        for person, n in pairs.items():
            holders[person].append(ids[n])
    return holders


def tracking_table(clips: Sequence[DetectorRun]) -> Table:
    """Return one row per person of every clip."""
    pck = (f"limb joints within {limit:g} of the person's size" for limit in PCK)
    columns = ["clip, person", "frames in the picture", f"box recall, IoU {MIN_IOU:g}", *pck, "ids",
               "identity switches"]  # fmt: skip
    rows = [
        (f"{run.clip.name}, {person}", str(row.frames), f"{row.box_recall:.3f}", *(f"{p:.3f}" for p in row.pck),
         " ".join(map(str, row.ids)) or "-", str(row.switches))
        for run in clips for person, row in enumerate(score_people(run))
    ]  # fmt: skip
    caption = "a person in a frame without a box counts as wrong in all joints"
    return new_table("people found and identities kept", columns, rows, caption)
