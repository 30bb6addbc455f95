"""Errors of trajectories and of gravity in rendered clips: ``posemamba evaluate clips CLIP --trajectory``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table

from app.evaluation.ground_truth import check_length, match_track, read_ground_truth
from app.evaluation.smoothness import certain_track
from app.evaluation.tables import GROUND_TRUTH_2D, new_table
from app.geometry.gravity import ANKLES, LEVEL, estimate_gravity
from app.geometry.root_trajectory import estimate_root_trajectory
from app.options import Options
from app.pipeline import cached_lifter, estimate, lift_tracks
from app.results import PoseResult
from detectors.people import Track

MM = 1000.0
TRUTH = ("K", "R", "t", "coco_px", "h36m_cam", "h36m_world", "body_height_m")
COLUMNS = (
    "3D from (frames)", "position error mm", "of the distance", "scale-aligned mm", "velocity error mm/s",
    "depth acceleration ratio", "tilt error degrees", "camera height cm (ground truth)",
    "lower ankle cm (ground truth)",
)  # fmt: skip


def trajectory_table(clip: Path, truth: Path, options: Options) -> Table:
    """Return everybody's errors of position in the world, and the tilt's.

    Args:
        clip: Video of a camera that stands still.
        truth: npz with the arrays ``TRUTH``, see ``ground_truth.read_ground_truth``.
        options: Settings; the field of view is that assumed where the true one is not given.

    Raises:
        ValueError: The ground truth lacks an array, or has another number of frames than the clip.
    """
    arrays = read_ground_truth(truth, TRUTH)
    result = estimate(clip, options)
    check_length(truth, len(arrays["t"]), clip, result.video.num_frames)
    table = new_table(f"{clip.name}: trajectories and gravity", COLUMNS)
    side = max(result.video.inner_size)
    fov = float(2 * np.degrees(np.arctan(side / 2 / arrays["K"][0, 0])))
    keypoints = arrays["coco_px"]
    found = [(person, track) for track in result.tracks if (person := match_track(track, keypoints)) is not None]
    exact = [(person, certain_track(keypoints[:, person])) for person in range(keypoints.shape[1])]
    for people, source in ((found, "pixels"), (exact, GROUND_TRUTH_2D)):
        for person, track in people:
            known = replace(options, fov_degrees=fov, height=f"{arrays['body_height_m'][person]:.4f}")
            for settings, what in ((options, f"field of view taken as {options.fov_degrees:g}"), (known, "true size")):
                if source == "pixels" or settings is known:
                    name = f"person {person}: {source}, {what} ({int(track.valid.sum())})"
                    table.add_row(name, *_errors(place_track(track, result, settings), person, arrays))
    return table


def place_track(track: Track, result: PoseResult, options: Options) -> PoseResult:
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
