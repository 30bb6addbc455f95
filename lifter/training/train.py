"""Trains a lifter on recorded motion: bounded by minutes, resumable, weights apart from optimizer state."""

from __future__ import annotations

import copy
import csv
import json
import math
import re
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from checkpoints import atomic_write
from lifter.runtime.precision import precision
from lifter.training.augmentation.batches import Batch, make_batch
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.gradients import Gradients, Portion, RecordedGradients, gradients_on, num_frames
from lifter.training.losses import at_rate, pose_loss
from lifter.training.mocap.library import MotionLibrary, fingerprint
from lifter.training.muon import Muon
from lifter.training.schedules import Schedule, Stage
from lifter.training.training_config import InitialWeights, TrainingConfig
from lifter.training.validation import validate

GRADIENT_CLIP = 1.0
WARM_UP_STEPS = 100
STATE = "state.pt"
COUNTERS = ("step", "frames", "seconds", "branched", "validated")  # of ``Training``, in a state file
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
    "none": lambda progress: 1.0,
}
SAVE_EVERY_S = 20.0  # a run killed at any moment loses no more
VALIDATE_EVERY_S = 600.0  # scoring takes a minute of one core
# Steps whose windows are made at once: on a GPU making few takes as long as making many.
STEPS_AHEAD = {"cpu": 1, "cuda": 8}
PRETRAINING = 0.15  # of the budget, for networks with a part that is trained first and then kept
BLOCK = re.compile(r"(blocks|layers)\.\d+\.")
DECAY = re.compile(r"A_(b_)?logs?$")


@dataclass(eq=False)
class Training:
    """Everything that changes during a run; saving and restoring it makes a run survive an interruption."""

    model: nn.Module
    ema: nn.Module
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    frames: int = 0  # seen in all
    seconds: float = 0.0
    branched: float = 0.0  # seconds at which this run left the one it is a branch of
    validated: float = 0.0  # seconds at the last validation
    is_pretrained: bool = True  # False while the part of ``trained_first`` is what learns


def train(
    library: MotionLibrary,
    held_out: MotionLibrary,
    build: Callable[[], nn.Module],
    folder: Path,
    config: TrainingConfig,
    *,
    clock: Callable[[], float] = time.perf_counter,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train until the minutes of ``config`` are used up and return the last validation errors (mm).

    Writes to ``folder``: ``state.pt`` every ``SAVE_EVERY_S`` (a folder with one is continued, from the very step), and
    with every validation ``weights.safetensors`` (averaged weights with provenance in their metadata) and a row of
    ``curve.csv``. On a GPU matrix products use TF32; the scan and everything that is summed are float32.

    ``build`` returns the untrained network, in the interface of ``lifter.models``. A network with a ``pretrained_part``
    trains that first, by its ``pretraining_loss``, unless it starts from weights, and keeps its average. ``clock``
    counts seconds.

    Raises:
        ValueError: The folder, or the branched run, holds a run of another network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = Rng(config.seed, config.device)
    library, held_out = library.to(config.device), held_out.to(config.device)
    torch.manual_seed(config.seed)
    run = _begin(build().to(config.device), config.schedule, config.initial)
    if not _restore(run, folder / STATE, rng) and config.branch_of is not None and _restore(run, config.branch_of, rng):
        run.branched = run.validated = run.seconds
    budget = 60 * config.minutes
    if run.step:
        report(f"resumed at step {run.step}, {run.seconds / 60:.1f} minutes")
    steps = _Steps(run, library, config.recipe, config.schedule, rng)
    provenance = _provenance(library, config)
    saved, losses, errors = run.seconds, list[Tensor](), None
    with precision("tf32", torch.device(config.device)):
        while run.seconds < run.branched + budget:
            began = clock()
            losses.append(steps.take((run.seconds - run.branched) / budget))
            if steps.can_stop:
                losses[-1].item()  # waits for a GPU, so that seconds are those of its work
            run.seconds += clock() - began
            is_over = run.seconds >= run.branched + budget
            if run.seconds - run.validated > VALIDATE_EVERY_S or is_over:
                run.validated = run.seconds
                errors = validate(run.ema, held_out, config.recipe)
                _save_weights(run, folder, provenance, errors)
                row = {"step": run.step, "frames": run.frames, "minutes": run.seconds / 60,
                       "loss": float(torch.stack(losses).mean()), **errors}  # fmt: skip
                append_row(folder / "curve.csv", row)
                report(" ".join(f"{k} {v:.4g}" for k, v in row.items()))
                losses = []
            if is_over or (steps.can_stop and run.seconds - saved > SAVE_EVERY_S):
                saved = run.seconds
                _save_state(run, folder, rng)
    return errors or validate(run.ema, held_out, config.recipe)


def _provenance(library: MotionLibrary, config: TrainingConfig) -> dict[str, Any]:
    return {
        "command": config.command, "revision": git_revision(), "seed": config.seed, "device": config.device,
        "motion_sha256": fingerprint(library), "motion_minutes": round(library.minutes, 1),
        "recipe": asdict(config.recipe), "schedule": asdict(config.schedule),
        "start": config.initial.provenance if config.initial else None,
    }  # fmt: skip


def _begin(model: nn.Module, schedule: Schedule, initial: InitialWeights | None) -> Training:
    """Return a new run of ``model``, from weights if given."""
    for name, parameter in model.named_parameters():
        if name.endswith("patial_pos_embed") or name == "pos_embed":  # all joints alike would stay alike for long
            nn.init.normal_(parameter, std=0.02)
        if ".layer_scale_" in name:
            nn.init.constant_(parameter, schedule.layer_scale)
        if DECAY.search(name) and not schedule.decays_learn:
            parameter.requires_grad_(False)
    if initial is not None:
        model.load_state_dict(initial.tensors)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    matrices = {name: p for name, p in model.named_parameters() if schedule.muon_rate and _is_matrix(name, p)}
    rest = [(name, p) for name, p in model.named_parameters() if name not in matrices]
    is_cuda = rest[0][1].device.type == "cuda"
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=is_cuda)
    ]
    if matrices:
        optimizers.append(Muon(matrices.items(), lr=schedule.muon_rate, weight_decay=schedule.weight_decay))
    is_pretrained = initial is not None or trained_first(model) is None
    return Training(model.train(), average, tuple(optimizers), is_pretrained=is_pretrained)


def trained_first(model: nn.Module) -> nn.Module | None:
    """Return the part of a network that is trained by its ``pretraining_loss`` and then kept, None if it has none."""
    return getattr(model, "pretrained_part", None)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter is a matrix, or a stack of them, between the channels of a block."""
    is_graph = name.endswith("_adj")  # weights of given edges
    return bool(
        BLOCK.search(name) and parameter.ndim in (2, 3) and min(parameter.shape[-2:]) > 2
        and not DECAY.search(name) and not is_graph and ".conv1d" not in name
    )  # fmt: skip


class _Steps:
    """Makes batches and takes optimizer steps.

    Attributes:
        can_stop: Whether no windows are left that were made ahead, so that a run continued here makes the same ones.
    """

    def __init__(
        self, run: Training, library: MotionLibrary, recipe: AugmentationConfig, schedule: Schedule, rng: Rng
    ) -> None:
        self._run, self._library, self._recipe, self._schedule, self._rng = run, library, recipe, schedule, rng
        self._waiting: deque[list[Portion]] = deque()
        self._gradients: Gradients | RecordedGradients | None = None
        self._task: tuple[Stage, bool] | None = None

    @property
    def can_stop(self) -> bool:
        return not self._waiting

    def take(self, progress: float) -> Tensor:
        """Take one step at ``progress`` (0 to 1) through the budget and return the loss, a scalar tensor."""
        run, schedule = self._run, self._schedule
        if not self._waiting:  # what was made for a stage is used up first
            self._enter(progress)
            self._waiting.extend(self._make())
        if trained_first(run.model) is not None:  # its two parts learn one after the other
            progress = (progress - PRETRAINING) / (1 - PRETRAINING) if run.is_pretrained else progress / PRETRAINING
        share = max(
            0.01, min(1.0, (run.step + 1) / WARM_UP_STEPS) * DECAYS[schedule.decay](min(1.0, max(0.0, progress)))
        )
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * optimizer.defaults["lr"]
        assert self._gradients is not None
        portions = self._waiting.popleft()
        loss = self._gradients(portions)
        nn.utils.clip_grad_norm_([p for p in run.model.parameters() if p.grad is not None], GRADIENT_CLIP)
        for optimizer in run.optimizers:
            optimizer.step()
        _average(run, min(schedule.ema, (run.step + 1) / (run.step + 10)))
        run.step += 1
        run.frames += num_frames(portions)
        return loss

    def _enter(self, progress: float) -> None:
        """Begin the stage at ``progress``, if it is not the current one."""
        stage = next(s for s in self._schedule.stages if progress < s.until)
        model: Any = self._run.model
        first, average = trained_first(model), trained_first(self._run.ema)
        if first is not None and average is not None and not self._run.is_pretrained and progress >= PRETRAINING:
            first.load_state_dict(average.state_dict())
            self._run.is_pretrained = True
        is_pretraining = not self._run.is_pretrained
        if (stage, is_pretraining) == self._task:
            return
        self._task = stage, is_pretraining
        early = set(first.parameters()) if first is not None else set()
        parameters = [p for p in model.parameters() if p.requires_grad and (p in early) == is_pretraining]
        for parameter in model.parameters():
            parameter.grad = None  # optimizers leave alone what has none
        channels, weights = model.config.channels, at_rate(self._schedule.loss, self._recipe.fps)

        def loss(inputs: Tensor, joints: Tensor, first: Tensor) -> Tensor:
            if is_pretraining:
                return model.pretraining_loss(inputs[..., :channels], joints)
            return pose_loss(model(inputs[..., :channels], first), joints, weights)

        # batch statistics are of all windows, and a shuffled scan shuffles all alike
        is_divisible = not any(isinstance(module, nn.BatchNorm1d) for module in model.modules())
        self._gradients = gradients_on(self._rng.device, loss, parameters, is_divisible=is_divisible)

    def _make(self) -> list[list[Portion]]:
        """Return the portions of some steps."""
        assert self._task is not None
        config: Any = self._run.model.config
        ahead = STEPS_AHEAD[self._rng.device.type]
        steps: list[list[Portion]] = [[] for _ in range(ahead)]
        for windows, frames in self._task[0].shapes_for(config):
            many = make_batch(self._library, ahead * windows, frames, self._recipe, self._rng)
            firsts = self._rng.integers(0, config.window - frames + 1, ahead).split(1)  # every row learns
            pieces = zip(many.inputs.split(windows), many.joints.split(windows), firsts, strict=True)
            for portions, (inputs, joints, first) in zip(steps, pieces, strict=True):
                portions.append(Portion(Batch(inputs, joints), first))
        return steps


def _average(run: Training, decay: float) -> None:
    """Let the averaged weights follow; buffers, such as the statistics of a BatchNorm, are copied."""
    averages, current = list(run.ema.parameters()), list(run.model.parameters())
    get_ema_multi_avg_fn(decay)(averages, current, None)
    for average, value in zip(run.ema.buffers(), run.model.buffers(), strict=True):
        average.copy_(value)


def _save_state(run: Training, folder: Path, rng: Rng) -> None:
    state = {
        "config": asdict(run.model.config),  # type: ignore[call-overload]
        "model": run.model.state_dict(),
        "ema": run.ema.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        **{name: getattr(run, name) for name in COUNTERS},
        "is_pretrained": run.is_pretrained,
        "generator": rng.generator.get_state(),
        "torch_generator": torch.get_rng_state(),  # stochastic depth draws from torch's own
        "cuda_generator": torch.cuda.get_rng_state(rng.device) if rng.device.type == "cuda" else None,
    }
    with atomic_write(folder / STATE) as part:
        torch.save(state, part)


def _restore(run: Training, file: Path, rng: Rng) -> bool:
    """Bring ``run`` to where the one of a state file stopped; return whether there is such a file."""
    if not file.exists():
        return False
    state = torch.load(file, map_location=rng.device, weights_only=True)
    config = asdict(run.model.config)  # type: ignore[call-overload]
    if state.get("config") != config:
        raise ValueError(f"{file} is of a run of {state.get('config')}, expected {config}; choose another folder")
    run.model.load_state_dict(state["model"])
    run.ema.load_state_dict(state["ema"])
    for optimizer, saved in zip(run.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    for name in COUNTERS:
        setattr(run, name, state[name])
    run.is_pretrained = state.get("is_pretrained", True)
    rng.generator.set_state(state["generator"].cpu())
    torch.set_rng_state(state["torch_generator"].cpu())
    if rng.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_generator"].cpu(), rng.device)
    return True


def _save_weights(run: Training, folder: Path, provenance: dict[str, Any], errors: dict[str, float]) -> None:
    training = {
        **provenance,
        "training_minutes": round(run.seconds / 60, 1),
        "steps": run.step,
        "frames": run.frames,
        "validation_mm": {name: round(value, 1) for name, value in errors.items()},
    }
    metadata = {
        "normalization": provenance["recipe"]["normalization"],
        "unit": "m",
        "fps": str(provenance["recipe"]["fps"]),
        "training": json.dumps(training),
    }
    save_weights(with_half_matrices(run.ema.state_dict()), metadata, folder / "weights.safetensors")


def append_row(path: Path, row: dict[str, float]) -> None:
    """Add ``row`` to the curve in ``path``; rows of the same or later steps, of a run that was cut off, are dropped."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if float(old["step"]) < row["step"]]
    with atomic_write(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        writer.writeheader()
        writer.writerows([*rows, {name: f"{value:.5g}" for name, value in row.items()}])


def save_weights(state: dict[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a state dict with metadata as safetensors, under a temporary name until it is whole."""
    with atomic_write(path) as part:
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, part, metadata)


def with_half_matrices(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict whose matrices are float16: half the file, errors the same to 0.1 mm.

    The rest is small and stays as it is; so do decays, which the scan knows by their exact numbers, and matrices with
    numbers too large for float16.
    """
    largest = torch.finfo(torch.float16).max
    return {
        name: value.half() if value.ndim >= 2 and not DECAY.search(name) and value.abs().max() < largest else value
        for name, value in state.items()
    }


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
