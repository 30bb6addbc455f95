"""``posemamba evaluate``: errors of a lifter against the truth, beside MediaPipe's own 3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.table import Table

from app.options import Options
from app.pipeline import estimate, lift_tracks, ready_lifter
from app.results import PoseResult
from app.video import VideoReader
from detectors.people import Track
from lifter import metrics
from lifter.training.data import Recipe
from lifter.training.evaluate import validate
from lifter.training.motion import load_motion, read_npz

COLUMNS = {
    "limbs_scaled": "12 limbs, root-relative, one scale",
    "limbs_pa": "12 limbs, Procrustes",
    "limbs_root_relative": "12 limbs, root-relative, as it is",
    "all_root_relative": "17 joints, root-relative, as it is",
    "all_pa": "17 joints, Procrustes",
}


def evaluate_clip(clip: Path, truth: Path, options: Options) -> Table:
    """Return ``score_clip`` as a table."""
    table = Table(title=f"{clip.name}: error in mm")
    table.add_column("3D from (frames scored)")
    for column in COLUMNS.values():
        table.add_column(column, justify="right")
    for name, errors in score_clip(clip, truth, options).items():
        table.add_row(f"{name} ({errors['frames']:.0f})", *(f"{errors[column]:.1f}" for column in COLUMNS))
    return table


def score_clip(clip: Path, truth: Path, options: Options) -> dict[str, dict[str, float]]:
    """Return errors in mm (``metrics.summary`` and the number of ``frames``) by where the 3D comes from.

    Rows: ``pixels, this app`` (absent if nobody was found), ``exact 2D, this app``, and for a clip of one person
    ``MediaPipe world landmarks``; with several people a row each.

    Args:
        clip: Video.
        truth: npz with ``h36m_cam`` (F, P, 17, 3) metres in camera axes and ``coco_px`` (F, P, 17, 2), pixel i covering
            [i, i + 1).
        options: Settings of the run.

    Raises:
        ValueError: Clip and truth have different numbers of frames, or the truth lacks an array.
    """
    arrays = read_npz(truth, ("h36m_cam", "coco_px"))
    joints, keypoints = arrays["h36m_cam"], arrays["coco_px"] - 0.5
    result = estimate(clip, options)
    if len(joints) != result.video.num_frames:
        raise ValueError(
            f"{truth} has {len(joints)} frames, {clip} has {result.video.num_frames}; expected the same clip"
        )
    lifter = ready_lifter(options.lifter, options.device, options.backend)
    num_people = joints.shape[1]
    scores = {}
    for person in range(num_people):
        prefix = f"person {person}: " if num_people > 1 else ""
        track = nearest_track(result, keypoints[:, person])
        if track is not None:
            pose, valid = result.poses[track], result.tracks[track].valid
            scores[f"{prefix}pixels, this app"] = _errors(pose.joints[valid], joints[pose.frames[valid], person])
        exact = lift_tracks(lifter, [exact_track(keypoints[:, person])], result.video, options)[0]
        scores[f"{prefix}exact 2D, this app"] = _errors(exact.joints, joints[:, person])
    if num_people == 1:
        world = mediapipe_world(clip)
        seen = np.isfinite(world[:, 0, 0])
        scores["MediaPipe world landmarks"] = _errors(world[seen], joints[seen, 0])
    return scores


def _errors(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {"frames": float(len(predicted)), **metrics.summary(predicted, truth)}


def evaluate_motion(folder: Path, lifter: str) -> Table:
    """Return a table of errors in mm on held-out mocap, with exact and with detector-like 2D."""
    ready = ready_lifter(lifter, "cpu", "auto")
    table = Table(title=f"{lifter} on held-out mocap: 12 limbs, mm, root-relative with one scale / Procrustes")
    for column in ("split", "minutes", "exact 2D", "detector-like 2D"):
        table.add_column(column, justify="right")
    for split in ("validation", "unseen"):
        library = load_motion(folder, split)
        e = validate(ready.model, library, Recipe(normalization=ready.normalization))
        table.add_row(
            split, f"{library.minutes:.1f}", f"{e['clean_p1']:.1f} / {e['clean_p2']:.1f}",
            f"{e['noisy_p1']:.1f} / {e['noisy_p2']:.1f}",
        )  # fmt: skip
    return table


def nearest_track(result: PoseResult, keypoints: np.ndarray) -> int | None:
    """Return the index of the track nearest to keypoints (F, 17, 2) px, None if there is none."""
    if not result.tracks:
        return None
    return int(np.argmin([np.linalg.norm(t.keypoints - keypoints[t.frames], axis=-1).mean() for t in result.tracks]))


def exact_track(keypoints: np.ndarray) -> Track:
    """Return true keypoints (F, 17, 2) px as a track."""
    count = len(keypoints)
    every = np.ones(count, bool)
    return Track(0, np.arange(count), keypoints.astype(np.float32), np.ones((count, 17), np.float32), every, every)


def mediapipe_world(clip: Path) -> np.ndarray:
    """Return MediaPipe's world landmarks as H36M-17 joints (F, 17, 3), metres, camera axes; NaN where it saw nobody."""
    import mediapipe

    from detectors.mediapipe import LANDMARKS
    from lifter.skeletons import COCO17, coco17_to_h36m17

    order = [LANDMARKS[name] for name in COCO17.names]
    frames = []
    with mediapipe.solutions.pose.Pose(model_complexity=1) as pose:
        for frame in VideoReader(clip):
            found = pose.process(frame).pose_world_landmarks
            points = np.full((33, 3), np.nan) if found is None else np.array([(p.x, p.y, p.z) for p in found.landmark])
            frames.append(coco17_to_h36m17(points[order]))
    return np.array(frames)
