"""Trains a PoseMamba on recorded motion: bounded by minutes, resumable, weights apart from optimizer state.

``laptop`` fits a CPU: it starts with a few blocks on short windows, where neighbouring frames repeat little, and grows.
New blocks start as the identity (their last linear layers are zero, and the two shared norms keep scale 1 and offset 0
until the last stage, so that one more norm changes nothing): growing never loses what was learned. ``full`` trains all
blocks from the start, for a GPU; ``published`` is the recipe of the paper's code.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.parallel import map_parts, num_parts
from lifter.precision import precision
from lifter.training.data import Batch, Randomness, Recipe, make_batch
from lifter.training.evaluate import validate
from lifter.training.losses import LossWeights, pose_loss
from lifter.training.motion import MotionLibrary, fingerprint
from lifter.training.muon import Muon

GRADIENT_CLIP = 1.0
WARM_UP_STEPS = 100
SAVE_EVERY_S = 20.0  # a run killed at any moment loses no more
VALIDATE_EVERY_S = 240.0
GROWN_LAYERS = ("op.out_proj.weight", "mlp.fc2.weight", "mlp.fc2.bias")  # zero in a new block


@dataclass(frozen=True)
class Stage:
    """Part of a training run.

    Attributes:
        until: Fraction of the budget at which the stage ends.
        depth: Block pairs in use; None means all.
        shapes: (windows, frames) of the batches whose mean gradient makes a step: short windows for variety, long
            ones because that is what inference uses.
        norms_learn: Whether the two shared norms have free scale and offset.
    """

    until: float
    depth: int | None
    shapes: tuple[tuple[int, int], ...]
    norms_learn: bool


@dataclass(frozen=True)
class Schedule:
    """A training recipe but for the data: stages, optimizers and loss.

    Attributes:
        stages: What is trained when.
        learning_rate: Of AdamW.
        muon_rate: Learning rate of Muon for the matrices inside the blocks; 0 leaves all to AdamW.
        weight_decay: Decoupled, for all.
        ema: Share of the old value that the averaged weights keep per step.
        drop_path: Largest stochastic depth.
        decays_learn: False keeps A = -(1 ... 16), for which the compiled scan needs one exponential instead of 16.
        loss: Weights of the loss terms.
    """

    stages: tuple[Stage, ...]
    learning_rate: float
    muon_rate: float
    weight_decay: float
    ema: float
    drop_path: float
    decays_learn: bool
    loss: LossWeights


OUR_LOSS = LossWeights(position=1.0, scale=0.5, velocity=4.0, smoothness=0.0)
SCHEDULES = {
    "laptop": Schedule(
        stages=(
            Stage(0.06, 3, ((16, 9), (6, 27)), False),
            Stage(0.40, 4, ((10, 27), (3, 81)), False),
            Stage(0.75, 5, ((10, 27), (1, 243)), False),
            Stage(0.96, 5, ((3, 81), (1, 243)), False),
            Stage(1.00, None, ((3, 81), (1, 243)), True),
        ),
        learning_rate=2.5e-3,
        muon_rate=1e-2,
        weight_decay=0.01,
        ema=0.998,
        drop_path=0.0,
        decays_learn=False,
        loss=OUR_LOSS,
    ),
    # For weights that exist, with --start: one more block, longer windows, lower rates.
    "finish": Schedule(
        stages=(
            Stage(0.35, 4, ((10, 27), (3, 81)), False),
            Stage(0.95, 4, ((5, 27), (2, 81), (1, 243)), False),
            Stage(1.00, None, ((3, 81), (1, 243)), True),
        ),
        learning_rate=1e-3,
        muon_rate=5e-3,
        weight_decay=0.01,
        ema=0.998,
        drop_path=0.0,
        decays_learn=False,
        loss=OUR_LOSS,
    ),
    "full": Schedule(
        stages=(
            Stage(0.70, None, ((128, 27), (16, 81), (8, 243)), True),
            Stage(1.00, None, ((32, 81), (16, 243)), True),
        ),
        learning_rate=2e-3,
        muon_rate=1e-2,
        weight_decay=0.01,
        ema=0.999,
        drop_path=0.1,
        decays_learn=False,
        loss=OUR_LOSS,
    ),
    "published": Schedule(
        stages=(Stage(1.00, None, ((4, 243),), True),),
        learning_rate=2e-4,
        muon_rate=0.0,
        weight_decay=0.01,
        ema=0.0,
        drop_path=0.2,
        decays_learn=True,
        loss=LossWeights(),
    ),
}


@dataclass(eq=False)
class Training:
    """Everything that changes during a run; ``state`` and ``restore`` make it survive an interruption."""

    model: PoseMamba
    ema: PoseMamba
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    seconds: float = 0.0
    validated: float = 0.0  # seconds at the last validation


def train(
    library: MotionLibrary,
    held_out: MotionLibrary,
    config: PoseMambaConfig,
    folder: Path,
    *,
    minutes: float,
    schedule: Schedule,
    recipe: Recipe,
    device: str = "cpu",
    seed: int = 0,
    command: str = "",
    start: dict[str, Tensor] | None = None,
    start_provenance: dict[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train until ``minutes`` of training time are used up and return the last validation errors (mm).

    Writes to ``folder``: ``state.pt`` every ``SAVE_EVERY_S`` (a folder with one is continued, from the very step), and
    with every validation ``weights.safetensors`` (averaged weights with provenance in their metadata) and a row of
    ``curve.csv``. On a GPU matrix products use TF32; the scan and everything that is summed are float32.

    Weights ``start`` of the same network are the beginning of a new run; a first stage of fewer blocks takes the first
    ones of them. ``start_provenance`` says where they come from. ``clock`` counts seconds.

    Raises:
        ValueError: The folder holds a run of another network size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = Randomness(seed, device)
    library, held_out = library.to(device), held_out.to(device)
    budget = 60 * minutes
    run = _restore(folder, config, schedule, rng) or _start(config, schedule, seed, device, start)
    if run.step:
        report(f"resumed at step {run.step}, {run.seconds / 60:.1f} minutes")
    provenance = {
        "command": command, "revision": git_revision(), "seed": seed, "device": device,
        "motion_sha256": fingerprint(library), "motion_minutes": round(library.minutes, 1),
        "recipe": asdict(recipe), "schedule": asdict(schedule), "start": start_provenance,
    }  # fmt: skip
    saved = run.seconds
    losses: list[float] = []
    errors: dict[str, float] | None = None
    with precision("tf32", torch.device(device)):
        while run.seconds < budget:
            began = clock()
            stage = next(s for s in schedule.stages if run.seconds / budget < s.until)
            _enter(run, stage, config, schedule)
            losses.append(_step(run, stage, library, recipe, schedule, run.seconds / budget, rng))
            run.step += 1
            run.seconds += clock() - began
            is_over = run.seconds >= budget
            if run.seconds - run.validated > VALIDATE_EVERY_S or is_over:
                run.validated = run.seconds
                errors = validate(run.ema, held_out, recipe)
                row = {"step": run.step, "minutes": run.seconds / 60, "depth": run.model.config.depth,
                       "loss": sum(losses) / len(losses), **errors}  # fmt: skip
                losses = []
                _save_weights(run, config, folder, provenance, errors)
                append_row(folder / "curve.csv", row)
                report(" ".join(f"{k} {v:.4g}" for k, v in row.items()))
            if run.seconds - saved > SAVE_EVERY_S or is_over:
                saved = run.seconds
                _save_state(run, folder, rng)
    return errors or validate(run.ema, held_out, recipe)


def _start(
    config: PoseMambaConfig, schedule: Schedule, seed: int, device: str, start: dict[str, Tensor] | None
) -> Training:
    torch.manual_seed(seed)
    depth = schedule.stages[0].depth or config.depth
    model = PoseMamba(replace(config, depth=depth, drop_path=schedule.drop_path)).to(device)
    nn.init.normal_(model.Spatial_pos_embed, std=0.02)
    if start is not None:
        model.load_state_dict({key: start[key] for key in model.state_dict()})
    if depth < config.depth:  # growing needs shared norms without scale and offset
        for norm in (model.Spatial_norm, model.Temporal_norm):
            norm.reset_parameters()
    return _training(model, model.state_dict(), schedule)


def _training(model: PoseMamba, ema: dict[str, Tensor], schedule: Schedule) -> Training:
    device = model.Spatial_pos_embed.device
    average = PoseMamba(model.config).to(device).eval().requires_grad_(False)
    average.load_state_dict(ema)
    if not schedule.decays_learn:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.endswith("A_logs"))
    named = {name: p for name, p in model.named_parameters()}
    matrices = {
        name: p for name, p in named.items()
        if "blocks." in name and p.ndim in (2, 3) and not name.endswith("A_logs") and schedule.muon_rate
    }  # fmt: skip
    rest = [(name, p) for name, p in named.items() if name not in matrices]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    ]
    if matrices:
        optimizers.append(Muon(matrices.items(), lr=schedule.muon_rate, weight_decay=schedule.weight_decay))
    return Training(model.train(), average, tuple(optimizers))


def grow(model: PoseMamba, depth: int) -> PoseMamba:
    """Return a deeper network that computes the same: new block pairs at the end start as the identity.

    What is random in them depends on nothing but the depth.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(depth)
        grown = PoseMamba(replace(model.config, depth=depth)).to(model.Spatial_pos_embed.device)
    kept = model.state_dict()
    state = {
        key: kept[key] if key in kept else torch.zeros_like(value) if key.endswith(GROWN_LAYERS) else value
        for key, value in grown.state_dict().items()
    }
    grown.load_state_dict(state)
    return grown


def _enter(run: Training, stage: Stage, config: PoseMambaConfig, schedule: Schedule) -> None:
    """Bring the network to the depth of ``stage`` (old blocks keep their optimizer state), free or freeze its norms."""
    depth = stage.depth or config.depth
    if depth > run.model.config.depth:
        old = {name: optimizer.state.get(parameter) for optimizer, name, parameter in _optimized(run)}
        grown = _training(grow(run.model, depth), grow(run.ema, depth).state_dict(), schedule)
        run.model, run.ema, run.optimizers = grown.model, grown.ema, grown.optimizers
        for optimizer, name, parameter in _optimized(run):
            if old.get(name):
                optimizer.state[parameter] = old[name]
    for norm in (run.model.Spatial_norm, run.model.Temporal_norm):
        norm.requires_grad_(stage.norms_learn)


def _optimized(run: Training) -> list[tuple[torch.optim.Optimizer, str, nn.Parameter]]:
    """Return every parameter with its name and its optimizer."""
    return [
        (optimizer, name, parameter)
        for optimizer in run.optimizers
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    ]


def _step(run, stage: Stage, library, recipe: Recipe, schedule: Schedule, progress: float, rng: Randomness) -> float:
    batches = [make_batch(library, windows, frames, recipe, rng) for windows, frames in stage.shapes]
    window = run.model.config.window
    firsts = [int(rng.integers(0, window - frames + 1, 1).item()) for _, frames in stage.shapes]  # every row learns
    share = max(0.01, min(1.0, (run.step + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * progress)) / 2)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * optimizer.defaults["lr"]
    loss = _gradients(run, batches, firsts, schedule.loss)
    nn.utils.clip_grad_norm_(run.model.parameters(), GRADIENT_CLIP)
    for optimizer in run.optimizers:
        optimizer.step()
    decay = min(schedule.ema, (run.step + 1) / (run.step + 10))
    averages, current = list(run.ema.parameters()), list(run.model.parameters())
    get_ema_multi_avg_fn(decay)(averages, current, None)
    return loss


def _gradients(run: Training, batches: list[Batch], first_frames: list[int], weights: LossWeights) -> float:
    """Set the gradients of the mean loss over the frames of all batches and return the loss.

    Every batch is a part of its own; on a CPU it is cut further until there is one part per core.
    """
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    frames = sum(batch.joints.shape[:2].numel() for batch in batches)
    parts = []
    for batch, first in zip(batches, first_frames, strict=True):
        count = num_parts(len(batch.inputs), batch.inputs.device)
        count = -(-count // len(batches))
        pieces = zip(batch.inputs.tensor_split(count), batch.joints.tensor_split(count), strict=True)
        parts += [(inputs, joints, first) for inputs, joints in pieces]

    def work(inputs: Tensor, joints: Tensor, first: int) -> tuple[float, list[Tensor]]:
        loss = pose_loss(run.model(inputs, first), joints, weights) * (joints.shape[:2].numel() / frames)
        return float(loss.detach()), list(torch.autograd.grad(loss, parameters))

    run_part = map_parts if run.model.Spatial_pos_embed.device.type == "cpu" else map
    results = list(run_part(work, *zip(*parts, strict=True)))
    for parameter, *gradients in zip(parameters, *(grads for _, grads in results), strict=True):
        parameter.grad = functools.reduce(torch.add, gradients)
    return sum(loss for loss, _ in results)


def _save_state(run: Training, folder: Path, rng: Randomness) -> None:
    state = {
        "model": run.model.state_dict(),
        "ema": run.ema.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "depth": run.model.config.depth,
        "step": run.step,
        "seconds": run.seconds,
        "validated": run.validated,
        "generator": rng.generator.get_state(),
        "torch_generator": torch.get_rng_state(),  # stochastic depth draws from torch's own
        "cuda_generator": torch.cuda.get_rng_state(rng.device) if rng.device.type == "cuda" else None,
    }
    part = folder / "state.pt.part"
    torch.save(state, part)
    part.replace(folder / "state.pt")


def _save_weights(run: Training, config, folder: Path, provenance: dict[str, Any], errors: dict[str, float]) -> None:
    weights = grow(run.ema, config.depth) if run.ema.config.depth < config.depth else run.ema
    training = {
        **provenance,
        "training_minutes": round(run.seconds / 60, 1),
        "steps": run.step,
        "validation_mm": {name: round(value, 1) for name, value in errors.items()},
    }
    metadata = {
        "normalization": provenance["recipe"]["normalization"],
        "unit": "m",
        "training": json.dumps(training),
    }
    save_weights(weights.state_dict(), metadata, folder / "weights.safetensors")


def append_row(path: Path, row: dict[str, float]) -> None:
    """Add ``row`` to the curve in ``path``; rows of the same or later steps, of a run that was cut off, are dropped."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if float(old["step"]) < row["step"]]
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        writer.writeheader()
        writer.writerows([*rows, {name: f"{value:.5g}" for name, value in row.items()}])
    part.replace(path)


def save_weights(state: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a state dict with metadata as safetensors, under a temporary name until it is whole."""
    part = path.with_name(path.name + ".part")
    save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, part, metadata)
    part.replace(path)


def _restore(folder: Path, config: PoseMambaConfig, schedule: Schedule, rng: Randomness) -> Training | None:
    if not (folder / "state.pt").exists():
        return None
    state = torch.load(folder / "state.pt", map_location=rng.device, weights_only=True)
    width = state["model"]["Spatial_pos_embed"].shape[-1]
    if width != config.width or state["depth"] > config.depth:
        raise ValueError(
            f"{folder} holds a run of width {width} and depth {state['depth']}, expected width {config.width} and "
            f"depth up to {config.depth}; choose another folder"
        )
    model = PoseMamba(replace(config, depth=state["depth"], drop_path=schedule.drop_path)).to(rng.device)
    model.load_state_dict(state["model"])
    run = _training(model, state["ema"], schedule)
    for optimizer, saved in zip(run.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    run.step, run.seconds, run.validated = state["step"], state["seconds"], state.get("validated", state["seconds"])
    rng.generator.set_state(state["generator"].cpu())
    torch.set_rng_state(state["torch_generator"].cpu())
    if rng.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_generator"].cpu(), rng.device)
    return run


def git_revision() -> str:
    """Return the commit of the code, with ``+`` if files differ from it; "unknown" outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
