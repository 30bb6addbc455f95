"""How well people are placed in the world, against rendered clips: ``posemamba evaluate CLIP --placement``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table

from app.evaluation.smoothness import certain_track
from app.geometry.gravity import ANKLES, LEVEL, estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.options import Options
from app.pipeline import cached_lifter, estimate, lift_tracks
from app.results import PoseResult
from detectors.people import Track
from lifter.training.mocap.library import read_npz

MM = 1000.0
TRUTH = ("K", "R", "t", "coco_px", "h36m_cam", "h36m_world", "body_height_m")
COLUMNS = (
    "3D from (frames)", "place mm", "share", "one scale", "velocity mm/s", "depth jitter", "tilt", "camera cm (truth)",
    "lower ankle cm (truth)",
)  # fmt: skip


def placement_tables(clips: Iterable[Path], truths: Iterable[Path], options: Options) -> list[Table]:
    """Return a table per clip with everybody's errors of place, and the tilt's.

    Args:
        clips: Videos of a camera that stands still.
        truths: Of each, an npz with ``K``, ``R``, ``t``, ``coco_px``, ``h36m_cam``, ``h36m_world``, ``body_height_m``.
        options: Settings; the field of view is that assumed where the true one is not given.

    Raises:
        ValueError: A truth lacks an array, or has another number of frames than its clip.
    """
    return [_table(clip, read_npz(path, TRUTH), options) for clip, path in zip(clips, truths, strict=True)]


def _table(clip: Path, truth: dict[str, np.ndarray], options: Options) -> Table:
    result = estimate(clip, options)
    if len(truth["t"]) != result.video.num_frames:
        raise ValueError(f"truth has {len(truth['t'])} frames, {clip} has {result.video.num_frames}; expected the same")
    table = Table(title=f"{clip.name}: where people are, and which way is up")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    side = max(result.video.width, result.video.height)
    fov = float(2 * np.degrees(np.arctan(side / 2 / truth["K"][0, 0])))
    seen = [(person_of(track, truth), track) for track in result.tracks]
    exact = [(p, certain_track(truth["coco_px"][:, p] - 0.5)) for p in range(truth["coco_px"].shape[1])]
    for people, source in ((seen, "pixels"), (exact, "exact 2D")):
        for person, track in people:
            known = replace(options, fov_degrees=fov, height_m=float(truth["body_height_m"][person]))
            for settings, what in ((options, f"field of view taken as {options.fov_degrees:g}"), (known, "true size")):
                if source == "pixels" or settings is known:
                    name = f"person {person}: {source}, {what} ({int(track.valid.sum())})"
                    table.add_row(name, *_errors(placed(track, result, settings), person, truth))
    return table


def person_of(track: Track, truth: dict[str, np.ndarray]) -> int:
    """Return which person of the truth a track is nearest to in the picture."""
    distance = np.linalg.norm(track.keypoints[:, None] - truth["coco_px"][track.frames], axis=-1)  # (T, P, 17)
    return int(distance[track.valid].mean(axis=(0, 2)).argmin())


def placed(track: Track, result: PoseResult, options: Options) -> PoseResult:
    """Return a result with this track alone, lifted and placed under other options."""
    lifter = cached_lifter(options.lifter, options.device, options.backend)
    (pose,) = lift_tracks(lifter, [track], result.video, options)
    pose = estimate_root_trajectory(track, pose, result.video, options)
    shot = estimate_gravity(replace(result.shot_of(track), up=None), [track], [pose], result.video)
    return replace(result, tracks=[track], poses=[pose], shots=(replace(shot, start=0, stop=result.video.num_frames),))


def _errors(result: PoseResult, person: int, truth: dict[str, np.ndarray]) -> list[str]:
    track, pose = result.tracks[0], result.poses[0]
    if pose.root is None:
        raise ValueError(f"{result.models.lifter} has no meters, hence no trajectory to score")
    frames, times = track.frames[track.valid], result.video.timestamps_s[track.frames[track.valid]]
    root, true = pose.root[track.valid].astype(np.float64), truth["h36m_cam"][frames, person, 0].astype(np.float64)
    miss = np.linalg.norm(root - true, axis=1)
    scaled = np.linalg.norm(root * (root * true).sum() / (root**2).sum() - true, axis=1)
    speed = np.linalg.norm(np.diff(root - true, axis=0), axis=1) / np.diff(times)
    jitter = [np.abs(np.diff(depth, n=2)).mean() for depth in (root[:, 2], true[:, 2])]
    up, true_up = result.shots[0].up, truth["R"][0] @ [0, 1, 0]
    tilt = np.degrees(np.arccos(np.clip((LEVEL if up is None else up) @ true_up, -1, 1)))
    eye = -(truth["R"][0].T @ truth["t"][0])[1]
    ankles = [100 * np.percentile(x[:, ANKLES, 1].min(axis=1), (5, 50, 95)) for x in (
        result.world_joints(0, up="y")[track.valid], truth["h36m_world"][frames, person])]  # fmt: skip
    ours, theirs = (", ".join(f"{value:.1f}" for value in values) for values in ankles)
    return [
        f"{MM * miss.mean():.0f}", f"{(miss / true[:, 2]).mean():.1%}", f"{MM * scaled.mean():.0f}",
        f"{MM * speed.mean():.0f}", f"{jitter[0] / jitter[1]:.2f}", f"{tilt:.2f}",
        f"{100 * (result.camera_height(0) or 0):.0f} ({100 * eye:.0f})", f"{ours} ({theirs})",
    ]  # fmt: skip
