"""Weights on disk: names resolved through the manifest and verified by SHA-256, files read without running code."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from checkpoints.published import (
    FOLDER,
    PublishedWeights,
    hint_for,
    published_for,
    published_weights,
    read_published,
    read_toml,
)
from lifter import LIFTERS

MANIFEST = FOLDER / "manifest.toml"
SAID = ("training_minutes", "revision", "validation_mm")  # repeated in the provenance of results
NESTED_KEYS = ("model_pos", "model", "state_dict")  # where published training code keeps the weights
# What torch.load was seen to raise for damaged files, text files and files that would have to run code.
UNREADABLE = (pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError, OSError, TypeError,
              AttributeError, AssertionError, ArithmeticError, MemoryError)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights as read from a file.

    Attributes:
        tensors: State dict without a ``module.`` prefix.
        metadata: Strings stored beside the tensors (safetensors only).
        path: The file.
        sha256: Hash of the file's bytes.
        parts: Hashes by name of other files that tensors were taken from.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    path: Path
    sha256: str
    parts: dict[str, str] = field(default_factory=dict)


def manifest() -> dict[str, dict[str, Any]]:
    """Return the manifest: for every name at least ``file``, ``sha256``, ``license`` and ``source``."""
    return read_toml(MANIFEST)


def find_checkpoint(name: str) -> Path:
    """Return the verified weights file of ``name``, one that is shipped or one of ``checkpoints.published``.

    Raises:
        FileNotFoundError: No manifest has such an entry, or the file is absent.
        RuntimeError: The file's SHA-256 is not the manifest's, or not that of its first download.
    """
    if published := published_weights().get(name):
        return _find_published(published)
    entry = manifest().get(name)
    if entry is None:
        have, theirs = ", ".join(manifest()) or "none", published_for(name)
        fetch = f"its authors publish {theirs} ('posemamba fetch {theirs}', then use that name); or " if theirs else ""
        raise FileNotFoundError(
            f"no trained weights for {name} come with this version (available: {have}); {fetch}train some with "
            f"'posemamba train --lifter {name}' or pass a weights file instead of a name"
        )
    path = FOLDER / entry["file"]
    if not path.exists():
        raise FileNotFoundError(f"weights of {name} are missing: expected {path}, SHA-256 {entry['sha256']}")
    actual = sha256_of(path)
    if actual != entry["sha256"]:
        raise RuntimeError(
            f"{path} has SHA-256 {actual}, expected {entry['sha256']}: the file is damaged or was replaced; restore it "
            f"from the repository, or pass its path explicitly if you mean to use it"
        )
    return path


def _find_published(entry: PublishedWeights) -> Path:
    if not entry.path.is_file():
        raise FileNotFoundError(f"the weights {entry.name} are not here: posemamba fetch {entry.name}")
    if not entry.sha256:
        raise FileNotFoundError(
            f"{entry.path} is here but was never checked: posemamba fetch {entry.name} does that, without a download"
        )
    actual = sha256_of(entry.path)
    if actual != entry.sha256:
        raise RuntimeError(
            f"{entry.path} has SHA-256 {actual}, at its first download it had {entry.sha256}: the file is damaged or "
            f"was replaced; delete it and run posemamba fetch {entry.name}"
        )
    return entry.path


def read_named(name_or_path: str | Path) -> Weights:
    """Return the weights that a name leads to, verified, or those of a file.

    Raises:
        FileNotFoundError: No such file, or the weights of the name are not here.
        RuntimeError: The file of a name has another hash than it must have.
        ValueError: Not a weights file, or one that would have to run code to load.
    """
    name = str(name_or_path)
    if entry := published_weights().get(name):
        return read_published(entry)
    return read_weights(find_checkpoint(name) if name in LIFTERS else Path(name_or_path))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_weights(path: Path) -> Weights:
    """Return the tensors of a ``.safetensors`` file or of a published PyTorch checkpoint; never runs code from it.

    A PyTorch file may be a bare state dict or hold one under ``model_pos``, ``model`` or ``state_dict``; a ``module.``
    prefix is removed. Numpy scalars, as published training code stores them beside the weights, are admitted.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a weights file, or one that would have to run code to load.
    """
    if not path.is_file():
        hint = hint_for(str(path), [*LIFTERS, *published_weights()])
        names = "give a file or one of the names 'posemamba models' lists"
        raise FileNotFoundError("; ".join(filter(None, (f"no weights file {path}", names, hint))))
    digest = sha256_of(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return Weights({k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}, path, digest)  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file ({error}); download it again") from error
    return Weights(_read_torch(path), {}, path, digest)


def _read_torch(path: Path) -> dict[str, Tensor]:
    scalar = np.float64(0).__reduce__()[0]  # its module has moved between NumPy 1 and 2
    admitted: list[Any] = [
        scalar, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype,
        *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
    ]  # fmt: skip
    _refuse_bombs(path)
    try:
        with torch.serialization.safe_globals(admitted):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} was not loaded: {reason[:200]} - expected plain tensors; a file that needs to run code is refused"
        ) from error
    for key in NESTED_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        kind = f"keys {list(content)[:5]}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds no state dict: found {kind}, expected tensors or one of {NESTED_KEYS}")
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items()}


def _refuse_bombs(path: Path) -> None:
    """Raise ValueError for an archive that holds more than its size: PyTorch would unpack it, but never compresses."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # what PyTorch takes for an archive; before 1.6 its files were none
            return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} was not loaded: it is a damaged archive ({error}); get it again") from error
    if size > path.stat().st_size:
        raise ValueError(f"{path} was not loaded: {path.stat().st_size} bytes that unpack to {size}; weights never do")


def summary(weights: Weights) -> dict[str, Any]:
    """Return what the provenance of a result says about the weights."""
    said = {"file": weights.path.name, "sha256": weights.sha256, **{key: _said(weights, key) for key in SAID}}
    return {**said, "parts": weights.parts} if weights.parts else said


def _said(weights: Weights, key: str) -> Any:
    """Return what the file's metadata says of its training, None if nothing; only a claim of whoever wrote the file."""
    try:
        training = json.loads(weights.metadata.get("training", "{}"))
        return training.get(key) if isinstance(training, dict) else None
    except json.JSONDecodeError:
        return None
