"""The folder of results: one batch at a time, names that stay, clips' folders that appear only when they are whole.

``OUT/<name>/`` holds the results of one clip, ``clip.json`` among them: what they were made from. ``OUT/.posemamba/``
holds ``lock``, ``names.json`` (which clip owns which name), ``parts/`` (folders being filled) and ``old/`` (results
being replaced). Whoever is killed leaves at most something in the last two; the next batch tidies up.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.batch import file_lock
from checkpoints.files import atomic_write, sync

MARKER = "clip.json"  # the record of a clip's results, written last
OURS = ".posemamba"
RESERVED = ("batch.jsonl", "summary.csv")
LONGEST_NAME = 200  # bytes; file systems allow 255, and a number may come behind
PROBE_BYTES = 1 << 20  # no clip is begun where not even this can be written


@dataclass(frozen=True)
class FolderLock:
    """An output folder in the hands of one batch.

    Attributes:
        token: By which its workers know the folder.
        interrupted: Names of clips that a killed batch was at.
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
        self._ours = self.path / OURS

    @contextmanager
    def locked(self) -> Iterator[FolderLock]:
        """Hold the folder for one batch, tidied before and after.

        Raises:
            RuntimeError: Another batch holds it, or nothing can be written there.
        """
        with ExitStack() as stack:
            try:
                self._ours.mkdir(parents=True, exist_ok=True)
                token = stack.enter_context(file_lock.held(self._ours / "lock"))
                _probe(self._ours)
            except BlockingIOError as error:
                raise RuntimeError(
                    f"another batch is writing to {self.path} ({error}); wait for it to end, or choose another folder"
                ) from error
            except OSError as error:
                raise RuntimeError(
                    f"nothing can be written to {self.path} ({error.strerror}); make room or choose another folder"
                ) from error
            interrupted = {path.name for box in _found(self._ours / "parts") for path in _found(box)}
            self._tidy()
            stack.callback(self._tidy)
            yield FolderLock(token, interrupted)

    def record(self, name: str) -> dict[str, Any] | None:
        """Return the record of a clip's results, None unless they are there whole."""
        record = _read_json(self.path / name / MARKER)
        files = record.get("files")
        if not isinstance(files, dict):
            return None
        sizes = {file: path.stat().st_size for file in files if (path := self.path / name / file).is_file()}
        return record if sizes == files else None

    def names(self) -> dict[str, str]:
        """Return the name of every clip seen so far, by its path."""
        names: dict[str, str] = _read_json(self._ours / "names.json")
        owned = set(names.values())
        for marker in sorted(self.path.glob(f"*/{MARKER}")):  # should names.json be lost
            if marker.parent.name not in owned and (clip := _read_json(marker).get("clip")):
                names.setdefault(clip, marker.parent.name)
        return names

    def new_name(self, clip: Path, names: dict[str, str]) -> str:
        """Return a name for a clip that has none: its stem, with -2, -3, ... where that is taken; never a way out."""
        stem = "".join(c if c.isprintable() else "_" for c in clip.stem)
        stem = stem.encode()[:LONGEST_NAME].decode(errors="ignore")
        stem = "clip" if not stem.strip(". ") else f"_{stem}" if stem.startswith(".") else stem
        taken = {_folded(name) for name in (*names.values(), *RESERVED)}
        name, number = stem, 1
        while _folded(name) in taken or _is_of_others(self.path / name):
            number += 1
            name = f"{stem}-{number}"
        return name

    def save_names(self, names: dict[str, str]) -> None:
        """Remember the name of every clip."""
        with atomic_write(self._ours / "names.json", is_durable=True) as part:
            part.write_bytes(json.dumps(names, indent=0).encode())

    def _tidy(self) -> None:
        """Delete what killed processes left; results that were about to be replaced get their name back."""
        shutil.rmtree(self._ours / "parts", ignore_errors=True)
        for pattern in ("probe-*", ".names.json.*.part", *(f"../.{name}.*.part" for name in RESERVED)):
            for part in self._ours.glob(pattern):
                part.unlink(missing_ok=True)
        for box in _found(self._ours / "old"):
            for old in _found(box):
                with suppress(OSError):  # new ones are there
                    old.rename(self.path / old.name)
                _discard(old, self.path / old.name)
            shutil.rmtree(box, ignore_errors=True)


@contextmanager
def part_of(out: Path, name: str) -> Iterator[Path]:
    """Yield a new folder called ``name``, hidden in ``out``, to be filled and published; it is deleted otherwise.

    Raises:
        OSError: Nothing can be written, for instance because the disk is full.
    """
    box = out / OURS / "parts" / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        (box / name).mkdir(parents=True)
        _probe(box)
        yield box / name
    finally:
        shutil.rmtree(box, ignore_errors=True)


def publish(folder: Path, record: dict[str, Any], out: Path) -> dict[str, Any]:
    """Give a filled folder its name in ``out`` and return its record, now with ``files`` (name to bytes).

    Everything is on the disk before the name changes. Earlier results of that name go; what others put beside them
    stays. Processes that publish the same name at once do no harm: the last one wins.

    Raises:
        OSError: It cannot be written.
    """
    record = {**record, "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())}}
    (folder / MARKER).write_bytes(json.dumps(record, indent=1).encode() + b"\n")
    for path in (*folder.iterdir(), folder):
        sync(path)
    final, replaced = out / folder.name, []
    while not _rename(folder, final):
        old = out / OURS / "old" / uuid.uuid4().hex / folder.name
        old.parent.mkdir(parents=True)
        replaced.append(old)
        with suppress(FileNotFoundError):  # somebody else moved it away
            final.rename(old)
    sync(out)
    for old in replaced:
        _discard(old, final)
        shutil.rmtree(old.parent, ignore_errors=True)
    return record


def _rename(folder: Path, final: Path) -> bool:
    """Return whether ``folder`` could take its name; False if a folder with something in it has it."""
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _discard(old: Path, new: Path) -> None:
    """Delete old results; what others put beside them moves to ``new``."""
    ours = {MARKER, *_read_json(old / MARKER).get("files", ())}
    for path in _found(old):
        if path.name not in ours and not (new / path.name).exists():
            with suppress(FileNotFoundError):  # another process is at it, too
                path.rename(new / path.name)
    shutil.rmtree(old, ignore_errors=True)


def _found(folder: Path) -> list[Path]:
    """Return what is in a folder, nothing if there is none: workers of a batch that died may still delete it."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _probe(folder: Path) -> None:
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


def _is_of_others(path: Path) -> bool:
    """Return whether something is there that is no folder of results, nor an empty one."""
    if path.is_dir() and not path.is_symlink():
        return not (path / MARKER).exists() and any(path.iterdir())
    return os.path.lexists(path)


def _folded(name: str) -> str:
    """Return what is the same for names that some file systems take for one (case, composed accents)."""
    return unicodedata.normalize("NFC", name).casefold()
