"""Files of any kind: their SHA-256, and writing them whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 1 << 20  # bytes that are hashed at once


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def atomic_write(path: Path, is_durable: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it replaces ``path`` on success and is removed on failure.

    Args:
        path: The file that is there whole or not at all.
        is_durable: Wait until the content is on the disk, so that a power failure cannot leave an empty file.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        if is_durable:
            sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when a file or folder is on the disk."""
    if sys.platform == "win32":  # knows no such thing for what is open for reading only
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
