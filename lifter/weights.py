"""Trained weights of lifters, by name or path: shipped, published (also in two files) or anybody's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from checkpoints import Entry, downloads, find, shipped, verify
from checkpoints.tensors import Weights, read_weights
from lifter.models.mdtf import join_stages
from lifter.registry import LIFTERS, configuration, create_model

FIRST_STAGE = "bam."  # how the keys of MDTF's first stage begin in a file of both
REPEATED = ("training_minutes", "revision", "validation_mm")  # in the provenance of results


def read_named(name_or_path: str | Path) -> Weights:
    """Return the weights that a name leads to, verified, or those of a file.

    Raises:
        FileNotFoundError: No such file, or the weights of the name are not here.
        RuntimeError: The file of a name has another hash than it must have.
        ValueError: Not a weights file, one that would have to run code to load, or only a part of a lifter.
    """
    name, published = str(name_or_path), downloads("lifter")
    if entry := published.get(name):
        return _read_published(entry, published)
    if name in LIFTERS and name not in (included := shipped()):
        theirs = next((each.name for each in published.values() if each.lifter == name), "")
        fetch = f"its authors publish {theirs} ('posemamba fetch {theirs}', then use that name); or " if theirs else ""
        raise FileNotFoundError(
            f"no trained weights for {name} come with this version (available: {', '.join(included) or 'none'}); "
            f"{fetch}train some with 'posemamba train --lifter {name}' or pass a weights file instead of a name"
        )
    return read_weights(find(name_or_path, "lifter"))


def _read_published(entry: Entry, known: dict[str, Entry]) -> Weights:
    """Return the verified weights of a published lifter; those of two stages joined."""
    if not entry.lifter:
        users = [each.name for each in known.values() if each.first_stage == entry.name]
        raise ValueError(f"{entry.name} is no lifter but the first stage of {' and '.join(users)}; use one of these")
    weights = read_weights(verify(entry))
    if not entry.first_stage:
        return weights
    if _has_first_stage(weights.tensors):
        return replace(weights, tensors=join_stages({}, weights.tensors))
    first = read_weights(verify(known[entry.first_stage]))
    tensors = join_stages(first.tensors, weights.tensors)
    return replace(weights, tensors=tensors, parts={first.path.name: first.sha256})


def require_network(entry: Entry, name: str, config: Any) -> None:
    """Raise ValueError unless a network, called ``name`` and configured so, is the one that an entry is named after."""
    if config != configuration(entry.lifter, ("as_released",) if entry.first_stage else ()):
        raise ValueError(f"it holds weights of {name}, expected {entry.lifter}")


def complete(entry: Entry, tensors: dict[str, Tensor]) -> tuple[Entry, dict[str, Tensor]]:
    """Return a lifter that the tensors of one file belong to, and all of its tensors; a missing stage is untrained."""
    known = downloads("lifter")
    user = entry if entry.lifter else next(each for each in known.values() if each.first_stage == entry.name)
    if not user.first_stage:
        return user, tensors
    blank = create_model(user.lifter).state_dict()
    first = {key.removeprefix(FIRST_STAGE): x for key, x in blank.items() if key.startswith(FIRST_STAGE)}
    second = {key: x for key, x in blank.items() if not key.startswith(FIRST_STAGE)}
    if not entry.lifter:
        return user, join_stages(tensors, second)
    return user, join_stages({} if _has_first_stage(tensors) else first, tensors)


def _has_first_stage(tensors: dict[str, Tensor]) -> bool:
    return any(key.startswith(FIRST_STAGE) for key in tensors)


def summary(weights: Weights) -> dict[str, Any]:
    """Return what the provenance of a result says about the weights; of training what whoever wrote the file claims."""
    try:
        training = json.loads(weights.metadata.get("training", "{}"))
    except json.JSONDecodeError:
        training = None
    claims = training if isinstance(training, dict) else {}
    about = {"file": weights.path.name, "sha256": weights.sha256, **{key: claims.get(key) for key in REPEATED}}
    return {**about, "parts": weights.parts} if weights.parts else about
