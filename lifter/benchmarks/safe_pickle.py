"""Pickles of numbers, texts and containers, read without running anything that the file names.

Benchmark files are pickles, passed from hand to hand. Ordinary unpickling calls whatever a file names, and even NumPy's
own part of it trusts its input: a dtype with forged flags makes an array of pointers out of bytes. So names lead to the
few functions in ``_Unpickler.find_class`` only, and a dtype is built from its text, never from the file's flags.

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
CORES = ("numpy.core", "numpy._core")  # NumPy 1 and 2


def read_pickle(path: Path) -> Any:
    """Return what a pickle file holds: dicts, lists, tuples, texts, bytes, numbers, None and NumPy arrays.

    Protocols 0 to 5, written under NumPy 1 or 2 (or by Python 2). Arrays of objects hold such values in turn.

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
        return _Unpickler(file, encoding="latin1").load()  # texts of Python 2, among them the bytes of its arrays
    except UNREADABLE as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{source} was not read: {reason[:300]}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what may be called by that name in a pickle; UnpicklingError for everything else.

        Functions are made anew every time: a pickle can set attributes of what it was given.
        """
        full = f"{module}.{name}"
        if full == "numpy.ndarray":
            return None  # only ever an argument of _reconstruct
        if full == "numpy.dtype":
            return lambda text, *_: _Dtype(text)
        if full in {f"{core}.multiarray._reconstruct" for core in CORES}:
            return lambda *_: _Array(0)
        if full in {f"{core}.multiarray.scalar" for core in CORES}:
            return lambda dtype, content: _array(content, dtype, (), "C")[()]
        if full in {f"{core}.numeric._frombuffer" for core in CORES}:
            return lambda *arguments: _array(*arguments)
        if full in ("builtins.bytes", "__builtin__.bytes"):
            return lambda: b""  # others come through _codecs.encode, as protocols below 3 store bytes as text
        if full == "_codecs.encode":
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(
            f"it names {full}; only NumPy arrays, numbers, texts and standard containers are admitted, because "
            "anything else could run code"
        )


class _Dtype:
    """A dtype of ``SIMPLE_DTYPE``; of what a pickle says about it later only the byte order counts."""

    __slots__ = ("dtype",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not SIMPLE_DTYPE.fullmatch(text):
            raise pickle.UnpicklingError(f"it has an array of dtype {text!r}; expected numbers, texts or objects")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        _version, order, subarray, names, fields, *_ = state
        if (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("it has an array of records; expected numbers, texts or objects")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array that is given its content by a pickle: bytes, or a list of objects."""

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError(f"it has an array whose dtype is {type(dtype).__name__}")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError(f"it has an array of shape {shape!r}")
        kind = dtype.dtype
        raw = content.encode("latin1") if isinstance(content, str) else content
        size = math.prod(shape) * (1 if kind.hasobject else kind.itemsize)
        if not isinstance(raw, list if kind.hasobject else bytes) or len(raw) != size:
            raise pickle.UnpicklingError(f"it has an array of {kind} and shape {shape} without its content")
        super().__setstate__((1, shape, kind, bool(is_fortran), raw))


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    array = _Array(0)
    array.__setstate__((1, shape, dtype, order == "F", bytes(content) if isinstance(content, bytearray) else content))
    return array
