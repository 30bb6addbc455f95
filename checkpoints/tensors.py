"""Weights files read as tensors: safetensors, state dicts, and checkpoints that hold a pickled network.

Many published weights are pickles: Ultralytics stores whole modules, training code what it knew beside the weights.
Unpickling runs what the file names. Here every name becomes ``Inert``, a class that does nothing: PyTorch's restricted
unpickler (``weights_only``) rebuilds the tensors, ``Inert`` keeps the attributes, and the tensors are picked out. No
code of the file's choice is imported or called, not even that of the package which wrote it.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from checkpoints.files import sha256_of

# Who may be named at all. Their names load as Inert like any other would; a file that names anything else was not
# written by a trainer, and saying so beats loading what is left of it.
WRITERS = ("ultralytics.", "torch.", "torchvision.", "numpy.", "collections.", "pathlib.", "mmengine.", "mmpose.",
           "mmcv.", "models.", "utils.")  # fmt: skip
BUILTINS = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("getattr", "object", "range",
            "set", "slice", "complex", "bytearray")}  # fmt: skip
OTHERS = BUILTINS | {"types.SimpleNamespace", "functools.partial", "_codecs.encode", "copyreg._reconstructor",
                     "argparse.Namespace", "datetime.datetime"}  # fmt: skip
# What NumPy's scalars beside weights name; files before PyTorch 1.6 cannot be asked what they do.
OLD_NAMES = ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"]
NETWORK_KEYS = ("ema", "model")  # of Ultralytics' checkpoints: the averaged weights, if there are any, else the last
STATE_KEYS = ("model_pos", "state_dict", "model")  # of everybody else's
# What torch.load was seen to raise for damaged files, text files and files that would have to run code.
UNREADABLE = (pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError, LookupError, OSError, TypeError,
              AttributeError, AssertionError, ArithmeticError, MemoryError)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights as read from a file.

    Attributes:
        tensors: State dict on the CPU without a ``module.`` prefix, floating point numbers as float32.
        path: The file.
        sha256: Hash of the file's bytes.
        metadata: Strings stored beside the tensors of safetensors.
        attributes: Plain attributes of a pickled network, of any type.
        parts: Hashes by name of other files that tensors were taken from.
    """

    tensors: dict[str, Tensor]
    path: Path
    sha256: str
    metadata: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)

    @property
    def about(self) -> dict[str, Any]:
        """What lies beside the tensors, whatever kind of file it is."""
        return {**self.attributes, **self.metadata}


class Inert:
    """Stands in for every class and function that a pickle names: does nothing, keeps attributes."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Make one whatever the real class would have been told."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore it."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({key: value for key, value in state.items() if isinstance(key, str)})


def read_weights(path: Path) -> Weights:
    """Return the tensors of a ``.safetensors`` file or of a PyTorch checkpoint; never runs code from it.

    A checkpoint is a state dict, holds one under ``STATE_KEYS``, or holds a network under ``NETWORK_KEYS``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a weights file, or one that names code which no trainer writes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    digest = sha256_of(path)
    metadata: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, attributes = _read_torch(path)
    size, most = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), 2 * path.stat().st_size
    if size > most:  # numbers that repeat without being stored; some are shared
        raise ValueError(f"{path} was not loaded: its tensors claim {size} bytes, expected at most {most}")
    tensors = {key: tensor.detach().float() if tensor.is_floating_point() else tensor
               for key, tensor in tensors.items()}  # fmt: skip
    return Weights(tensors, path, digest, metadata, attributes)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); download it again") from error


def _read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    _refuse_bombs(path)
    content = _load(path)
    if isinstance(content, dict):
        for key in NETWORK_KEYS:
            if isinstance(content.get(key), Inert):
                return tensors_of(content[key]), _attributes(content[key])
        content = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content or not all(isinstance(x, Tensor) for x in content.values()):
        kind = f"keys {list(content)[:5]}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds no weights: found {kind}, expected tensors, a state dict or a network")
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items()}, {}


def _load(path: Path) -> Any:
    """Return what a PyTorch file holds, with ``Inert`` in place of everything that is no plain value or tensor."""
    named = _names_in(path)
    strangers = sorted(name for name in named if not name.startswith(WRITERS) and name not in OTHERS)
    if strangers:
        raise ValueError(
            f"{path} was not loaded: it names {', '.join(strangers[:3])}, which no weights need; "
            "a file that needs to run code is refused"
        )
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in named]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} was not loaded: {reason[:200]} - expected plain tensors; a file that needs to run code is refused"
        ) from error


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


def _names_in(path: Path) -> list[str]:
    """Return what a checkpoint names beyond tensors and plain values."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except UNREADABLE:
        return OLD_NAMES


def tensors_of(network: Inert, prefix: str = "") -> dict[str, Tensor]:
    """Return the state dict of a network that was unpickled as ``Inert``."""
    state = vars(network)
    transient = state.get("_non_persistent_buffers_set") or ()
    found = {prefix + name: x for name, x in (state.get("_parameters") or {}).items() if isinstance(x, Tensor)}
    for name, tensor in (state.get("_buffers") or {}).items():
        if isinstance(tensor, Tensor) and not (isinstance(transient, set) and name in transient):
            found[prefix + name] = tensor
    for name, child in (state.get("_modules") or {}).items():
        if isinstance(child, Inert):
            found.update(tensors_of(child, f"{prefix}{name}."))
    return found


def _attributes(network: Inert) -> dict[str, Any]:
    return {key: value for key, value in vars(network).items() if not key.startswith("_")}
