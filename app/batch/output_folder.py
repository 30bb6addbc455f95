"""The folder of results: one batch at a time writes to it, and a clip's folder appears only when it is complete.

``OUT/<name>/`` contains the results of one clip and ``clip.json``, the record of what they were made from.
``OUT/.posemamba/`` contains ``lock``, ``names.json`` (the folder of every clip), ``parts/`` (folders being filled) and
``old/`` (results being replaced). A killed batch leaves files in the last two at most; the next batch removes them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.batch import file_lock
from checkpoints.files import atomic_write, sync

MARKER = "clip.json"  # the record of a clip's results, written last
STATE_FOLDER = ".posemamba"
POSE_MARK = b'"posemamba/pose/'  # at the beginning of pose.json, of whatever version
RESERVED = ("batch.jsonl", "summary.csv")
PROBE_BYTES = 1 << 20  # no clip is started where not even this can be written


@dataclass(frozen=True)
class FolderLock:
    """The lock of one batch on its output folder.

    Attributes:
        token: By which its workers recognize the folder.
        interrupted: Names of clips that a killed batch was analyzing.
    """

    token: str
    interrupted: set[str]


class OutFolder:
    """The results below one path.

    Attributes:
        path: Absolute path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._state = self.path / STATE_FOLDER

    @contextmanager
    def locked(self) -> Iterator[FolderLock]:
        """Lock the folder for one batch, and remove what killed ones left.

        Raises:
            RuntimeError: Another batch writes to it, or nothing can be written there.
        """
        with ExitStack() as stack:
            try:
                self._state.mkdir(parents=True, exist_ok=True)
                token = stack.enter_context(file_lock.locked(self._state / "lock", is_optional=True))
                _check_writable(self._state)
            except BlockingIOError as error:
                raise RuntimeError(
                    f"another batch is writing to {self.path} ({error}); wait for it to end, or choose another folder"
                ) from error
            except OSError as error:
                raise RuntimeError(
                    f"nothing can be written to {self.path} ({error.strerror}); free some space or choose another "
                    "folder"
                ) from error
            interrupted = {path.name for box in _list_folder(self._state / "parts") for path in _list_folder(box)}
            self._clean_up()
            stack.callback(self._clean_up)
            yield FolderLock(token, interrupted)

    def record(self, name: str) -> dict[str, Any] | None:
        """Return the record of a clip's results, None unless they are complete."""
        record = _read_json(self.path / name / MARKER)
        files = record.get("files")
        if not isinstance(files, dict):
            return None
        sizes = {file: path.stat().st_size for file in files if (path := self.path / name / file).is_file()}
        return record if sizes == files else None

    def names(self) -> dict[str, str]:
        """Return the name of the folder of every clip seen so far, by the clip's path."""
        names: dict[str, str] = _read_json(self._state / "names.json")
        owned = set(names.values())
        for marker in sorted(self.path.glob(f"*/{MARKER}")):  # should names.json be lost
            if marker.parent.name not in owned and (clip := _read_json(marker).get("clip")):
                names.setdefault(clip, marker.parent.name)
        return names

    def save_names(self, names: dict[str, str]) -> None:
        """Store the name of every clip's folder."""
        with atomic_write(self._state / "names.json", is_durable=True) as part:
            part.write_bytes(json.dumps(names, indent=0).encode())

    def _clean_up(self) -> None:
        """Delete what killed processes left; results that were being replaced get their name back."""
        shutil.rmtree(self._state / "parts", ignore_errors=True)
        for probe in self._state.glob("probe-*"):
            probe.unlink(missing_ok=True)
        for box in _list_folder(self._state / "old"):
            for old in _list_folder(box):
                with suppress(OSError):  # the new ones have it
                    old.rename(self.path / old.name)
                _discard(old, self.path / old.name)
            shutil.rmtree(box, ignore_errors=True)


def is_results(folder: Path) -> bool:
    """Return whether a folder contains the results of a clip, of any batch or of an export."""
    if {"clip", "folder", "files"} <= _read_json(folder / MARKER).keys():
        return True
    try:
        with (folder / "pose.json").open("rb") as file:
            return POSE_MARK in file.read(200)
    except OSError:
        return False


@contextmanager
def temporary_folder(out: Path, name: str) -> Iterator[Path]:
    """Yield a new folder called ``name``, hidden in ``out``, to be filled and published; else it is deleted.

    Raises:
        OSError: Nothing can be written, for instance because the disk is full.
    """
    box = out / STATE_FOLDER / "parts" / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        (box / name).mkdir(parents=True)
        _check_writable(box)
        yield box / name
    finally:
        shutil.rmtree(box, ignore_errors=True)


def publish(folder: Path, record: dict[str, Any], out: Path) -> dict[str, Any]:
    """Give a filled folder its name in ``out`` and return its record, now with ``files`` (name to bytes).

    Everything is on the disk before the name changes. Earlier results of that name are deleted; files that others put
    beside them stay. Where processes publish the same name at once, the last one wins.

    Raises:
        OSError: It cannot be written.
    """
    record = {**record, "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())}}
    (folder / MARKER).write_bytes(json.dumps(record, indent=1).encode() + b"\n")
    for path in (*folder.iterdir(), folder):
        sync(path)
    final, replaced = out / folder.name, []
    while not _rename(folder, final):
        old = out / STATE_FOLDER / "old" / uuid.uuid4().hex / folder.name
        old.parent.mkdir(parents=True)
        replaced.append(old)
        with suppress(FileNotFoundError):  # another process has moved it
            final.rename(old)
    sync(out)
    for old in replaced:
        _discard(old, final)
        shutil.rmtree(old.parent, ignore_errors=True)
    return record


def _rename(folder: Path, final: Path) -> bool:
    """Return whether ``folder`` could be renamed; False if there is a folder with content of that name."""
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _discard(old: Path, new: Path) -> None:
    """Delete old results; files that others put beside them move to ``new``."""
    results = {MARKER, *_read_json(old / MARKER).get("files", ())}
    for path in _list_folder(old):
        if path.name not in results and not (new / path.name).exists():
            with suppress(FileNotFoundError):  # another process has moved it
                path.rename(new / path.name)
    shutil.rmtree(old, ignore_errors=True)


def _list_folder(folder: Path) -> list[Path]:
    """Return the content of a folder, nothing if it does not exist: workers of a killed batch may still delete it."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _check_writable(folder: Path) -> None:
    """Raise OSError if nothing can be written."""
    probe = folder / f"probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no such file or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
