"""Reader of pickle files that hold plain numbers and text; never runs code from them.

Data sets are handed around as pickles (and as ``.npz`` files whose one array is a pickled dict), and a pickle may call
any function it names. Here a pickle can name nothing but the constructors of the standard containers and of NumPy
arrays, scalars and dtypes; and what stands behind the NumPy names is code of this file, which builds arrays from bytes
whose length was checked. NumPy's own unpickling code, which trusts its input, is never reached.

Memory: about the size of the content. More than ``MAX_BYTES`` is refused. A hostile file can still ask for more memory
than there is, but it cannot run anything.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

MAX_BYTES = 16 << 30  # the largest known file of the kind, Human3.6M with detections, has some gigabytes
# Booleans, numbers, texts and objects, with their size in bytes (texts: in characters).
SIMPLE_DTYPE = re.compile(r"b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU][1-9]\d{0,8}|O(8|4)?|\?")
# What damaged files were seen to raise inside the unpickler.
UNREADABLE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError,
              ArithmeticError, MemoryError, RecursionError)  # fmt: skip
NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # damaged, encrypted, unknown compression


def read_pickle(path: Path) -> Any:
    """Return what a pickle file holds: dicts, lists, tuples, sets, texts, bytes, numbers, None and NumPy arrays.

    Protocols 0 to 5, written under NumPy 1 or 2 (or by Python 2). Arrays of objects hold such values in turn; big
    arrays are read-only views of the file's content.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a pickle, too large, or one that names anything else; the text says what.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return _read(file, size, str(path))


def read_object_npz(path: Path, key: str) -> Any:
    """Return the one object that ``numpy.savez(path, key=object)`` pickled, under the rules of ``read_pickle``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not an npz file, ``key`` is missing or an ordinary array, or as in ``read_pickle``.
    """
    name = f"{key}.npy"
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                raise ValueError(f"{path} lacks {key}; it holds {', '.join(archive.namelist()) or 'nothing'}")
            size = archive.getinfo(name).file_size
            with archive.open(name) as member:
                return _read_npy(member, size, f"{path}, {name}")
    except NO_ARCHIVE as error:
        raise ValueError(f"{path} is no npz file: {error}") from error


def _read_npy(file: IO[bytes], size: int, source: str) -> Any:
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except ValueError as error:
        raise ValueError(f"{source} is no npy array: {error}") from error
    if not dtype.hasobject:
        raise ValueError(f"{source} is an array of {dtype} and shape {shape}, expected one pickled object")
    content = _read(file, size, source)
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content


def _read(file: IO[bytes], size: int, source: str) -> Any:
    if size > MAX_BYTES:
        raise ValueError(f"{source} has {size} bytes, expected at most {MAX_BYTES}")
    try:
        return _Finisher().finished(_Unpickler(file).load())
    except UNREADABLE as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{source} was not read: {reason[:300]}") from error


class _Unpickler(pickle.Unpickler):
    """Finds only what stands in ``ADMITTED``."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")  # texts of Python 2, among them the bytes of its arrays

    def find_class(self, module: str, name: str) -> Any:
        """Return what may be called by that name in a pickle; UnpicklingError for everything else."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; only NumPy arrays, numbers, texts and standard containers are admitted, "
                f"because anything else could run code"
            )
        return ADMITTED[module, name]


class _Constructor:
    """A callable without attributes: a pickle can call it but not change it."""

    __slots__ = ("_build",)
    __hash__ = None  # type: ignore[assignment]  # neither a key nor in a set, where ``_Finisher`` would not find it
    _build: Callable[..., Any]

    def __init__(self, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "_build", build)

    def __call__(self, *arguments: Any) -> Any:
        return self._build(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it sets the attribute {name!r} of a constructor")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a constructor")


class _Dtype:
    """A dtype on its way: text first, then byte order."""

    __slots__ = ("dtype",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str, *_: bool) -> None:
        if not isinstance(text, str) or not SIMPLE_DTYPE.fullmatch(text):
            raise pickle.UnpicklingError(f"it has an array of dtype {text!r}; expected numbers, texts or objects")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        _version, order, subarray, names, fields, *_ = state
        if (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("it has an array of records; expected numbers, texts or objects")
        if order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"it has an array of byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array on its way; its content comes with its state, or all at once through ``_from_buffer``."""

    __slots__ = ("content",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *_: Any) -> None:
        self.content: np.ndarray | _Objects | None = None

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, content = state
        self.content = _array(content, dtype, shape, "F" if is_fortran else "C")


def _from_buffer(content: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    made = _Array()
    made.content = _array(content, dtype, shape, order)
    return made


class _Objects:
    """An array of objects that may be on their way themselves."""

    __slots__ = ("elements", "order", "shape")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, elements: list, shape: tuple[int, ...], order: str) -> None:
        self.elements, self.shape, self.order = elements, shape, order


def _array(content: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray | _Objects:
    """Return an array of ``content``: bytes, or a list of objects."""
    kind = _dtype(dtype)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError(f"it has an array of shape {shape!r}")
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"it has an array of memory order {order!r}")
    count = math.prod(shape)
    if kind.hasobject:
        if not isinstance(content, list) or len(content) != count:
            raise pickle.UnpicklingError(f"it has an array of shape {shape} without its {count} objects")
        return _Objects(content, shape, order)
    raw = _checked(content, count * kind.itemsize, f"an array of shape {shape}")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, content: Any) -> Any:
    """Return a NumPy scalar."""
    kind = _dtype(dtype)
    if kind.hasobject:
        raise pickle.UnpicklingError("it has a scalar of dtype object")
    return np.frombuffer(_checked(content, kind.itemsize, "a scalar"), kind)[0]


def _dtype(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError(f"it has an array whose dtype is {type(dtype).__name__}")
    return dtype.dtype


def _checked(content: Any, size: int, what: str) -> bytes | bytearray:
    """Return ``content`` as bytes if there are ``size`` of them."""
    raw = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(raw, bytes | bytearray) or len(raw) != size:
        have = len(raw) if isinstance(raw, bytes | bytearray) else type(raw).__name__
        raise pickle.UnpicklingError(f"{what} needs {size} bytes, got {have}")
    return raw


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Return bytes that protocols below 3 store as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes {type(text).__name__} as {encoding!r}; expected text as latin1")
    return text.encode("latin1")


def _admitted() -> dict[tuple[str, str], Any]:
    """Return what a pickle may name: (module, name) to the object that takes its place."""
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Constructor(_Array),  # only ever an argument of _reconstruct
        ("numpy", "dtype"): _Constructor(_Dtype),
        ("_codecs", "encode"): _Constructor(_encode),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        names[f"{core}.multiarray", "_reconstruct"] = _Constructor(_Array)
        names[f"{core}.multiarray", "scalar"] = _Constructor(_scalar)
        names[f"{core}.numeric", "_frombuffer"] = _Constructor(_from_buffer)
    for module in ("builtins", "__builtin__"):  # Python 3 and 2; protocols below 4 have no other way to write these
        names[module, "bytes"] = _Constructor(_no_bytes)
        names[module, "set"] = _Constructor(lambda items=(): set(_list(items)))
        names[module, "frozenset"] = _Constructor(lambda items=(): frozenset(_list(items)))
    return names


def _no_bytes() -> bytes:
    """Return empty bytes; others come through ``_encode``."""
    return b""


def _list(items: Any) -> list | tuple:
    if not isinstance(items, list | tuple):
        raise pickle.UnpicklingError(f"it makes a set of {type(items).__name__}")
    return items


ADMITTED = _admitted()


class _Finisher:
    """Replaces what is on its way by arrays, inside containers too; each object once, so that sharing survives."""

    def __init__(self) -> None:
        self.done: dict[int, Any] = {}
        self.kept: list[Any] = []  # keeps what ``done`` knows by its id alive

    def finished(self, value: Any) -> Any:
        """Return ``value`` with all arrays in place."""
        if not isinstance(value, _Array | _Objects | _Dtype | _Constructor | dict | list | tuple):
            return value
        if id(value) not in self.done:
            self.kept.append(value)
            self._finish(value)
        return self.done[id(value)]

    def _finish(self, value: Any) -> None:
        made: Any
        if isinstance(value, dict):
            made = self.done[id(value)] = {}
            made.update((key, self.finished(item)) for key, item in value.items())
        elif isinstance(value, list):
            made = self.done[id(value)] = []
            made.extend(self.finished(item) for item in value)
        elif isinstance(value, tuple):
            self.done[id(value)] = tuple(self.finished(item) for item in value)
        elif isinstance(value, _Objects):
            made = self.done[id(value)] = np.empty(value.shape, object, order="F" if value.order == "F" else "C")
            flat = np.empty(len(value.elements), object)
            for index, item in enumerate(value.elements):
                flat[index] = self.finished(item)
            made[...] = flat.reshape(value.shape, order="F" if value.order == "F" else "C")
        elif isinstance(value, _Array) and value.content is not None:
            self.done[id(value)] = self.finished(value.content)
        else:
            raise pickle.UnpicklingError(
                f"it holds {type(value).__name__.strip('_').lower()} where a value is expected"
            )
