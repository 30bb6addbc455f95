"""``posemamba train``: names to networks and folders to motion, then ``lifter.training.train``."""

from __future__ import annotations

import functools
import json
import math
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from app.evaluation.smoothness import DETECTOR_LIKE, assess_steadiness, long_clips
from app.evaluation.training_curves import draw_curves
from checkpoints import sha256_of
from checkpoints.tensors import Weights, read_weights
from lifter import create_model, load_lifter
from lifter.load import build_for
from lifter.models import posemamba
from lifter.normalize import NORMALIZATIONS
from lifter.runtime.devices import resolve_device
from lifter.skeletons import MOTION_FPS
from lifter.training.ablation import ABLATIONS, ablate, write_row
from lifter.training.augmentation_config import BACK_AND_FORTH, AugmentationConfig
from lifter.training.mocap.library import load_motion
from lifter.training.schedules import SCHEDULES, scaled
from lifter.training.train import STATE, train

RATES = (MOTION_FPS, MOTION_FPS / 2)
EMBEDDING = "Spatial_patch_to_embedding.weight"  # of PoseMamba: (d, numbers per keypoint)


@dataclass(frozen=True)
class TrainingOptions:
    """What ``posemamba train`` is asked for.

    Attributes:
        motion: Folder with mocap.
        out: Folder of the run; continued if it exists.
        minutes: Training time to spend in all, resumed runs included; None for a cool-down.
        cooldown: Minutes in which a branch of the run in ``out``, in a folder inside it, brings the rates to zero.
        lifter: Name in ``lifter.LIFTERS``.
        extras: Parts of the network that are off by default, as in ``lifter.create_model``.
        schedule: Name in ``SCHEDULES``.
        rate_scale: Factor of the learning rates of the schedule: below 1 to go on from good weights.
        fps: Frames per second that the network takes, 25 or 50.
        normalization: One of ``NORMALIZATIONS``.
        start: Weights file to begin with.
        device: Where to train, as in ``lifter.load_lifter``.
        seed: Of all random draws.
    """

    motion: Path
    out: Path
    minutes: float | None = None
    cooldown: float | None = None
    lifter: str = "posemamba-s"
    extras: tuple[str, ...] = ()
    schedule: str = "laptop"
    rate_scale: float = 1.0
    fps: float = MOTION_FPS
    normalization: str = "person"
    start: Path | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("normalization", NORMALIZATIONS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")
        if (self.minutes is None) == (self.cooldown is None):
            raise ValueError("give either minutes, to train, or cooldown, to end a branch of the run well")
        if not 0 < self.budget < math.inf:
            raise ValueError(f"minutes must be positive and finite, got {self.budget}")
        if not 0 < self.rate_scale <= 10:
            raise ValueError(f"rate-scale must lie between 0 and 10, got {self.rate_scale:g}")
        if self.fps not in RATES:
            raise ValueError(f"fps must be one of {', '.join(f'{rate:g}' for rate in RATES)}, got {self.fps:g}")

    @property
    def budget(self) -> float:
        """Minutes of training that are asked for."""
        return self.minutes or self.cooldown or 0.0


def train_lifter(options: TrainingOptions, report: Callable[[str], None]) -> None:
    """Train a lifter and say where its weights are.

    Beside the files of ``lifter.training.train`` the folder gets ``manifest.toml``, the entry for checkpoints, and the
    curves as ``curve.png`` (if matplotlib is installed).

    Raises:
        ValueError: Unknown lifter or extra, or weights that do not fit.
        FileNotFoundError: No motion in the folder, or no run to branch off.
    """
    schedule, out, branch_of = scaled(SCHEDULES[options.schedule], options.rate_scale), options.out, None
    if options.cooldown is not None:
        schedule = replace(schedule, decay="linear")
        branch_of, out = options.out / STATE, branch_folder(options.out, options.cooldown)
    build = functools.partial(create_model, options.lifter, schedule.drop_path, options.extras)
    untrained = build()  # names that are wrong are said before motion is read
    tensors, origin = None, None
    if options.start is not None:
        tensors, origin = starting_weights(options.start, untrained, ", ".join([options.lifter, *options.extras]))
    train_set = load_motion(options.motion, "train", report)
    held_out = load_motion(options.motion, "validation", report=lambda _: None)  # the same files: reported above
    report(f"{train_set.minutes:.1f} minutes of motion, {held_out.minutes:.1f} held out; "
           f"{options.budget:g} minutes of training into {out}")  # fmt: skip

    def report_and_draw(line: str) -> None:
        report(line)
        if (out / "curve.csv").exists() and find_spec("matplotlib"):
            draw_curves([out / "curve.csv"], out / "curve.png")

    errors = train(
        train_set,
        held_out,
        build,
        out,
        minutes=options.budget,
        schedule=schedule,
        recipe=AugmentationConfig(normalization=options.normalization, fps=options.fps, back_and_forth=BACK_AND_FORTH),
        device=str(resolve_device(options.device)),
        seed=options.seed,
        start=tensors,
        start_provenance=origin,
        branch_of=branch_of,
        command=shlex.join(["posemamba", *sys.argv[1:]]),
        report=report_and_draw,
    )
    weights = out / "weights.safetensors"
    clips = long_clips(held_out)
    trained = load_lifter(str(weights))  # its name tells the extras
    steadiness = assess_steadiness(trained, clips, DETECTOR_LIKE) if clips else {}
    (out / "manifest.toml").write_text(manifest_entry(trained.name, weights, steadiness.get("jitter_ratio")))
    report(f"{weights}: " + ", ".join(f"{name} {value:.1f} mm" for name, value in errors.items()))


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


def ablate_recipe(
    motion: Path, out: Path, names: list[str] | None, minutes: float, start: Path | None, device: str,
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Run ``lifter.training.ablation`` on a small network of 3 block pairs, or on that of the weights ``start``.

    Raises:
        ValueError: An unknown run.
    """
    names = names or list(ABLATIONS)
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise ValueError(f"unknown run {unknown[0]!r}; choose among {', '.join(map(repr, ABLATIONS))}")
    out.parent.mkdir(parents=True, exist_ok=True)
    train_set, held_out = load_motion(motion, "train", report), load_motion(motion, "validation", lambda _: None)
    for name in names:
        ablation = ABLATIONS[name]
        if start is None:
            small = replace(posemamba.SMALL, depth=3, drop_path=0.0, reads_scores="reads_scores" in ablation.extras)
            build, tensors = functools.partial(posemamba.build, small), None
        else:
            _, model, _ = build_for(read_weights(start).tensors)
            own: Any = model.config
            build = functools.partial(
                posemamba.build, replace(own, drop_path=0.0, **dict.fromkeys(ablation.extras, True))
            )
            tensors, _ = starting_weights(start, build(), name)
        row = ablate(
            train_set, held_out, build, out.with_suffix("") / name.replace(" ", "-"), name, minutes=minutes,
            device=str(resolve_device(device)), start=tensors,
        )  # fmt: skip
        write_row(out, {**row, "start": "none" if start is None else start.name})
        report(f"{name}: " + ", ".join(f"{key} {row[key]}" for key in row if key.endswith(("p1", "p2"))))


def starting_weights(path: Path, model: nn.Module, called: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a weights file and how it was made; those of a network that reads scores can be without.

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
    return tensors, {"sha256": weights.sha256, **json.loads(weights.metadata.get("training", "{}"))}


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
