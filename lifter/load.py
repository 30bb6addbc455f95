"""Weights to a ready ``Lifter``: which network they fit, on which device and scan backend."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints import Entry, downloads
from checkpoints.tensors import Weights, read_weights
from lifter import normalize, scan
from lifter.registry import LIFTERS
from lifter.runtime.adaptive_batch import AdaptiveBatch
from lifter.runtime.cpu_parallel import map_parts, num_parts
from lifter.runtime.cuda_graphs import GraphedModel
from lifter.runtime.devices import GPU_BACKENDS, resolve_device
from lifter.skeletons import MOTION_FPS
from lifter.weights import complete, read_named, require_network, summary

# Mirrored copies double them. On a CPU 250 MB for the small network, and more is no faster (measured). On a GPU
# three and a half minutes of video: work for every multiprocessor of a large card, in about 4 GB for the small network
# and 7 GB for the large one (by counting tensors); where that is too much the batch is halved, see
# lifter.runtime.adaptive_batch.
FRAMES_PER_BATCH = {"cpu": 4 * 243, "cuda": 64 * 243}


@dataclass(frozen=True, eq=False)
class Lifter:
    """A trained network with everything needed to use it rightly.

    Attributes:
        model: (B, T, 17, channels) normalized keypoints to (B, T, 17, 3).
        name: Registry name of the architecture, or the name of its published weights.
        window: Frames per window.
        normalization: "person" or "picture", see ``lifter.normalize``.
        unit: "m" or "normalized".
        device: Where the model lives.
        provenance: Weights, hash, backend and conventions, ready for JSON.
        uses_graphs: Whether forward passes are replayed as CUDA graphs.
        channels: What the network reads of a keypoint: 2 (x, y) or 3 (x, y, score).
        fps: Frames per second of what it takes.
    """

    model: nn.Module
    name: str
    window: int
    normalization: str
    unit: str
    device: torch.device
    provenance: dict[str, Any]
    uses_graphs: bool = False
    channels: int = 2
    fps: float = MOTION_FPS

    @property
    def windows_per_batch(self) -> int:
        """Windows that are lifted at once, memory permitting."""
        return max(1, FRAMES_PER_BATCH.get(self.device.type, FRAMES_PER_BATCH["cpu"]) // self.window)

    @functools.cached_property
    def forward(self) -> AdaptiveBatch:
        """The model for any number of rows, each (T, 17, channels) to (T, 17, 3), in batches that fit into memory."""
        if not self.uses_graphs:
            return AdaptiveBatch(functools.partial(_on_all_cores, self.model))
        row = (self.window, 17, self.channels)
        return AdaptiveBatch(GraphedModel(self.model, row, self.device, 2 * self.windows_per_batch))


def load(name_or_path: str | Path, device: str, backend: str) -> Lifter:
    """Return a ready lifter; see ``lifter.load_lifter``."""
    given = str(name_or_path)
    on = resolve_device(device, backend)
    chosen = scan.resolve_backend(backend, on)
    weights = read_named(given)
    name, model, window = build_for(weights.tensors)
    if given in LIFTERS and name != given:
        raise ValueError(f"{weights.path} holds weights of {name}, expected {given}")
    if entry := downloads("lifter").get(given):
        require_network(entry, name, model.config)
        name = given
    scan.use_backend(model, chosen)
    normalization = weights.metadata.get("normalization", "picture")  # published weights: by picture width
    unit = weights.metadata.get("unit", "normalized")
    fps = rate_of(weights)
    if normalization not in normalize.NORMALIZATIONS or unit not in ("m", "normalized"):
        raise ValueError(
            f"{weights.path} names normalization {normalization!r} and unit {unit!r}, which this version lacks"
        )
    channels, scans = int(model.config.channels), scan.has_scan(model)  # type: ignore[union-attr, arg-type]
    provenance = {
        "name": name,
        "weights": summary(weights),
        "normalization": normalization,
        "unit": unit,
        "fps": fps,
        "window": window,
        "channels": channels,
        "scan_backend": scan.describe(chosen) if scans else "none: this network does not scan",
        "device": str(on),
    }
    model = model.eval().requires_grad_(False).to(on)
    uses_graphs = on.type == "cuda" and (chosen in GPU_BACKENDS or not scans)  # a loop: 80 000 nodes per graph
    return Lifter(model, name, window, normalization, unit, on, provenance, uses_graphs, channels, fps)


def require_fit(entry: Entry, file: Path) -> None:
    """Raise ValueError unless a file fits the network of an entry, strictly."""
    lifter, tensors = complete(entry, read_weights(file).tensors)
    name, model, _ = build_for(tensors)
    require_network(lifter, name, model.config)


def rate_of(weights: Weights) -> float:
    """Return the frames per second that a network was trained at; published ones at those of Human3.6M.

    Raises:
        ValueError: The file names another rate than training can have.
    """
    text = weights.metadata.get("fps", str(MOTION_FPS))
    if text not in (known := [str(MOTION_FPS / stride) for stride in (1, 2)]):
        raise ValueError(f"{weights.path} names {text!r} frames per second, expected one of {', '.join(known)}")
    return float(text)


def build_for(tensors: dict[str, Tensor]) -> tuple[str, nn.Module, int]:
    """Return (registry name, network, frames per window) that a state dict fits strictly.

    A network that is not registered is named by its architecture and what its configuration holds.

    Raises:
        ValueError: No known network has these keys and shapes; the text names the first differences.
    """
    module, config = _architecture(tensors)
    name = _name(module, config)
    with torch.device("meta"):  # shapes only: a hostile file must not make us allocate what it claims
        expected = module.build(config).state_dict()
    missing = [key for key in expected if key not in tensors]
    unexpected = [key for key in tensors if key not in expected]
    shapes = [k for k in expected if k in tensors and expected[k].shape != tensors[k].shape]
    if missing or unexpected or shapes:
        raise ValueError(
            f"weights do not fit {name}: missing {missing[:3]}, unexpected {unexpected[:3]}, wrong shape {shapes[:3]}"
        )
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(f"weights hold numbers that are not finite, in {broken[:3]}; the training of this file failed")
    model = module.build(config)
    model.load_state_dict(tensors, strict=True)
    return name, model, config.window


def _architecture(tensors: dict[str, Tensor]) -> tuple[ModuleType, Any]:
    """Return the module of the architecture that the keys of a state dict belong to, and the configuration."""
    modules = dict.fromkeys(spec.module for spec in LIFTERS.values())
    refusals = []
    for path in modules:
        module = importlib.import_module(path)
        try:
            return module, module.config_of(tensors)
        except ValueError as error:
            refusals.append(str(error))
    keys = ", ".join(list(tensors)[:3]) or "none"
    raise ValueError(f"these are weights of no known network: {'; '.join(refusals)}; the file has the keys {keys}")


def _name(module: ModuleType, config: Any) -> str:
    """Return the registry name of a configuration, whatever it reads of keypoints, or one made of what it holds."""
    plain = replace(config, reads_scores=False) if hasattr(config, "reads_scores") else config
    for name, spec in LIFTERS.items():
        if spec.module == module.__name__ and getattr(module, spec.config) == plain:
            return name
    changed = [f"{field.name}{getattr(plain, field.name)}" for field in fields(plain)
            if getattr(plain, field.name) != field.default]  # fmt: skip
    return "-".join([module.__name__.rpartition(".")[2], *changed])


def _on_all_cores(model: nn.Module, rows: Tensor) -> Tensor:
    """Return ``model(rows)``; on a CPU every core takes a part of the rows."""
    parts = rows.tensor_split(num_parts(len(rows), rows.device))
    return torch.cat(map_parts(torch.inference_mode()(model), parts))
