"""From 2D keypoints to 3D joints: the registry of lifters, ``create_model`` and ``load_lifter``.

Importing this package imports no torch: models are named as strings and imported when they are asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints import Entry, downloads, shipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from lifter.load import Lifter


@dataclass(frozen=True)
class LifterSpec:
    """One entry of the registry.

    Attributes:
        module: Where the network is defined; has ``build(config)`` and ``config_of(state_dict)``.
        config: Name of the configuration in that module.
        window: Frames per window.
        about: What it is, in a few words.
        channels: Numbers per keypoint: 2 (x, y) or 3 (x, y, score).
        good_for: When to choose it, in a few words.
        origin: Whose design it is and whose code.
        published: Human3.6M P1 / P2 in mm as its authors published them, with the 2D they used; "" where there are none
            for this network.
    """

    module: str
    config: str
    window: int
    about: str
    channels: int = 2
    good_for: str = ""
    origin: str = ""
    published: str = ""


POSEMAMBA = "after Huang et al. 2024; code ours, takes published weights"
HGMAMBA = "after Cui et al. 2025; code ours"
MOTIONAGFORMER = "after Mehraban et al. 2024; code ours, takes published weights"
MDTF = "after Zheng et al. 2025; code ours, two mistakes corrected"
SSR_STF = "streams, attention after Xu et al. 2024 (no code); the rest ours"
LIFTERS = {
    "posemamba-s": LifterSpec(
        "lifter.models.posemamba", "SMALL", 243, "20 scan blocks of width 64",
        good_for="the default: five seconds at once, fast on a CPU", origin=POSEMAMBA, published="41.8 / -",
    ),
    "posemamba-b": LifterSpec(
        "lifter.models.posemamba", "BASE", 243, "20 scan blocks of width 128",
        good_for="training of your own", origin=POSEMAMBA, published="40.8 / -",
    ),
    "posemamba-l": LifterSpec(
        "lifter.models.posemamba", "LARGE", 243, "40 scan blocks of width 128",
        good_for="published weights on a GPU", origin=POSEMAMBA, published="38.1 / -",
    ),
    "hgmamba-xs": LifterSpec(
        "lifter.models.hgmamba", "XS", 27, "12 blocks of scans and hypergraphs, width 64", 3,
        good_for="seeing joints in groups along the limbs", origin=HGMAMBA, published="44.96 / 38.37",
    ),
    "hgmamba-s": LifterSpec(
        "lifter.models.hgmamba", "SMALL", 81, "26 blocks of scans and hypergraphs, width 64", 3,
        good_for="training of your own", origin=HGMAMBA, published="42.84 / 35.93",
    ),
    "hgmamba-b": LifterSpec(
        "lifter.models.hgmamba", "BASE", 243, "16 blocks of scans and hypergraphs, width 128", 3,
        good_for="training of your own on a GPU", origin=HGMAMBA, published="38.65 / 32.87",
    ),
    "motionagformer-xs": LifterSpec(
        "lifter.models.motionagformer", "XS", 27, "12 blocks of attention and graphs, width 64", 3,
        good_for="attention, to compare the scans with", origin=MOTIONAGFORMER,
    ),
    "motionagformer-s": LifterSpec(
        "lifter.models.motionagformer", "SMALL", 81, "26 blocks of attention and graphs, width 64", 3,
        good_for="published weights", origin=MOTIONAGFORMER, published="42.5 / 35.3",
    ),
    "motionagformer-b": LifterSpec(
        "lifter.models.motionagformer", "BASE", 243, "16 blocks of attention and graphs, width 128", 3,
        good_for="published weights on a GPU", origin=MOTIONAGFORMER, published="38.4 / -",
    ),
    "motionagformer-l": LifterSpec(
        "lifter.models.motionagformer", "LARGE", 243, "26 blocks of attention and graphs, width 128", 3,
        good_for="published weights on a GPU", origin=MOTIONAGFORMER, published="38.4 / 32.5",
    ),
    "mdtf-tiny": LifterSpec(
        "lifter.models.mdtf", "TINY", 243, "directions of bones first, then 16 scan blocks of width 64", 3,
        good_for="the least memory and disk; fast on a CPU", origin=MDTF, published="41.7 / 34.8 (mistakes kept)",
    ),
    "mdtf-large": LifterSpec(
        "lifter.models.mdtf", "LARGE", 243, "directions of bones first, then 24 scan blocks of width 128", 3,
        good_for="training of your own on a GPU", origin=MDTF, published="40.0 / 33.5 (mistakes kept)",
    ),
    "ssr-stf-xs": LifterSpec(
        "lifter.models.ssr_stf", "XS", 27, "12 blocks of local convolutions and attention, width 64", 3,
        good_for="short clips of any length, no scan needed", origin=SSR_STF,
    ),
    "ssr-stf-s": LifterSpec(
        "lifter.models.ssr_stf", "SMALL", 81, "26 blocks of local convolutions and attention, width 64", 3,
        good_for="training of your own", origin=SSR_STF,
    ),
    "ssr-stf-b": LifterSpec(
        "lifter.models.ssr_stf", "BASE", 243, "16 blocks of local convolutions and attention, width 128", 3,
        good_for="training of your own on a GPU", origin=SSR_STF,
    ),
}  # fmt: skip


def lifter_spec(name: str) -> LifterSpec:
    """Return the registry entry ``name``; ValueError with the known names otherwise."""
    if name not in LIFTERS:
        raise ValueError(f"unknown lifter {name!r}; choose one of {', '.join(LIFTERS)} or pass a weights file")
    return LIFTERS[name]


def trained_lifters() -> list[str]:
    """Return the lifters whose weights come with this version; hashes are not read."""
    included = shipped()
    return [name for name in LIFTERS if name in included and included[name].is_here]


def usable_lifters() -> list[str]:
    """Return the names that ``--lifter`` takes because all of their files are here, shipped or fetched; as above."""
    known = downloads("lifter")
    here = {"", *(name for name, entry in known.items() if entry.is_here)}
    return [*trained_lifters(), *(n for n, entry in known.items() if entry.lifter and {n, entry.first_stage} <= here)]


def create_model(name: str, drop_path: float | None = None, extras: Sequence[str] = ()) -> nn.Module:
    """Return the untrained network of lifter ``name``: (B, T, 17, channels) keypoints to (B, T, 17, 3) joints.

    Args:
        name: Key of ``LIFTERS``.
        drop_path: Stochastic depth in place of the published one; nothing for networks without it.
        extras: Parts of the configuration that are off unless named: "as_released" (MDTF), "use_bodyscale" (HGMamba).

    Raises:
        ValueError: Unknown name, or an extra that this network does not have.
    """
    config = configuration(name, extras)
    if drop_path is not None and hasattr(config, "drop_path"):
        config = replace(config, drop_path=drop_path)
    return importlib.import_module(lifter_spec(name).module).build(config)


def configuration(name: str, extras: Sequence[str] = ()) -> Any:
    """Return the configuration of lifter ``name``; arguments and errors as for ``create_model``."""
    spec = lifter_spec(name)
    config = getattr(importlib.import_module(spec.module), spec.config)
    known = [field.name for field in fields(config) if field.default is False]
    for extra in extras:
        if extra not in known:
            raise ValueError(f"{name} has no extra {extra!r}; it has {', '.join(known) or 'none'}")
    return replace(config, **dict.fromkeys(extras, True))


def load_lifter(name_or_path: str | Path, device: str = "auto", backend: str = "auto") -> Lifter:
    """Return a ready lifter: trained weights, in inference mode, on ``device``.

    Args:
        name_or_path: A name in ``LIFTERS`` (weights come from the checkpoints folder and are checked against the
            manifest's SHA-256), one of ``posemamba fetch`` (see ``checkpoints.manifest``), or a weights file of any of
            these networks: ours (``.safetensors``) or a published one.
        device: "auto" (a CUDA GPU if the scan has a kernel for it, else the CPU), "cpu", "cuda", "cuda:1", ...
        backend: Scan backend, see ``lifter.scan``.

    Raises:
        ValueError: Unknown name, or a file that holds no weights of a known network.
        FileNotFoundError: No such file; for a registered name the text says where to put it.
        RuntimeError: The backend or device cannot run here, or a hash does not match.
    """
    from lifter.load import load

    return load(name_or_path, device, backend)


def require_fit(entry: Entry, file: Path) -> None:
    """Raise ValueError unless a downloaded file holds weights of the network that its entry names."""
    from lifter.load import require_fit

    require_fit(entry, file)
