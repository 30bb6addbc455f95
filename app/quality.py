"""Numbers that tell how far a result can be trusted, without knowing the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.results import PoseResult
from lifter import metrics
from lifter.lift import seams_s

SEAM_REACH_S = 0.03  # frames this near to a window border count as being on it


def assess(result: PoseResult) -> list[dict[str, Any]]:
    """Return one report per person, ready for JSON.

    Keys: ``id``; ``coverage``, share of the clip's frames in which the person was observed; ``mean_score`` of observed
    keypoints; ``jitter_m_s2``, mean second difference of the joints; ``bone_length_variation``, standard deviation over
    mean (0.03 is 3 %); ``seam_ratio``, motion at window borders over motion elsewhere (None without borders).
    """
    window = result.provenance.get("lifter", {}).get("window", 0)
    reports = []
    for track, pose in zip(result.tracks, result.poses, strict=True):
        joints = pose.joints[track.valid]
        reports.append(
            {
                "id": track.person_id,
                "coverage": round(float(track.observed.sum()) / result.video.num_frames, 4),
                "mean_score": round(float(track.scores[track.observed].mean()), 4),
                "jitter_m_s2": round(metrics.jitter(joints, result.video.fps), 3),
                "bone_length_variation": round(metrics.bone_length_variation(joints), 4),
                "seam_ratio": seam_ratio(pose.joints, result.video.timestamps_s[pose.frames], track.valid, window),
            }
        )
    return reports


def seam_ratio(joints: np.ndarray, timestamps_s: np.ndarray, valid: np.ndarray, window: int) -> float | None:
    """Return mean speed of joints (T, 17, 3) at window borders over that elsewhere; None where no border lies."""
    if len(joints) < 3 or window < 2 or not valid.all():
        return None
    borders = seams_s(timestamps_s, window)
    if len(borders) == 0:
        return None
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(-1) / np.diff(timestamps_s)
    middle = (timestamps_s[1:] + timestamps_s[:-1]) / 2
    reach = max(SEAM_REACH_S, float(np.median(np.diff(timestamps_s))))
    is_seam = (np.abs(middle[:, None] - borders) <= reach).any(1)
    if not is_seam.any() or is_seam.all() or speed[~is_seam].mean() == 0:
        return None
    return round(float(speed[is_seam].mean() / speed[~is_seam].mean()), 4)
