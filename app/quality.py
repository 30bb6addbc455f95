"""Numbers that tell how far a result can be trusted, without knowing the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.results import PoseResult, stretches
from lifter import metrics
from lifter.lift import seams_s

SEAM_REACH_S = 0.03  # frames this near to a window border count as being on it


def assess(result: PoseResult) -> list[dict[str, Any]]:
    """Return one report per person, ready for JSON.

    Keys: ``id``; ``coverage``, share of the clip's frames in which the person was observed; ``mean_score`` of observed
    keypoints; ``jitter``, mean acceleration of the joints in units per second squared; ``bone_length_variation``,
    standard deviation over mean (0.03 is 3 %); ``seam_ratio``, speed at window borders over speed elsewhere (None
    without borders). Nothing is compared across gaps.
    """
    window = result.provenance["lifter"]["window"]
    reports = []
    for track, pose in zip(result.tracks, result.poses, strict=True):
        times = result.video.timestamps_s[track.frames]
        runs = [(pose.joints[run], times[run]) for run in stretches(track, result.video)]
        lengths = [len(joints) for joints, _ in runs]
        reports.append(
            {
                "id": track.person_id,
                "coverage": round(float(track.observed.sum()) / result.video.num_frames, 4),
                "mean_score": round(float(track.scores[track.observed].mean()), 4),
                "jitter": round(float(np.average([metrics.jitter(*run) for run in runs], weights=lengths)), 3),
                "bone_length_variation": round(metrics.bone_length_variation(pose.joints[track.valid]), 4),
                "seam_ratio": seam_ratio(runs, window),
            }
        )
    return reports


def seam_ratio(runs: list[tuple[np.ndarray, np.ndarray]], window: int) -> float | None:
    """Return the mean speed at window borders over that elsewhere; None where no border lies.

    Args:
        runs: (joints (T, 17, 3), timestamps_s (T,)) of every stretch that was lifted by itself.
        window: Frames per window of the lifter.
    """
    at_seam, elsewhere = [], []
    for joints, times in runs:
        if len(joints) < 2:
            continue
        steps = np.diff(times)
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(-1) / steps
        reach = max(SEAM_REACH_S, float(np.median(steps)))
        is_seam = (np.abs((times[1:] + times[:-1])[:, None] / 2 - seams_s(times, window)) <= reach).any(1)
        at_seam.append(speed[is_seam])
        elsewhere.append(speed[~is_seam])
    seam, rest = np.concatenate([*at_seam, []]), np.concatenate([*elsewhere, []])
    if len(seam) == 0 or len(rest) == 0 or rest.mean() == 0:
        return None
    return round(float(seam.mean() / rest.mean()), 4)
