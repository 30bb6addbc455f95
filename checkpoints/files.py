"""Files of any kind: their SHA-256, and writing them whole or not at all."""

from __future__ import annotations

import errno
import functools
import glob
import hashlib
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHUNK = 1 << 20  # bytes that are hashed at once
NO_FOLDER_SYNC = {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EISDIR}
_STARTED_AT = time.time()


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

    What killed processes left under temporary names of ``path`` is deleted by the first call of a later process.

    Args:
        path: The file that is there whole or not at all.
        is_durable: Wait until the content is on the disk, so that a power failure cannot leave an empty file.
    """
    _delete_stale_parts(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:12]}.part")
    try:
        yield part
        if is_durable:
            sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@functools.lru_cache(maxsize=1024)  # once in a process: folders of large batches take time to list
def _delete_stale_parts(path: Path) -> None:
    """Delete unfinished files of ``path`` that are older than this process and whose own process is gone."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*-*.part"):
        owner = part.name.removeprefix(f".{path.name}.").partition("-")[0]
        with suppress(OSError):  # another process deletes it, too
            is_older = part.stat().st_mtime < _STARTED_AT
            if is_older and owner.isdecimal() and not _is_running_elsewhere(int(owner)):
                part.unlink()


def _is_running_elsewhere(process: int) -> bool:
    """Return whether another process than this one has the number; in a container numbers are soon used again."""
    if process == os.getpid() or sys.platform == "win32":  # where an open file cannot be deleted anyway
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def sync(path: Path) -> None:
    """Return when a file or folder is on the disk; some file systems cannot do that for folders, which is no error."""
    if sys.platform == "win32":  # knows no such thing for what is open for reading only
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC or not path.is_dir():
            raise
