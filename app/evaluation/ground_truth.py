"""Ground truth of rendered clips, and which of its people a track is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detectors.people import Track
from lifter.training.mocap.library import read_npz

PIXEL_EDGES = ("coco_px", "bbox")  # in the files pixel i covers [i, i + 1); here its center is i


def ground_truth_beside(clip: Path) -> Path:
    """Return ``<stem>.gt.npz`` beside a clip; FileNotFoundError if there is none."""
    path = clip.with_suffix(".gt.npz")
    if not path.exists():
        raise FileNotFoundError(f"no ground truth {path} beside the clip; pass it with --ground-truth")
    return path


def read_ground_truth(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return arrays of a ground-truth npz; ValueError if one is missing.

    ``h36m_cam`` (F, P, 17, 3) m, camera axes; ``h36m_world`` (F, P, 17, 3) m; ``coco_px`` (F, P, 17, 2) px;
    ``coco_visible`` (F, P, 17) bool; ``bbox`` (F, P, 4) x0 y0 x1 y1 px; ``K`` (3, 3); ``R`` (F, 3, 3) and ``t`` (F, 3),
    world to camera; ``body_height_m`` (P,); ``fps``.
    """
    arrays = read_npz(path, tuple(names))
    return {name: array - 0.5 if name in PIXEL_EDGES else array for name, array in arrays.items()}


def check_length(truth: Path, num_truth: int, clip: Path, num_frames: int) -> None:
    """Raise ValueError if a ground truth has another number of frames than its clip."""
    if num_truth != num_frames:
        raise ValueError(f"{truth} has {num_truth} frames, {clip} has {num_frames}; expected the same clip")


def distances_px(keypoints: np.ndarray, truth_px: np.ndarray) -> np.ndarray:
    """Return (T, P), how far keypoints (T, 17, 2) are from each person of (T, P, 17, 2), mean over joints."""
    return np.linalg.norm(keypoints[:, None] - truth_px, axis=-1).mean(-1)


def match_person(keypoints: np.ndarray, truth_px: np.ndarray) -> int:
    """Return the person of (T, P, 17, 2) whom keypoints (T, 17, 2) are nearest to over all frames."""
    return int(distances_px(keypoints, truth_px).mean(0).argmin())


def match_track(track: Track, truth_px: np.ndarray) -> int | None:
    """Return the person of (F, P, 17, 2) whom a track is nearest to over its valid frames, None if it has none."""
    frames = track.frames[track.valid]
    return match_person(track.keypoints[track.valid], truth_px[frames]) if len(frames) else None
