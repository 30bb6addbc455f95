"""Folders of jobs: inside a folder that only the server's user can read, deleted with the job or by the next server."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

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


def copy_upload(upload: Path, folder: Path, max_bytes: int) -> Path:
    """Return the copy of an uploaded file in ``folder``, under the same name as far as that is safe.

    Raises:
        ValueError: It is no file, cannot be read or is too large.
        OSError: The copy cannot be written.
    """
    suffix = upload.suffix
    is_usual = suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= MAX_SUFFIX_LENGTH
    copy = folder / (safe_stem(upload) + (suffix if is_usual else ""))
    try:
        descriptor = os.open(upload, OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a name with a null in it
        raise ValueError(f"{copy.name} cannot be read; expected a video file: upload it again") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ValueError(f"{copy.name} is a folder or device, expected a video file; choose the file itself")
    with os.fdopen(descriptor, "rb") as source:
        if status.st_size > max_bytes:
            raise ValueError(
                f"{copy.name} has {status.st_size / 1e6:.0f} MB, expected at most {max_bytes / 1e6:.0f} MB; cut it "
                "into shorter clips or compress it more"
            )
        with copy.open("xb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)
    return copy


def _delete_abandoned(root: Path) -> None:
    """Delete folders of servers that no longer run."""
    for folder in root.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
                continue
            with file_lock.locked(folder / LOCK):
                shutil.rmtree(folder, ignore_errors=True)
