"""Numbers that tell how far a result can be trusted, without ground truth; ``app.quality.warnings`` words them."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.geometry.camera import Pinhole
from app.geometry.gravity import ANKLES, stance_level
from app.geometry.world import world_joints
from app.quality.warnings import warnings_of
from app.results import PoseResult, contiguous_segments
from detectors.people import Track
from lifter import metrics
from lifter.lift import Sampling
from lifter.skeletons import LIMB_JOINTS, coco17_to_h36m17

SEAM_REACH_S = 0.03  # frames this near to a window border count as being on it
CONTACT_M = 0.04  # a foot this little above where it stands counts as standing
LIMBS_COCO = slice(5, 17)
BORDER = 0.005  # of the picture's longer side: a joint nearer to the border is cut off

Run = tuple[np.ndarray, np.ndarray]  # values (T, ...), timestamps_s (T,)


def assess(result: PoseResult) -> list[dict[str, Any]]:
    """Return one report per person, ready for JSON; None where a number cannot be had. Nothing is compared across gaps.

    Keys: ``id``; ``coverage``, share of the clip's frames in which the person was observed; ``interpolated``, share of
    the person's own frames that were filled in; ``sides_repaired``, share of observed frames in which left and right
    were exchanged back; ``mean_score`` of observed keypoints; ``height_px``, median height in the picture; ``cut``,
    share of observed frames in which a limb reaches the picture's border; ``reprojection_px``, median distance between
    keypoints and projected 3D over the 12 limb joints, and ``reprojection``, the same over the height; ``jitter``, mean
    acceleration of the joints in units per second squared; ``bone_length_variation``, standard deviation over mean
    (0.03 is 3 %); ``seam_ratio``, speed at window borders over speed elsewhere; ``foot_skating``, mean speed in m/s
    over the floor of a foot that stands; ``warnings``, sentences.
    """
    window, fps = result.provenance["lifter"]["window"], result.provenance["lifter"]["fps"]
    reports = []
    for index, (track, pose) in enumerate(zip(result.tracks, result.poses, strict=True)):
        times = result.video.timestamps_s[track.frames]
        runs = [(pose.joints[run], times[run]) for run in contiguous_segments(track, result.video)]
        lengths = [len(joints) for joints, _ in runs]
        height = height_px(track)
        miss = reprojection_px(result, index)
        report = {
            "id": track.person_id,
            "coverage": round(float(track.observed.sum()) / result.video.num_frames, 4),
            "interpolated": round(float((~track.observed).mean()), 4),
            "sides_repaired": round(float(track.swapped[track.observed].any(axis=1).mean()), 4),
            "mean_score": round(float(track.scores[track.observed].mean()), 4),
            "height_px": round(height, 1),
            "cut": round(cut_share(track, result.video.width, result.video.height), 4),
            "reprojection_px": None if miss is None else round(miss, 2),
            "reprojection": None if miss is None else round(miss / max(height, 1.0), 4),
            "jitter": round(float(np.average([metrics.jitter(*run) for run in runs], weights=lengths)), 3),
            "bone_length_variation": round(metrics.bone_length_variation(pose.joints[track.valid]), 4),
            "seam_ratio": seam_ratio(runs, window, fps),
            "foot_slide": foot_skating(result, index),
        }
        reports.append({**report, "warnings": warnings_of(report, result, track)})
    return reports


def height_px(track: Track) -> float:
    """Return the median height in pixels over observed frames, from the highest to the lowest keypoint."""
    return float(np.median(np.ptp(track.keypoints[track.observed][..., 1].astype(np.float64), axis=1)))


def cut_share(track: Track, width: int, height: int) -> float:
    """Return the share of observed frames in which a limb joint lies at the picture's border or beyond."""
    points, margin = track.keypoints[track.observed][:, LIMBS_COCO], BORDER * max(width, height)
    last = np.array([width - 1, height - 1]) - margin
    return float(((points < margin) | (points > last)).any(axis=(1, 2)).mean())


def reprojection_px(result: PoseResult, index: int) -> float | None:
    """Return the median distance in pixels of projected limb joints from their keypoints; None without a trajectory."""
    track, pose = result.tracks[index], result.poses[index]
    if pose.root is None:
        return None
    limbs = list(LIMB_JOINTS)
    points = (pose.joints[:, limbs] + pose.root[:, None])[track.observed].astype(np.float64)
    keypoints = coco17_to_h36m17(track.keypoints)[track.observed][:, limbs]
    points[..., 2] = np.maximum(points[..., 2], 1e-3)
    camera = Pinhole.of(result.video, result.provenance["options"]["fov_degrees"])
    return float(np.median(np.linalg.norm(camera.project(points) - keypoints, axis=-1)))


def foot_skating(result: PoseResult, index: int) -> float | None:
    """Return how fast standing feet move over the floor [m/s]; None if the camera moves or without meters.

    A foot stands while it is the lower one and near the level at which it mostly is.
    """
    track, pose = result.tracks[index], result.poses[index]
    if pose.root is None or result.shot_of(track).moves:
        return None
    feet = world_joints(result, index)[:, ANKLES]  # (T, 2, 3)
    times = result.video.timestamps_s[track.frames]
    lower = feet[..., 1].argmin(axis=1)
    level = stance_level(feet[track.valid][..., 1].min(axis=1), np.ones(int(track.valid.sum())))
    speeds = []
    for run in contiguous_segments(track, result.video):
        foot, rows = lower[run], np.arange(len(lower))[run]
        stands = feet[rows, foot, 1] < level + CONTACT_M
        pairs = np.flatnonzero(stands[1:] & stands[:-1] & (foot[1:] == foot[:-1]))
        step = feet[rows[pairs + 1], foot[pairs]] - feet[rows[pairs], foot[pairs]]
        speeds.append(np.hypot(step[:, 0], step[:, 2]) / (times[rows[pairs + 1]] - times[rows[pairs]]))
    speed = np.concatenate(speeds)
    return round(float(speed.mean()), 3) if len(speed) else None


def seam_ratio(runs: list[Run], window: int, fps: float) -> float | None:
    """Return the mean speed at window borders over that elsewhere; None where no border lies.

    Args:
        runs: (joints (T, 17, 3), timestamps_s (T,)) of every stretch that was lifted by itself.
        window: Frames per window of the lifter.
        fps: Frames per second that it takes.
    """
    at_seam, elsewhere = [], []
    for joints, times in runs:
        if len(joints) < 2:
            continue
        steps = np.diff(times)
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(-1) / steps
        reach = max(SEAM_REACH_S, float(np.median(steps)))
        seams = times[0] + Sampling.of(times, window, fps).seams_s()
        is_seam = (np.abs((times[1:] + times[:-1])[:, None] / 2 - seams) <= reach).any(1)
        at_seam.append(speed[is_seam])
        elsewhere.append(speed[~is_seam])
    seam, rest = np.concatenate([*at_seam, []]), np.concatenate([*elsewhere, []])
    if len(seam) == 0 or len(rest) == 0 or rest.mean() == 0:
        return None
    return round(float(seam.mean() / rest.mean()), 4)
