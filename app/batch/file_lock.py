"""A lock file: one process at a time has it, and the system releases it when that process ends, however it ends."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NO_LOCKS = {errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # of a file system

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, *, is_optional: bool = False) -> Iterator[str]:
    """Lock the file ``path`` and yield a token, new each time, that it contains while it is locked.

    By the token, processes on other machines can tell whether they see this very file.

    Args:
        path: The file; made if there is none.
        is_optional: Go on with a warning where the file system has no locks (some network and shared folders).

    Raises:
        BlockingIOError: Another process has locked it; the text names it.
        OSError: The file cannot be written, or the file system has no locks.
    """
    token = uuid.uuid4().hex
    with path.open("a+b", buffering=0) as file:
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            raise BlockingIOError(_describe_owner(path)) from error
        except OSError as error:
            if not is_optional or error.errno not in NO_LOCKS:
                raise
            log.warning("%s lies in a file system without locks: let only one process write there at a time", path)
        file.truncate(0)
        owner = {
            "token": token,
            "process": os.getpid(),
            "host": platform.node(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        file.write(json.dumps(owner).encode())
        try:
            yield token
        finally:
            file.truncate(0)


def read_token(path: Path) -> str | None:
    """Return the token in a lock file, None if it is not locked or cannot be read."""
    return _read(path).get("token")


def _describe_owner(path: Path) -> str:
    owner = _read(path)
    return "process {process} on {host}, since {since}".format_map(owner) if owner else "an unknown process"


def _read(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
