"""One process at a time: a lock file that the operating system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import json
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


@contextmanager
def held(path: Path) -> Iterator[str]:
    """Hold the lock file ``path`` and yield a token, new each time, that is written in it as long as it is held.

    Processes on other machines can tell by the token whether they see this very file.

    Raises:
        BlockingIOError: Another process holds it; the text says which.
        OSError: The file cannot be written, or the file system has no locks.
    """
    token = uuid.uuid4().hex
    with path.open("a+b", buffering=0) as file:
        try:
            _take(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            raise BlockingIOError(holder(path)) from error
        file.truncate(0)
        about = {
            "token": token,
            "process": os.getpid(),
            "host": platform.node(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        file.write(json.dumps(about).encode())
        try:
            yield token
        finally:
            file.truncate(0)


def token_in(path: Path) -> str | None:
    """Return the token of who holds the lock file, None if nobody does or the file cannot be read."""
    return _content(path).get("token")


def holder(path: Path) -> str:
    """Return in a few words who holds the lock file."""
    about = _content(path)
    return "process {process} on {host}, since {since}".format_map(about) if about else "a process that did not say who"


def _content(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def _take(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
