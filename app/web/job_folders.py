"""Folders of jobs: inside a folder that only the server's user can read, deleted with the job or by the next server."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from app.batch import file_lock
from app.batch.folder_names import safe_stem

PREFIX = "posemamba-ui-"
LOCK = "lock"
COPY_BYTES = 1 << 20
MAX_SUFFIX_LENGTH = 10
# A pipe would wait for a writer, a link would lead elsewhere.
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class JobFolders:
    """The folders of one server, below ``path``; what killed servers left beside it is deleted.

    Args:
        root: Where the server's folder is made; default the system's folder for temporary files.

    Raises:
        OSError: Nothing can be written there.
    """

    def __init__(self, root: Path | None = None) -> None:
        root = Path(tempfile.gettempdir()) if root is None else root.absolute()
        root.mkdir(parents=True, exist_ok=True)
        _delete_abandoned(root)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))  # mode 0700
        self._stack = ExitStack()
        self._stack.enter_context(file_lock.locked(self.path / LOCK, is_optional=True))

    def new_folder(self) -> Path:
        """Return a new folder with a name that is hard to guess, for the server's user alone."""
        folder = self.path / secrets.token_urlsafe(24)
        folder.mkdir(mode=0o700)
        return folder

    def close(self) -> None:
        """Delete everything."""
        self._stack.close()
        shutil.rmtree(self.path, ignore_errors=True)


def open_upload(path: Path) -> BinaryIO:
    """Return an uploaded file, open for reading.

    Raises:
        ValueError: It is no plain file or cannot be read.
    """
    name = safe_name(path.name)
    try:
        descriptor = os.open(path, OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a name with a null in it
        raise ValueError(f"{name} cannot be read; expected a video file: upload it again") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{name} is a folder or device, expected a video file; choose the file itself")
    return os.fdopen(descriptor, "rb")


def store_upload(source: BinaryIO, name: str, folder: Path, max_bytes: int) -> Path:
    """Return the copy of an upload, in ``folder/upload``, under its own name as far as that is safe.

    Raises:
        ValueError: It is too large.
        OSError: The copy cannot be written.
    """
    copy = folder / "upload" / safe_name(name)
    copy.parent.mkdir()
    num_bytes = source.seek(0, os.SEEK_END)
    source.seek(0)
    if num_bytes > max_bytes:
        raise ValueError(too_large(copy.name, num_bytes, max_bytes))
    with copy.open("xb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
    return copy


def too_large(name: str, num_bytes: int, max_bytes: int) -> str:
    """Return the sentence for a file that is larger than the server takes."""
    return (
        f"{name} has {num_bytes / 1e6:.0f} MB, expected at most {max_bytes / 1e6:.0f} MB; cut it into shorter clips or "
        "compress it more"
    )


def safe_name(name: str) -> str:
    """Return a file name that is one on every system and leads nowhere, as near to ``name`` as that can be."""
    path = Path(name.replace("\\", "/"))
    suffix = path.suffix
    is_usual = suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= MAX_SUFFIX_LENGTH
    return safe_stem(path) + (suffix if is_usual else "")


def _delete_abandoned(root: Path) -> None:
    """Delete folders of servers that no longer run."""
    for folder in root.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
                continue
            with file_lock.locked(folder / LOCK):
                shutil.rmtree(folder, ignore_errors=True)
