"""Motion made up for tests, in the file format of recorded motion."""

from dataclasses import replace

import numpy as np

from lifter.skeletons import H36M17
from lifter.training.augmentation_config import CLEAN, AugmentationConfig
from lifter.training.batches import make_batch
from lifter.training.random_draws import Rng

# H36M-17 standing, meters, z up, facing -y (the left side is at +x).
STANDING = np.array(
    [[0, 0, 0.95], [-0.13, 0, 0.95], [-0.14, 0, 0.5], [-0.15, 0.02, 0.08], [0.13, 0, 0.95], [0.14, 0, 0.5],
     [0.15, 0.02, 0.08], [0, 0, 1.2], [0, 0, 1.45], [0, -0.08, 1.6], [0, -0.02, 1.72],
     [0.17, 0, 1.43], [0.22, 0, 1.15], [0.24, -0.05, 0.9], [-0.17, 0, 1.43], [-0.22, 0, 1.15], [-0.24, -0.05, 0.9]],
    np.float32,
)  # fmt: skip
QUIET = replace(AugmentationConfig(), **CLEAN)
STILL = replace(QUIET, speed=(1.0, 1.0), p_splice=0.0, p_bend=0.0, p_tilt=0.0, bone_scale=0.0)


def waving(frames: int, phase: float = 0.0) -> np.ndarray:
    """Somebody who shifts weight and swings both arms, world meters (F, 17, 3)."""
    time = np.arange(frames, dtype=np.float32) / 50
    joints = np.repeat(STANDING[None], frames, axis=0).copy()
    for side, sign in (("left", 1), ("right", -1)):
        swing = 0.6 * np.sin(2 * np.pi * (0.9 * time + phase)) * sign
        shoulder = STANDING[H36M17.index(f"{side}_shoulder")]
        for part in ("elbow", "wrist"):
            arm = STANDING[H36M17.index(f"{side}_{part}")] - shoulder
            y = arm[1] * np.cos(swing) - arm[2] * np.sin(swing)
            z = arm[1] * np.sin(swing) + arm[2] * np.cos(swing)
            joints[:, H36M17.index(f"{side}_{part}"), 1] = shoulder[1] + y
            joints[:, H36M17.index(f"{side}_{part}"), 2] = shoulder[2] + z
    joints[..., 0] += 0.1 * np.sin(2 * np.pi * 0.4 * time)[:, None]
    return joints


def write_mocap(path, clips: dict[str, np.ndarray], fps: float = 50.0):
    joints = np.concatenate(list(clips.values()))
    root = joints[:, 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        rel=(joints - root[:, None]).astype(np.float16),
        root=root.astype(np.float32),
        clip_start=np.cumsum([0, *(len(clip) for clip in clips.values())]),
        clip_name=np.array(list(clips)),
        fps=fps,
    )


def batch_of(library, recipe, count=4, frames=27, seed=0):
    return make_batch(library, count, frames, recipe, Rng(seed))
