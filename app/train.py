"""``posemamba train``: names to networks and folders to motion, then ``lifter.training.train``."""

from __future__ import annotations

import functools
import json
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from app.curves import draw_curves
from app.steadiness import DETECTOR_LIKE, assess_steadiness, long_clips
from lifter import create_model, load_lifter
from lifter.checkpoints import Weights, read_weights, sha256_of
from lifter.devices import resolve_device
from lifter.lift import build_for
from lifter.models import posemamba
from lifter.normalize import NORMALIZATIONS
from lifter.training.ablation import ABLATIONS, ablate
from lifter.training.data import Recipe
from lifter.training.motion import load_motion
from lifter.training.schedules import SCHEDULES
from lifter.training.train import train


def train_lifter(
    motion: Path, out: Path, minutes: float, lifter: str, extras: Sequence[str], schedule: str, normalization: str,
    start: Path | None, device: str, seed: int, report: Callable[[str], None],
) -> None:  # fmt: skip
    """Train ``lifter``, with ``extras`` as in ``lifter.create_model``, for ``minutes`` and say where the weights are.

    Beside the files of ``lifter.training.train`` the folder gets ``manifest.toml``, the entry for checkpoints, and the
    curves as ``curve.png`` (if matplotlib is installed).

    Raises:
        ValueError: Unknown lifter, extra, schedule or normalization, or a time that is not positive.
        FileNotFoundError: No motion in the folder.
    """
    for name, value, known in (("schedule", schedule, SCHEDULES), ("normalization", normalization, NORMALIZATIONS)):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes must be positive and finite, got {minutes}")
    build = functools.partial(create_model, lifter, SCHEDULES[schedule].drop_path, extras)
    untrained = build()
    tensors, origin = (
        (None, None) if start is None else starting_weights(start, untrained, ", ".join([lifter, *extras]))
    )
    train_set = load_motion(motion, "train", report)
    held_out = load_motion(motion, "validation", report=lambda _: None)  # the same files: reported above
    report(
        f"{train_set.minutes:.1f} minutes of motion, {held_out.minutes:.1f} held out; {minutes:g} minutes of training"
    )

    def report_and_draw(line: str) -> None:
        report(line)
        if (out / "curve.csv").exists() and find_spec("matplotlib"):
            draw_curves([out / "curve.csv"], out / "curve.png")

    errors = train(
        train_set,
        held_out,
        build,
        out,
        minutes=minutes,
        schedule=SCHEDULES[schedule],
        recipe=Recipe(normalization=normalization),
        device=str(resolve_device(device)),
        seed=seed,
        start=tensors,
        start_provenance=origin,
        command=shlex.join(["posemamba", *sys.argv[1:]]),
        report=report_and_draw,
    )
    weights = out / "weights.safetensors"
    clips = long_clips(held_out)
    trained = load_lifter(str(weights))  # its name tells the extras
    steadiness = assess_steadiness(trained, clips, DETECTOR_LIKE) if clips else {}
    (out / "manifest.toml").write_text(manifest_entry(trained.name, weights, steadiness.get("jitter_ratio")))
    report(f"{weights}: " + ", ".join(f"{name} {value:.1f} mm" for name, value in errors.items()))


def ablate_recipe(
    motion: Path, out: Path, names: list[str] | None, minutes: float, device: str, report: Callable[[str], None]
) -> None:
    """Run ``lifter.training.ablation`` on a small network of 3 block pairs; ValueError for an unknown run."""
    names = names or list(ABLATIONS)
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise ValueError(f"unknown run {unknown[0]!r}; choose among {', '.join(map(repr, ABLATIONS))}")
    out.parent.mkdir(parents=True, exist_ok=True)
    small = replace(posemamba.SMALL, depth=3, drop_path=0.0)
    ablate(
        load_motion(motion, "train", report), load_motion(motion, "validation", report=lambda _: None),
        functools.partial(posemamba.build, small), out, minutes=minutes, device=str(resolve_device(device)),
        names=names, report=report,
    )  # fmt: skip


def starting_weights(path: Path, model: nn.Module, called: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a weights file and how it was made; ValueError if they do not fit ``model``."""
    weights = read_weights(path)
    name, _, _ = build_for(weights.tensors)
    shapes = {key: tensor.shape for key, tensor in weights.tensors.items()}
    if shapes != {key: tensor.shape for key, tensor in model.state_dict().items()}:
        raise ValueError(f"{path} holds weights of {name}, expected {called}")
    return weights.tensors, {"sha256": weights.sha256, **json.loads(weights.metadata.get("training", "{}"))}


def training_runs(weights: Weights) -> list[dict[str, Any]]:
    """Return what ``posemamba train`` says of the runs that led to these weights, the first one first; [] if nothing.

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
        raise ValueError(f"{weights.path} says of its training what 'posemamba train' never writes: {error}") from error
    return runs


def manifest_entry(lifter: str, weights: Path, jitter: float | None) -> str:
    """Return the lines of ``checkpoints/manifest.toml`` for a weights file that ``posemamba train`` wrote.

    ``jitter`` is that over the truth's in whole held-out clips with detector-like 2D, None where there are no clips.
    """
    runs = training_runs(read_weights(weights))
    training = runs[-1]
    said = [run.get("command", []) for run in runs]  # nothing is known of weights from elsewhere
    commands = [command if isinstance(command, list) else [command] for command in said]
    # JSON strings and numbers are TOML as well
    lines = [
        f"[{lifter}]",
        f"file = {json.dumps(lifter + '.safetensors')}",
        f'sha256 = "{sha256_of(weights)}"',
        'licence = "Apache-2.0"',
        'source = "trained in this repository"',
        f"commands = {json.dumps([command for several in commands for command in several])}",
        f"revision = {json.dumps(training['revision'])}",
        f"seed = {training['seed']}",
        f"device = {json.dumps(training['device'])}",
        f"training_minutes = {sum(run.get('training_minutes', 0) for run in runs):.1f}",
        f"steps = {sum(run.get('steps', 0) for run in runs)}",
        f'motion_sha256 = "{training["motion_sha256"]}"',
        *([] if jitter is None else [f"jitter_over_truth = {jitter:.2f}"]),
        "",
        f"[{lifter}.validation_mm]",
        *(f"{name} = {value}" for name, value in training["validation_mm"].items()),
    ]
    return "\n".join(lines) + "\n"
