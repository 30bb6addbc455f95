"""How smooth whole clips come out: recorded motion is projected, detected in simulation and lifted as the app does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.options import Options
from app.pipeline import lift_tracks
from app.quality.indicators import window_boundary_ratio
from app.video.video_info import VideoInfo
from detectors.people import Track
from lifter import metrics
from lifter.load import Lifter
from lifter.skeletons import LIMB_JOINTS, MOTION_FPS, with_rigid_bones
from lifter.training.augmentation.config import CLEAN, AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.augmentation.simulated_detector import coco17_from_h36m17, hidden_joints, simulate_detections
from lifter.training.augmentation.virtual_camera import project_to_camera
from lifter.training.mocap.library import MotionLibrary

LONGER_THAN = 400  # frames: more than one window of 243
NUM_CLIPS = 10
SEED = 12345
EXACT: dict[str, Any] = CLEAN
SIMULATED: dict[str, Any] = {"p_exact": 0.0}  # training mixes in windows of exact keypoints; here they would flatter


@dataclass(frozen=True)
class Smoothness:
    """Numbers over clips; all but the bones of the network alone after the app's rigid bones.

    Attributes:
        mpjpe_scaled: mm, 12 limb joints, one scale per clip, mean over frames.
        pa_mpjpe: mm, 12 limb joints, mean over frames.
        acceleration_ratio: Mean acceleration over that of the ground truth, all frames together.
        worst_acceleration_ratio: Of a single clip.
        boundary_ratio: Speed at window boundaries over elsewhere.
        true_boundary_ratio: That of the ground truth at the same places.
        bone_variation: Of the network alone.
    """

    mpjpe_scaled: float
    pa_mpjpe: float
    acceleration_ratio: float
    worst_acceleration_ratio: float
    boundary_ratio: float
    true_boundary_ratio: float
    bone_variation: float

    @property
    def acceleration_text(self) -> str:
        """The acceleration ratio, and that of the worst clip, for one cell."""
        return f"{self.acceleration_ratio:.2f} ({self.worst_acceleration_ratio:.2f})"


def long_clips(library: MotionLibrary, count: int = NUM_CLIPS) -> list[np.ndarray]:
    """Return up to ``count`` whole clips (T, 17, 3), world meters, of over 400 frames, spread over the library."""
    found = np.flatnonzero(library.lengths.cpu().numpy() > LONGER_THAN)
    chosen = found[np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]
    starts, lengths, joints = library.starts.tolist(), library.lengths.tolist(), library.joints.cpu().numpy()
    return [joints[starts[i] : starts[i] + lengths[i]] for i in chosen]


def assess_smoothness(lifter: Lifter, clips: Iterable[np.ndarray], noise: dict[str, Any]) -> Smoothness:
    """Return numbers over ``clips`` (T, 17, 3), world meters at 50 frames per second.

    Args:
        lifter: From ``lifter.load_lifter``.
        clips: From ``long_clips``.
        noise: What changes in ``AugmentationConfig()``: ``EXACT`` or ``SIMULATED``. Unlike in training, where it
            strikes per window, noise of a kind that lasts strikes once per clip.

    Raises:
        ValueError: No clips.
    """
    rng, recipe = Rng(SEED), replace(AugmentationConfig(), **noise)
    runs, true_runs, rows = [], [], []
    for clip in clips:
        truth, keypoints, picture = simulate(clip, recipe, rng)
        info = video_of(len(truth), *picture)
        (pose,) = lift_tracks(
            lifter, [certain_track(keypoints[..., :2], keypoints[..., 2])], info, Options(has_rigid_bones=False)
        )
        joints, true_joints = with_rigid_bones(pose.joints), metrics.root_relative(truth)
        runs.append((joints, info.timestamps_s))
        true_runs.append((true_joints, info.timestamps_s))
        rows.append(
            {
                "frames": len(truth),
                "p1": metrics.scaled_mpjpe(joints, truth, LIMB_JOINTS).mean(),
                "p2": metrics.p_mpjpe(joints, truth, LIMB_JOINTS).mean(),
                "jitter": metrics.clip_scale(joints, truth) * metrics.jitter(joints, info.timestamps_s),
                "true_jitter": metrics.jitter(true_joints, info.timestamps_s),
                "jitter_ratio": metrics.jitter_ratio(joints, truth, info.timestamps_s),
                "bone_variation": metrics.bone_length_variation(pose.joints),
            }
        )
    if not rows:
        raise ValueError(f"no clip of over {LONGER_THAN} frames to assess")
    weights = [row["frames"] for row in rows]
    mean = {name: float(np.average([row[name] for row in rows], weights=weights)) for name in rows[0]}
    return Smoothness(
        mpjpe_scaled=mean["p1"],
        pa_mpjpe=mean["p2"],
        acceleration_ratio=mean["jitter"] / mean["true_jitter"],
        worst_acceleration_ratio=float(max(row["jitter_ratio"] for row in rows)),
        boundary_ratio=window_boundary_ratio(runs, lifter.window, lifter.fps) or float("nan"),
        true_boundary_ratio=window_boundary_ratio(true_runs, lifter.window, lifter.fps) or float("nan"),
        bone_variation=mean["bone_variation"],
    )


def simulate(world: np.ndarray, recipe: AugmentationConfig, rng: Rng) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return camera joints (T, 17, 3) m, detected COCO-17 keypoints (T, 17, 3): x, y [px], score; picture size."""
    middle = world[len(world) // 2, 0]
    camera, focal, picture = project_to_camera(torch.from_numpy(world - middle).float()[None], recipe, rng)
    coco = coco17_from_h36m17(camera)
    pixels = focal[:, None, None, None] * coco[..., :2] / coco[..., 2:] + picture[:, None, None] / 2 - 0.5
    detected = simulate_detections(pixels, hidden_joints(camera), recipe, rng)
    width, height = (int(side) for side in picture[0])
    return camera[0].numpy(), detected[0].numpy(), (width, height)


def video_of(num_frames: int, width: int, height: int) -> VideoInfo:
    """Return a video of that many frames at the rate of the recorded motion, which exists in simulation only."""
    times = np.arange(num_frames) / MOTION_FPS
    return VideoInfo(Path("simulated"), width, height, MOTION_FPS, num_frames, 0, times)


def certain_track(keypoints: np.ndarray, scores: np.ndarray | None = None) -> Track:
    """Return keypoints (T, 17, 2) px as the track of a person seen in every frame; all scores (T, 17) 1 if left out."""
    count = len(keypoints)
    every = np.ones(count, bool)
    scores = np.ones((count, 17)) if scores is None else scores
    return Track(0, np.arange(count), keypoints.astype(np.float32), scores.astype(np.float32), every, every)
