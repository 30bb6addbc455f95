"""Scores a lifter on held-out motion with exact and with detector-like 2D."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from lifter.metrics import p_mpjpe, scaled_mpjpe
from lifter.skeletons import LIMB_JOINTS
from lifter.training.data import CLEAN, Randomness, Recipe, make_batch
from lifter.training.motion import MotionLibrary

FRAMES = 243  # the window of inference
WINDOWS_PER_BATCH = 8


def validate(
    model: nn.Module, library: MotionLibrary, recipe: Recipe, windows: int = 48, frames: int = FRAMES
) -> dict[str, float]:
    """Return mean errors in mm over the 12 limb joints: keys ``clean_p1``, ``clean_p2``, ``noisy_p1``, ``noisy_p2``.

    P1 is root-relative after one scale per window, P2 after Procrustes alignment per frame. The same windows, cameras
    and noise every time; nothing is spliced, bent or tilted.
    """
    still = replace(recipe, speed=(1.0, 1.0), splice=0.0, bend=0.0, tilt=0.0, bone_scale=0.03, exact=0.0)
    errors = {}
    for name, setting in {"clean": replace(still, **CLEAN), "noisy": still}.items():
        rng = Randomness(12345, library.joints.device)
        p1, p2 = [], []
        for _ in range(0, windows, WINDOWS_PER_BATCH):
            batch = make_batch(library, WINDOWS_PER_BATCH, frames, setting, rng)
            with torch.inference_mode():
                joints = model(batch.inputs).cpu().numpy()
            for predicted, truth in zip(joints, batch.joints.cpu().numpy(), strict=True):
                p1.append(scaled_mpjpe(predicted, truth, LIMB_JOINTS).mean())
                p2.append(p_mpjpe(predicted, truth, LIMB_JOINTS).mean())
        errors[f"{name}_p1"], errors[f"{name}_p2"] = float(sum(p1) / len(p1)), float(sum(p2) / len(p2))
    return errors
