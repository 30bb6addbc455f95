"""``posemamba train`` and ``posemamba ablate``: names to networks and folders to motion, then ``lifter.training``."""

from __future__ import annotations

import functools
import math
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.console import print_result
from app.options import Options
from app.settings import check_settings, same_as, setting
from lifter import LIFTERS, create_model, load_lifter

if TYPE_CHECKING:
    from torch import nn

    from lifter.training.ablation import Ablation
    from lifter.training.mocap.library import MotionLibrary
    from lifter.training.training_config import InitialWeights

# Of modules that import torch.
SCHEDULE_NAMES = ("laptop", "full", "long", "published")
NORMALIZATIONS = ("person", "picture")
RATES = (50.0, 25.0)
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; continued if it exists.")]
Motion = Annotated[Path, typer.Argument(help="Folder with mocap: .npz, .bvh, .amc with .asf.")]


def _check_rate(fps: float) -> None:
    if fps not in RATES:
        raise ValueError(f"fps must be one of {', '.join(f'{rate:g}' for rate in RATES)}, got {fps:g}")


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of ``posemamba train``."""

    minutes: float | None = setting(None, "Training time to spend in all, resumed runs included.")
    cooldown: float | None = setting(
        None, "Branch off the run in OUT, into a folder in it, and bring the rates to zero.", metavar="MINUTES"
    )
    lifter: str = setting(Options.lifter, f"Network: {', '.join(LIFTERS)}.")
    variant: tuple[str, ...] = setting(
        (), "A part of the network that is off by default: reads_scores (PoseMamba: of keypoints, too), reference "
        "(MDTF: the mistakes of the published code), use_bodyscale (HGMamba: edges of the whole body); repeat.",
        metavar="NAME",
    )  # fmt: skip
    schedule: str = setting(
        "laptop", "laptop: a CPU; full: a GPU; long: days, ended by --cooldown; published: PoseMamba's; one of",
        choices=SCHEDULE_NAMES,
    )  # fmt: skip
    rate_scale: float = setting(
        1.0, "Factor of the schedule's learning rates; below 1 to go on from good weights", limits=(0.0001, 10)
    )
    fps: float = setting(50.0, "Frames per second that the network takes: 50 or 25.", check=_check_rate)
    init_weights: Path | None = setting(None, "Begin with the weights in this file.")
    normalization: str = setting("person", "Normalization of the 2D input.", choices=NORMALIZATIONS)
    device: str = same_as(Options, "device")
    seed: int = setting(0, "Random seed.")

    def __post_init__(self) -> None:
        check_settings(self)
        if (self.minutes is None) == (self.cooldown is None):
            raise ValueError("give either minutes, to train, or cooldown, to end a branch of the run well")
        if not 0 < self.budget < math.inf:
            raise ValueError(f"minutes must be positive and finite, got {self.budget}")

    @property
    def budget(self) -> float:
        """Minutes of training that are asked for."""
        return self.minutes or self.cooldown or 0.0


@dataclass(frozen=True)
class AblationOptions:
    """Settings of ``posemamba ablate``."""

    only: tuple[str, ...] = setting((), "Name of a run; default all; repeat.", metavar="NAME")
    minutes: float = setting(4.0, "Training time of each run, in processor time on a CPU.")
    init_weights: Path | None = setting(None, "Begin with the PoseMamba weights in this file.")
    device: str = same_as(Options, "device")


def train(motion: Motion, out: OutFolder, options: TrainingOptions) -> None:
    """Train a lifter on mocap; run again to go on from where it was stopped or killed, at most 20 seconds before.

    Every ten minutes it writes weights.safetensors, curve.csv and curve.png; at the end manifest.toml, the entry for
    checkpoints/manifest.toml.
    """
    train_lifter(motion, out, options, report=print_result)


def ablate(
    motion: Motion,
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV file; rows of the same name are replaced.")],
    options: AblationOptions,
) -> None:
    """Train short runs that differ in one part of the recipe each, and score them on held-out motion.

    The runs stay in a folder named like the CSV file and are gone on with when called again.
    """
    run_ablations(motion, out, options, report=print_result)


def train_lifter(motion: Path, out: Path, options: TrainingOptions, report: Callable[[str], None]) -> None:
    """Train a lifter on the mocap in a folder and report where its weights are.

    Beside the files of ``lifter.training.train`` the folder gets ``manifest.toml``, the entry for checkpoints, and the
    curves as ``curve.png`` (if matplotlib is installed).

    Raises:
        ValueError: Unknown lifter or variant, or weights that do not fit.
        FileNotFoundError: No motion in the folder, or no run to branch off.
    """
    from lifter.runtime.devices import resolve_device
    from lifter.training.augmentation.config import BACK_AND_FORTH, AugmentationConfig
    from lifter.training.provenance import branch_folder, initial_weights
    from lifter.training.schedules import SCHEDULES, scaled
    from lifter.training.train import STATE
    from lifter.training.train import train as run_training
    from lifter.training.training_config import TrainingConfig

    schedule, branch_of = scaled(SCHEDULES[options.schedule], options.rate_scale), None
    if options.cooldown is not None:
        schedule = replace(schedule, decay="linear")
        branch_of, out = out / STATE, branch_folder(out, options.cooldown)
    build = functools.partial(create_model, options.lifter, schedule.drop_path, options.variant)
    untrained = build()  # refuses wrong names before motion is read
    initial = None
    if options.init_weights is not None:
        initial = initial_weights(options.init_weights, untrained, ", ".join([options.lifter, *options.variant]))
    train_set, held_out = _read_motion(motion, report)
    report(f"{train_set.minutes:.1f} minutes of motion, {held_out.minutes:.1f} held out; "
           f"{options.budget:g} minutes of training into {out}")  # fmt: skip
    recipe = AugmentationConfig(normalization=options.normalization, fps=options.fps, back_and_forth=BACK_AND_FORTH)
    config = TrainingConfig(
        options.budget, schedule, recipe, str(resolve_device(options.device)), options.seed, initial, branch_of,
        shlex.join(["posemamba", *sys.argv[1:]]),
    )  # fmt: skip
    errors = run_training(train_set, held_out, build, out, config, report=_and_draw(report, out))
    _write_manifest(out, held_out)
    report(f"{out / 'weights.safetensors'}: " + ", ".join(f"{name} {value:.1f} mm" for name, value in errors.items()))


def _read_motion(folder: Path, report: Callable[[str], None]) -> tuple[MotionLibrary, MotionLibrary]:
    """Return the motion to train on and that held out; the same files, reported once."""
    from lifter.training.mocap.library import load_motion

    return load_motion(folder, "train", report), load_motion(folder, "validation", report=lambda _: None)


def _and_draw(report: Callable[[str], None], folder: Path) -> Callable[[str], None]:
    """Return ``report`` that also draws the curve in ``folder``, where there is one and matplotlib."""

    def report_and_draw(line: str) -> None:
        report(line)
        if (folder / "curve.csv").exists() and find_spec("matplotlib"):
            from app.evaluation.training_curves import draw_curves

            draw_curves([folder / "curve.csv"], folder / "curve.png")

    return report_and_draw


def _write_manifest(folder: Path, held_out: MotionLibrary) -> None:
    from app.evaluation.smoothness import SIMULATED, assess_smoothness, long_clips
    from lifter.training.provenance import manifest_entry

    weights, clips = folder / "weights.safetensors", long_clips(held_out)
    trained = load_lifter(str(weights))  # its name tells the variant
    smoothness = assess_smoothness(trained, clips, SIMULATED) if clips else None
    text = manifest_entry(trained.name, weights, smoothness.acceleration_ratio if smoothness else None)
    (folder / "manifest.toml").write_text(text)


def run_ablations(motion: Path, out: Path, options: AblationOptions, report: Callable[[str], None]) -> None:
    """Run ``lifter.training.ablation`` on a small network of 3 block pairs, or on that of the given weights.

    Raises:
        ValueError: An unknown run.
    """
    from lifter.runtime.devices import resolve_device
    from lifter.training.ablation import ABLATIONS, ablate, write_row
    from lifter.training.training_config import TrainingConfig

    names = options.only or tuple(ABLATIONS)
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise ValueError(f"unknown run {unknown[0]!r}; choose among {', '.join(map(repr, ABLATIONS))}")
    out.parent.mkdir(parents=True, exist_ok=True)
    train_set, held_out = _read_motion(motion, report)
    start = options.init_weights
    for name in names:
        ablation = ABLATIONS[name]
        build, initial = _ablated_network(ablation, start, name)
        config = TrainingConfig(
            options.minutes, ablation.schedule, ablation.recipe, str(resolve_device(options.device)), initial=initial
        )
        row = ablate(name, train_set, held_out, build, out.with_suffix("") / name.replace(" ", "-"), config)
        write_row(out, {**row, "start": "none" if start is None else start.name})
        report(f"{name}: " + ", ".join(f"{key} {row[key]}" for key in row if key.endswith(("p1", "p2"))))


def _ablated_network(
    ablation: Ablation, start: Path | None, name: str
) -> tuple[Callable[[], nn.Module], InitialWeights | None]:
    """Return what builds the network of an ablation, and what it begins with."""
    from checkpoints.tensors import read_weights
    from lifter.load import build_for
    from lifter.models import posemamba
    from lifter.training.provenance import initial_weights

    if start is None:
        small = replace(posemamba.SMALL, depth=3, drop_path=0.0, reads_scores="reads_scores" in ablation.extras)
        return functools.partial(posemamba.build, small), None
    _, model, _ = build_for(read_weights(start).tensors)
    own: Any = model.config
    build = functools.partial(posemamba.build, replace(own, drop_path=0.0, **dict.fromkeys(ablation.extras, True)))
    return build, initial_weights(start, build(), name)
