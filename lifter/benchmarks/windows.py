"""Windows of benchmark keypoints through a lifter."""

from __future__ import annotations

import numpy as np
import torch

from lifter import normalize
from lifter.lift import Progress, predict
from lifter.load import Lifter
from lifter.skeletons import MOTION_FPS


def no_progress(batches, total: int):
    """Report nothing."""
    return batches


def lift_windows(
    lifter: Lifter,
    keypoints_px: np.ndarray,
    scores: np.ndarray,
    sizes: np.ndarray,
    use_flip: bool,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Return joints (W, T, 17, 3) float64 in the lifter's unit and camera axes, the pelvis set to 0.

    Set, not subtracted: a lifter's own idea of the pelvis is dropped, as in published evaluations. (The app subtracts
    it from all joints.)

    Args:
        lifter: From ``lifter.load_lifter``; a field of view of 55 degrees is assumed where its normalization needs one.
        keypoints_px: (W, T, 17, 2) H36M-17, pixels; the center of the first pixel is (0, 0).
        scores: (W, T, 17) in [0, 1], for networks that read them.
        sizes: (W, 2) picture width and height.
        use_flip: Whether to average with the mirrored input.
        progress: Wraps the batches; gets them and their number.

    Raises:
        ValueError: A lifter of another frame rate, or an output that is not finite.
    """
    if lifter.fps != MOTION_FPS:
        raise ValueError(
            f"{lifter.name} takes {lifter.fps:g} frames per second, the benchmark's windows have {MOTION_FPS:g}; "
            "choose weights of that rate, such as the published ones"
        )
    points, size = torch.from_numpy(keypoints_px).double(), torch.from_numpy(sizes).double()[:, None, None]
    if lifter.normalization == "picture":
        inputs, rotation = normalize.to_picture(points, size[..., 0], size[..., 1]), torch.eye(3).double()[None]
    else:
        focal = size.amax(-1, keepdim=True) * normalize.focal_px(1, 1, normalize.DEFAULT_FOV_DEGREES)
        inputs, rotation = normalize.to_person((points + 0.5 - size / 2) / focal)
    if lifter.channels == 3:
        inputs = torch.cat([inputs, torch.from_numpy(scores)[..., None]], dim=-1)
    joints = (predict(lifter, inputs.float(), use_flip, progress).double() @ rotation[:, None]).numpy()
    if not np.isfinite(joints).all():
        raise ValueError(f"{lifter.name} gave numbers that are not finite; no mean of them would be one")
    joints[:, :, 0] = 0
    return joints
