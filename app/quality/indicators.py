"""Numbers that tell how far a result can be trusted, without ground truth; ``app.quality.warnings`` words them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.geometry.camera import Pinhole
from app.geometry.floor import Floor
from app.geometry.gravity import ANKLES, stance_level
from app.geometry.smoothing import is_smoothable
from app.geometry.unseen_joints import unseen_keypoints
from app.geometry.world import to_world, world_places
from app.motion import ModelInfo, Pose3D, Shot, contiguous_segments
from app.options import Options
from app.quality.person_quality import PersonQuality
from app.quality.warnings import warnings_of
from app.video.video_info import VideoInfo
from detectors.people import Track
from lifter import metrics
from lifter.lift import Sampling
from lifter.skeletons import H36M17, LIMB_JOINTS, coco17_to_h36m17

BOUNDARY_REACH_S = 0.03  # frames this near to a window boundary count as being on it
STANDING_M = 0.2  # nobody stands on feet that are higher than this over the lowest joint
CONTACT_M = 0.04  # a foot this little above where it stands counts as standing
LIMBS_COCO = slice(5, 17)
BORDER = 0.005  # of the picture's longer side: a joint nearer to the border is cut off

Run = tuple[np.ndarray, np.ndarray]  # values (T, ...), timestamps_s (T,)


def assess(
    video: VideoInfo,
    track: Track,
    pose: Pose3D,
    shot: Shot,
    floor: Floor | None,
    options: Options,
    models: ModelInfo,
) -> PersonQuality:
    """Return the quality indicators of one person.

    Args:
        video: For frame times and the size of the picture.
        track: Of the person.
        pose: Of the person, with the root where the unit is "m".
        shot: That the track lies in.
        floor: Below the person; None if it is not known.
        options: Field of view, smoothing.
        models: Window and rate of the lifter.
    """
    times = video.timestamps_s[track.frames]
    runs = [(pose.joints[run], times[run]) for run in contiguous_segments(track, video)]
    height = height_px(track)
    miss = reprojection_px(track, pose, Pinhole.of(video, options.fov_degrees))
    jitter = np.average([metrics.jitter(*run) for run in runs], weights=[len(joints) for joints, _ in runs])
    quality = PersonQuality(
        id=track.person_id,
        coverage=round(float(track.observed.sum()) / video.num_frames, 4),
        interpolated=round(float((~track.observed).mean()), 4),
        sides_repaired=round(float(track.swapped[track.observed].any(axis=1).mean()), 4),
        mean_score=round(mean_score(track, pose), 4),
        height_px=round(height, 1),
        truncated=round(truncated_share(track, video), 4),
        reprojection_px=None if miss is None else round(miss, 2),
        reprojection=None if miss is None else round(miss / max(height, 1.0), 4),
        jitter=round(float(jitter), 3),
        bone_length_variation=round(metrics.bone_length_variation(pose.joints[track.valid]), 4),
        window_boundary_ratio=window_boundary_ratio(runs, models.window, models.fps),
        foot_skating=foot_skating(video, track, pose, shot),
    )
    texts = warnings_of(quality, shot, floor, missing_parts(pose.unseen[track.observed]))
    if options.smooth_hz is not None and not is_smoothable(times, options.smooth_hz):
        texts.append(
            f"smoothing with {options.smooth_hz:g} Hz changes nothing at {video.median_fps:.0f} frames per second"
        )
    return replace(quality, warnings=tuple(texts))


def mean_score(track: Track, pose: Pose3D) -> float:
    """Return the mean score of observed keypoints, without those whose joints are unseen."""
    is_seen = track.observed[:, None] & ~unseen_keypoints(pose)
    return float(track.scores[is_seen].mean()) if is_seen.any() else 0.0


def missing_parts(unseen: np.ndarray) -> tuple[str, ...]:
    """Return which limb joints are unseen in most frames, from the feet up: "ankles" for both, "left wrist" for one.

    Args:
        unseen: (T, 17) bool, H36M-17.
    """
    parts: list[str] = []
    for part in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder"):
        sides = [side for side in ("left", "right") if unseen[:, H36M17.index(f"{side}_{part}")].mean() > 0.5]
        parts += [f"{part}s"] if len(sides) == 2 else [f"{side} {part}" for side in sides]
    return tuple(parts)


def height_px(track: Track) -> float:
    """Return the median height in pixels over observed frames: the longer side of the keypoints' box."""
    return float(np.median(np.ptp(track.keypoints[track.observed].astype(np.float64), axis=1).max(axis=-1)))


def truncated_share(track: Track, video: VideoInfo) -> float:
    """Return the share of observed frames in which a limb joint lies at the picture's border or beyond."""
    size = np.array(video.inner_size)
    points, margin = track.keypoints[track.observed][:, LIMBS_COCO] - video.bars.origin, BORDER * size.max()
    last = size - 1 - margin
    return float(((points < margin) | (points > last)).any(axis=(1, 2)).mean())


def reprojection_px(track: Track, pose: Pose3D, camera: Pinhole) -> float | None:
    """Return the median distance in pixels of projected limb joints from their keypoints; None without a trajectory."""
    if pose.root is None:
        return None
    limbs = list(LIMB_JOINTS)
    points = (pose.joints[:, limbs] + pose.root[:, None])[track.observed].astype(np.float64)
    keypoints = coco17_to_h36m17(track.keypoints)[track.observed][:, limbs]
    points[..., 2] = np.maximum(points[..., 2], 1e-3)
    return float(np.median(np.linalg.norm(camera.project(points) - keypoints, axis=-1)))


def foot_skating(video: VideoInfo, track: Track, pose: Pose3D, shot: Shot) -> float | None:
    """Return how fast standing feet move over the floor [m/s]; None if the camera moves, without meters, or feet.

    A foot stands while it is the lower one and near the level at which it mostly is.
    """
    if pose.root is None or shot.is_camera_moving or pose.unseen[:, ANKLES].all(axis=1).mean() > 0.5:
        return None
    places = world_places(pose, to_world(shot.up))
    feet, is_lowest = places[:, ANKLES], places[:, ANKLES, 1].min(axis=1) < places[..., 1].min(axis=1) + STANDING_M
    times = video.timestamps_s[track.frames]
    lower = feet[..., 1].argmin(axis=1)
    level = stance_level(feet[track.valid][..., 1].min(axis=1), np.ones(int(track.valid.sum())))
    speeds = []
    for run in contiguous_segments(track, video):
        foot, rows = lower[run], np.arange(len(lower))[run]
        stands = is_lowest[run] & (feet[rows, foot, 1] < level + CONTACT_M)
        pairs = np.flatnonzero(stands[1:] & stands[:-1] & (foot[1:] == foot[:-1]))
        step = feet[rows[pairs + 1], foot[pairs]] - feet[rows[pairs], foot[pairs]]
        speeds.append(np.hypot(step[:, 0], step[:, 2]) / (times[rows[pairs + 1]] - times[rows[pairs]]))
    speed = np.concatenate(speeds)
    return round(float(speed.mean()), 3) if len(speed) else None


def window_boundary_ratio(runs: list[Run], window: int, fps: float) -> float | None:
    """Return the mean speed at window boundaries over that elsewhere; None where there is no boundary.

    Args:
        runs: (joints (T, 17, 3), timestamps_s (T,)) of every stretch that was lifted by itself.
        window: Frames per window of the lifter.
        fps: Frames per second that it takes.
    """
    at_boundary, elsewhere = [], []
    for joints, times in runs:
        if len(joints) < 2:
            continue
        steps = np.diff(times)
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(-1) / steps
        reach = max(BOUNDARY_REACH_S, float(np.median(steps)))
        boundaries = times[0] + Sampling.of(times, window, fps).seams_s()
        is_boundary = (np.abs((times[1:] + times[:-1])[:, None] / 2 - boundaries) <= reach).any(1)
        at_boundary.append(speed[is_boundary])
        elsewhere.append(speed[~is_boundary])
    boundary, rest = np.concatenate([*at_boundary, []]), np.concatenate([*elsewhere, []])
    if len(boundary) == 0 or len(rest) == 0 or rest.mean() == 0:
        return None
    return round(float(boundary.mean() / rest.mean()), 4)
