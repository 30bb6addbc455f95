"""Where weights come from: the runs behind a file, what a new run begins with, the manifest entry of a finished one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from checkpoints import sha256_of
from checkpoints.tensors import Weights, read_weights
from lifter.load import build_for
from lifter.training.train import STATE
from lifter.training.training_config import InitialWeights

EMBEDDING = "Spatial_patch_to_embedding.weight"  # of PoseMamba: (d, numbers per keypoint)


def branch_folder(run: Path, minutes: float) -> Path:
    """Return where a cool-down of ``minutes`` of the run in a folder goes: one that was cut off is finished first.

    Raises:
        FileNotFoundError: There is no run.
    """
    if not (run / STATE).exists():
        raise FileNotFoundError(f"no run to branch off in {run}: {STATE} is missing; train one with --minutes first")
    unfinished = [folder for folder in sorted(run.glob("cooldown-*")) if not (folder / "manifest.toml").exists()]
    if unfinished:
        return unfinished[-1]
    step = torch.load(run / STATE, map_location="cpu", weights_only=True)["step"]
    return run / f"cooldown-{step}-{minutes:g}min"


def initial_weights(path: Path, model: nn.Module, called: str) -> InitialWeights:
    """Return the weights of a file for ``model``; those of a network that reads scores can be without.

    Raises:
        ValueError: They do not fit ``model``.
    """
    weights = read_weights(path)
    name, _, _ = build_for(weights.tensors)
    tensors, expected = dict(weights.tensors), model.state_dict()
    if EMBEDDING in tensors and EMBEDDING in expected and expected[EMBEDDING].shape[1] > tensors[EMBEDDING].shape[1]:
        scores = tensors[EMBEDDING].new_zeros(len(tensors[EMBEDDING]), 1)  # mean nothing at first
        tensors[EMBEDDING] = torch.cat([tensors[EMBEDDING], scores], dim=1)
    if {key: x.shape for key, x in tensors.items()} != {key: x.shape for key, x in expected.items()}:
        raise ValueError(f"{path} holds weights of {name}, expected {called}")
    return InitialWeights(tensors, {"sha256": weights.sha256, **json.loads(weights.metadata.get("training", "{}"))})


def training_runs(weights: Weights) -> list[dict[str, Any]]:
    """Return what is recorded of the runs that led to these weights, the first one first; [] if nothing.

    Raises:
        ValueError: The metadata of the file are not what it writes.
    """
    try:
        runs: list[dict[str, Any]] = []
        run = json.loads(weights.metadata.get("training", "null"))
        while run:
            runs.insert(0, dict(run))
            run = run.get("start")
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{weights.path} has training metadata that 'posemamba train' never writes: {error}"
        ) from error
    return runs


def manifest_entry(lifter: str, weights: Path, jitter: float | None) -> str:
    """Return the lines of ``checkpoints/manifest.toml`` for a weights file that ``posemamba train`` wrote.

    ``jitter`` is the acceleration ratio in whole held-out clips with simulated detections, None without clips.
    """
    runs = training_runs(read_weights(weights))
    training = runs[-1]
    recorded = [run.get("command", []) for run in runs]  # nothing is known of weights from elsewhere
    commands = [command if isinstance(command, list) else [command] for command in recorded]
    # JSON strings and numbers are TOML as well
    lines = [
        f"[{lifter}]",
        f"file = {json.dumps(lifter + '.safetensors')}",
        f'sha256 = "{sha256_of(weights)}"',
        'license = "Apache-2.0"',
        'source = "trained in this repository"',
        f"commands = {json.dumps([command for several in commands for command in several])}",
        f"revision = {json.dumps(training['revision'])}",
        f"seed = {training['seed']}",
        f"device = {json.dumps(training['device'])}",
        f"training_minutes = {sum(run.get('training_minutes', 0) for run in runs):.1f}",
        f"steps = {sum(run.get('steps', 0) for run in runs)}",
        f"frames = {sum(run.get('frames', 0) for run in runs)}",
        f'motion_sha256 = "{training["motion_sha256"]}"',
        *([] if jitter is None else [f"jitter_over_truth = {jitter:.2f}"]),
        "",
        f"[{lifter}.validation_mm]",
        *(f"{name} = {value}" for name, value in training["validation_mm"].items()),
    ]
    return "\n".join(lines) + "\n"
