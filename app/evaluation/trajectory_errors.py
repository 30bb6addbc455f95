"""Errors of trajectories, gravity and feet in rendered clips: ``posemamba evaluate clips`` with their flags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table

from app.evaluation.ground_truth import check_length, match_track, read_ground_truth
from app.evaluation.smoothness import certain_track
from app.evaluation.tables import GROUND_TRUTH_2D, new_table
from app.geometry.feet import LEGS, contact_flags, lock_feet
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
FEET_COLUMNS = (
    "feet (frames)", "skating in contact cm/s", "in contact by ground truth cm/s (ground truth)", "lowest joint cm",
    "contact found / right", "joints moved mm", "but knees and ankles mm", "body moved mm", "reprojection px",
)  # fmt: skip
TRUE_SPEED_M_S, TRUE_LIFT_M = 0.3, 0.06  # of a foot in contact by ground truth: slower, and lower above its lowest


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


def feet_table(clip: Path, truth: Path, options: Options) -> Table:
    """Return how feet slide and bodies sink before and after ``lock_feet``, and what that changes.

    "Contact" is what ``app.geometry.feet`` finds in the result of the row; ground truth has its own, by speed and
    height. Joints are compared relative to the pelvis, with constant bones in both rows, and the body by its pelvis.

    Args:
        clip: Video of a camera that stands still.
        truth: npz with ``h36m_world`` and ``coco_px``, see ``ground_truth.read_ground_truth``.
        options: Settings of the run.

    Raises:
        ValueError: The ground truth lacks an array, or has another number of frames than the clip.
    """
    arrays = read_ground_truth(truth, ("h36m_world", "coco_px"))
    free = estimate(clip, replace(options, has_rigid_bones=True, lock_feet=False))
    check_length(truth, len(arrays["h36m_world"]), clip, free.video.num_frames)
    locked = lock_feet(free)
    table = new_table(f"{clip.name}: feet", FEET_COLUMNS)
    for index, track in enumerate(free.tracks):
        person = match_track(track, arrays["coco_px"])
        if person is None:
            continue
        true = arrays["h36m_world"][track.frames, person].astype(np.float64)
        for name, result in (("as estimated", free), ("locked", locked)):
            cells = [*_contact(result, index, true), *_changes(free, result, index)]
            table.add_row(f"person {person}: {name} ({int(track.valid.sum())})", *cells)
    return table


def _contact(result: PoseResult, index: int, true: np.ndarray) -> list[str]:
    track = result.tracks[index]
    rows, times = track.valid, result.video.timestamps_s[track.frames[track.valid]]
    places, true = result.world_joints(index, up="y")[rows], true[rows]
    stands, truly_stands = contact_flags(result, index)[rows], _true_contact(true, times)
    speed, true_speed = (np.linalg.norm(np.diff(x[:, ANKLES][..., [0, 2]], axis=0), axis=-1) / np.diff(times)[:, None]
                         for x in (places, true))  # fmt: skip
    during, truly_during = (flags[1:] & flags[:-1] for flags in (stands, truly_stands))
    agree = float((stands & truly_stands).sum())
    return [
        f"{100 * speed[during].mean():.2f}",
        f"{100 * speed[truly_during].mean():.1f} ({100 * true_speed[truly_during].mean():.1f})",
        f"{100 * places[..., 1].min():.1f}",
        f"{agree / max(truly_stands.sum(), 1):.0%} / {agree / max(stands.sum(), 1):.0%}",
    ]


def _true_contact(joints: np.ndarray, times: np.ndarray) -> np.ndarray:
    feet = joints[:, ANKLES]
    speed = np.linalg.norm(np.gradient(feet[..., [0, 2]], times, axis=0), axis=-1)
    return (speed < TRUE_SPEED_M_S) & (feet[..., 1] < np.percentile(feet[..., 1], 5) + TRUE_LIFT_M)


def _changes(free: PoseResult, result: PoseResult, index: int) -> list[str]:
    before, after = free.poses[index], result.poses[index]
    moved = 1000 * np.linalg.norm(after.joints - before.joints, axis=-1)
    others = np.setdiff1d(np.arange(moved.shape[1]), [joint for leg in LEGS for joint in leg[1:]])
    body = [] if before.root is None or after.root is None else np.linalg.norm(after.root - before.root, axis=1)
    return [
        f"{moved.mean():.1f}", f"{moved[:, others].mean():.1f}", f"{1000 * np.mean(body):.0f}",
        f"{result.quality[index].reprojection_px}",
    ]  # fmt: skip
