"""Errors of the 3D of clips with ground truth, by where the 2D comes from and beside MediaPipe's own 3D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.table import Table

from app.evaluation.ground_truth import (
    check_length,
    distances_px,
    match_track,
    read_ground_truth,
)
from app.evaluation.mediapipe_world import mediapipe_world
from app.evaluation.smoothness import certain_track
from app.evaluation.tables import new_table
from app.options import Options
from app.pipeline import cached_lifter, choice_of, estimate, lift_tracks
from app.results import PoseResult
from lifter import metrics

COLUMNS = {
    "limbs_scaled": "MPJPE (scale-aligned)",
    "limbs_pa": "PA-MPJPE",
    "limbs_in_plane": "in plane",
    "limbs_depth": "in depth",
    "limbs_root_relative": "MPJPE",
    "all_root_relative": "MPJPE, 17 joints",
    "all_pa": "PA-MPJPE, 17 joints",
    "jitter_ratio": "acceleration ratio",
}
EXPLAINED = "12 limb joints where not 17; in plane and in depth: parts of MPJPE (scale-aligned)"
SHORT_WINDOW = 81  # frames; a network that has learned to use long windows is better in them than in these
PIXELS, EXACT, MEDIAPIPE = "pixels, this app", "ground-truth 2D, this app", "MediaPipe world landmarks"
PIXELS_SHORT, EXACT_SHORT = (f"{source}, windows of {SHORT_WINDOW} frames" for source in ("pixels", "ground-truth 2D"))


@dataclass(frozen=True)
class Score:
    """Errors of one person in one clip: ``metrics.summary`` in mm and the jitter ratio, over ``frames`` frames."""

    source: str
    person: int
    frames: int
    errors: dict[str, float]


def evaluate_clips(truths: Mapping[Path, Path], options: Options) -> list[Table]:
    """Return a table per clip, and for more than one person in all a table of means over people.

    Args:
        truths: Ground truth of every clip.
        options: Settings of the run.

    Raises:
        FileNotFoundError: A clip or its ground truth is missing.
        ValueError: As ``score_clip``.
    """
    scores = {clip: score_clip(clip, truth, options) for clip, truth in truths.items()}
    tables = [_clip_table(clip, rows, f"2D by {choice_of(options).about}") for clip, rows in scores.items()]
    people = {(clip, row.person) for clip, rows in scores.items() for row in rows}
    if len(people) > 1:
        tables.append(_mean_table([row for rows in scores.values() for row in rows], len(scores), len(people)))
    return tables


def _clip_table(clip: Path, scores: list[Score], caption: str) -> Table:
    several = len({score.person for score in scores}) > 1
    rows = [
        (f"person {score.person}: " * several + f"{score.source} ({score.frames})", *_numbers(score.errors))
        for score in scores
    ]
    return new_table(
        f"{clip.name}: error in mm", ["3D from (frames scored)", *COLUMNS.values()], rows, f"{EXPLAINED}; {caption}"
    )


def _mean_table(scores: list[Score], num_clips: int, num_people: int) -> Table:
    table = new_table(
        f"mean over {num_people} people in {num_clips} clips, each counting once: error in mm",
        ["3D from (people scored)", *COLUMNS.values()],
        caption=f"{EXPLAINED}; a row over fewer people leaves out those who were not found",
    )
    for source in (PIXELS, PIXELS_SHORT, EXACT, EXACT_SHORT, MEDIAPIPE):
        rows = [score.errors for score in scores if score.source == source]
        if rows:
            mean = {name: float(np.mean([row[name] for row in rows])) for name in COLUMNS}
            table.add_row(f"{source} ({len(rows)})", *_numbers(mean))
    return table


def _numbers(errors: dict[str, float]) -> list[str]:
    return [f"{errors[name]:.2f}" if name == "jitter_ratio" else f"{errors[name]:.1f}" for name in COLUMNS]


def score_clip(clip: Path, truth: Path, options: Options) -> list[Score]:
    """Return errors by person and by where the 3D comes from.

    Sources: the clip's pixels through the app (absent for somebody who was not found) and ground-truth 2D through the
    app, both in windows of the lifter and in short ones, and MediaPipe's own world landmarks, each of whose frames
    counts for the person it is nearest to in the picture.

    Args:
        clip: Video.
        truth: npz with ``h36m_cam`` and ``coco_px``, see ``ground_truth.read_ground_truth``.
        options: Settings of the run.

    Raises:
        ValueError: Clip and ground truth have different numbers of frames, or the latter lacks an array.
    """
    arrays = read_ground_truth(truth, ("h36m_cam", "coco_px"))
    joints, keypoints = arrays["h36m_cam"], arrays["coco_px"]
    result = estimate(clip, options)
    check_length(truth, len(joints), clip, result.video.num_frames)
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    networks = [(lifter, PIXELS, EXACT, result)]
    if not lifter.model.config.fixed_length and lifter.window > SHORT_WINDOW:  # type: ignore[union-attr]
        short = replace(lifter, window=SHORT_WINDOW)
        again = replace(result, poses=lift_tracks(short, result.tracks, result.video, options))
        networks.append((short, PIXELS_SHORT, EXACT_SHORT, again))
    world, world_px = mediapipe_world(clip)
    followed = nearest_person(world_px, keypoints)
    scores = []
    for person in range(joints.shape[1]):
        sources = {pixels: frames_of(lifted, keypoints, person) for _, pixels, _, lifted in networks}
        for network, _, exact, _ in networks:
            (pose,) = lift_tracks(network, [certain_track(keypoints[:, person])], result.video, options)
            sources[exact] = pose.frames, pose.joints
        own = np.flatnonzero(followed == person)
        sources[MEDIAPIPE] = own, world[own]
        for source, (chosen, predicted) in sources.items():
            if len(chosen):
                errors = _errors(predicted, joints[chosen, person], result.video.timestamps_s[chosen])
                scores.append(Score(source, person, len(chosen), errors))
    return scores


def _errors(predicted: np.ndarray, truth: np.ndarray, timestamps_s: np.ndarray) -> dict[str, float]:
    ratio = metrics.jitter_ratio(predicted, truth, timestamps_s)
    return {**metrics.summary(predicted, truth), "jitter_ratio": ratio}


def frames_of(result: PoseResult, keypoints: np.ndarray, person: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames (T,) and joints (T, 17, 3) that the app has for a person of the ground truth.

    Where two tracks of a person share a frame, the longer one is taken.

    Args:
        result: Of the app.
        keypoints: (F, P, 17, 2) true keypoints, pixels.
        person: Index into P.
    """
    joints = np.zeros((len(keypoints), 17, 3), np.float32)
    is_known = np.zeros(len(keypoints), bool)
    for track, pose in sorted(zip(result.tracks, result.poses, strict=True), key=lambda both: len(both[0].frames)):
        if match_track(track, keypoints) == person:
            frames = track.frames[track.valid]
            joints[frames], is_known[frames] = pose.joints[track.valid], True
    return np.flatnonzero(is_known), joints[is_known]


def nearest_person(seen: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Return (F,) int64, which person of ``keypoints`` (F, P, 17, 2) is nearest to ``seen`` (F, 17, 2); -1 for NaN."""
    distance = distances_px(seen, keypoints)
    return np.where(np.isfinite(distance[:, 0]), distance.argmin(1), -1)
