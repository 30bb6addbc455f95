"""Names of the folders of results: safe for every file system, distinct, and the same in every run."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from app.batch.find_videos import size_of
from app.batch.output_folder import MARKER, RESERVED, OutFolder
from checkpoints import sha256_of

MAX_STEM_BYTES = 200  # file systems allow 255, and a number may follow


def safe_stem(clip: Path) -> str:
    """Return the stem of a file's name as a name of a folder: printable, not hidden, not too long, never empty."""
    stem = "".join(c if c.isprintable() else "_" for c in clip.stem)
    stem = stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    return "clip" if not stem.strip(". ") else f"_{stem}" if stem.startswith(".") else stem


class NameAllocator:
    """Finds names for new folders in ``out``: the stem of the clip, or stem-2, stem-3, ... where that is taken.

    Args:
        out: The folder of all results.
        taken: Names that clips have already.
    """

    def __init__(self, out: Path, taken: Iterable[str] = ()) -> None:
        self._out = out
        self._taken = {_normalized(name) for name in (*taken, *RESERVED)}
        self._last_numbers: dict[str, int] = {}  # by stem; those below are taken

    def new_name(self, clip: Path) -> str:
        """Return a name that no other clip has, from now on the name of ``clip``."""
        stem = safe_stem(clip)
        number = self._last_numbers.get(stem, 0)
        while True:
            number += 1
            name = stem if number == 1 else f"{stem}-{number}"
            if _normalized(name) not in self._taken and not _belongs_to_others(self._out / name):
                break
        self._last_numbers[stem] = number
        self._taken.add(_normalized(name))
        return name


def assign_names(clips: list[Path], folder: OutFolder) -> dict[str, str]:
    """Return the name of the folder of every clip ever seen, by its path; it stays the same whatever clips are added.

    A new clip takes over the folder of a missing one with the same content (it was moved), or gets a new one.
    """
    names = folder.names()
    allocator = NameAllocator(folder.path, names.values())
    missing = _missing_clips(clips, names, folder)
    sizes = {size for size, _ in missing}
    for clip in clips:
        if str(clip) in names:
            continue
        size = size_of(clip)
        same = missing.get((size, digest(clip)), []) if size in sizes else []
        names[str(clip)] = names.pop(same.pop()) if same else allocator.new_name(clip)
    return names


def digest(clip: Path) -> str:
    """Return the SHA-256 of a video, empty if it cannot be read."""
    try:
        return sha256_of(clip)
    except OSError:
        return ""


def _missing_clips(
    clips: list[Path], names: dict[str, str], folder: OutFolder
) -> dict[tuple[int | None, str | None], list[str]]:
    """Return clips that have results but no longer exist, by size and SHA-256, in falling order."""
    missing: dict[tuple[int | None, str | None], list[str]] = {}
    for clip in sorted(names.keys() - set(map(str, clips)), reverse=True):
        if size_of(Path(clip)) is None and (record := folder.record(names[clip])):
            missing.setdefault((record.get("video_bytes"), record.get("video_sha256")), []).append(clip)
    return missing


def _belongs_to_others(path: Path) -> bool:
    """Return whether a path is taken by anything but a folder of results or an empty folder."""
    if path.is_dir() and not path.is_symlink():
        return not (path / MARKER).exists() and any(path.iterdir())
    return os.path.lexists(path)


def _normalized(name: str) -> str:
    """Return the same for names that some file systems do not distinguish (case, composed accents)."""
    return unicodedata.normalize("NFC", name).casefold()
