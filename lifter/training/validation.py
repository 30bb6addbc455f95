"""Scores a lifter on held-out motion with ground-truth 2D and with simulated detections."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lifter.metrics import p_mpjpe, scaled_mpjpe
from lifter.skeletons import LIMB_JOINTS, MOTION_FPS
from lifter.training.augmentation.batches import make_batch
from lifter.training.augmentation.config import CLEAN, AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.mocap.library import MotionLibrary

FRAMES = 243  # of a window that is scored
WINDOWS_PER_BATCH = 8


def validate(
    model: nn.Module, library: MotionLibrary, recipe: AugmentationConfig, windows: int = 48, frames: int = FRAMES
) -> dict[str, float]:
    """Return mean errors in mm over the 12 limb joints: keys ``clean_p1``, ``clean_p2``, ``noisy_p1``, ``noisy_p2``.

    P1 is root-relative after one scale per window, P2 after Procrustes alignment per frame. The same windows, cameras
    and noise every time, whatever the network's own window and rate are: it sees them in as many pieces as it needs,
    and at half their rate every other frame by itself; nothing is spliced, bent or tilted.

    Args:
        model: A network in the interface of ``lifter.models``, in inference mode.
        library: Motion to score on.
        recipe: Cameras, simulated detector and the network's rate; its chances for the body are not used.
        windows: How many windows, a multiple of 8.
        frames: Frames per window, at 50 per second.
    """
    config: Any = model.config
    still = replace(
        recipe, speed=(1.0, 1.0), p_splice=0.0, p_bend=0.0, p_tilt=0.0, bone_scale=0.03, p_exact=0.0,
        back_and_forth=0.0, fps=MOTION_FPS,
    )  # fmt: skip
    errors = {}
    for name, setting in {"clean": replace(still, **CLEAN), "noisy": still}.items():
        rng = Rng(12345, library.joints.device)
        p1, p2 = [], []
        for _ in range(0, windows, WINDOWS_PER_BATCH):
            batch = make_batch(library, WINDOWS_PER_BATCH, frames, setting, rng)
            with torch.inference_mode():
                joints = in_phases(model, batch.inputs[..., : config.channels], recipe.stride).cpu().numpy()
            for predicted, truth in zip(joints, batch.joints.cpu().numpy(), strict=True):
                p1.append(scaled_mpjpe(predicted, truth, LIMB_JOINTS).mean())
                p2.append(p_mpjpe(predicted, truth, LIMB_JOINTS).mean())
        errors[f"{name}_p1"], errors[f"{name}_p2"] = float(sum(p1) / len(p1)), float(sum(p2) / len(p2))
    return errors


def in_phases(model: nn.Module, inputs: Tensor, stride: int) -> Tensor:
    """Return ``model`` of every ``stride``-th frame of inputs (B, T, 17, C), for every frame to start with."""
    joints = inputs.new_empty(*inputs.shape[:3], 3)
    for phase in range(stride):
        joints[:, phase::stride] = in_pieces(model, inputs[:, phase::stride])
    return joints


def in_pieces(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return ``model`` of inputs (B, T, 17, C) longer than its window: consecutive windows, the last one to the end.

    Frames seen twice are taken from the later window. Inputs too short for a network of fixed length repeat their last
    frame, as at inference.
    """
    config: Any = model.config
    frames = inputs.shape[1]
    if config.fixed_length and frames < config.window:
        last = inputs[:, -1:].expand(-1, config.window - frames, -1, -1)
        return model(torch.cat([inputs, last], dim=1))[:, :frames]
    if frames <= config.window:
        return model(inputs)
    starts = [*range(0, frames - config.window, config.window), frames - config.window]
    joints = inputs.new_empty(*inputs.shape[:3], 3)
    for start in starts:
        joints[:, start : start + config.window] = model(inputs[:, start : start + config.window])
    return joints
