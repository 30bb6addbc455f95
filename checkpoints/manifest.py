"""Which weights there are, by name: those in this repository and those that others publish. Imports no torch."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from checkpoints.files import sha256_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = Literal["detector", "lifter"]
KINDS: tuple[Kind, ...] = ("detector", "lifter")
FOLDER = Path(__file__).resolve().parent
DOWNLOADED = FOLDER / "downloaded"
SHIPPED_LIST = FOLDER / "manifest.toml"
DOWNLOADS_LIST = FOLDER / "downloads.toml"
MIN_DIGITS = 8  # of a SHA-256 of which the publisher says only the beginning
MAX_BYTES = 500_000_000  # of a download of unknown size; the largest lifter has 19 million numbers, 3 times with Adam
UNPUBLISHED = {"hgmamba": "HGMamba", "ssr-stf": "SSR-STF"}  # their authors publish no weights


@dataclass(frozen=True, slots=True)
class Entry:
    """One weights file that has a name.

    Attributes:
        name: What the command line calls it.
        kind: Which package reads it.
        file: File name without folders.
        license: Of the weights.
        sha256: Of the whole file, or its first digits where the publisher says no more. "" for published lifters: the
            hash of their first download is recorded and demanded from then on.
        sources: Addresses to fetch it from, best first; none for files of this repository.
        megabytes: Size of a download, rounded; 0 if unknown.
        about: What it is, in a few words.
        package: Optional package that is needed to use it; "" if none.
        lifter: Name of the network in ``lifter.LIFTERS``; "" for detectors, and for a first stage, a part of others.
        first_stage: Name of the file with the first stage of the network; "" if it has none.
        details: How a file of this repository was trained, as ``manifest.toml`` says it.
    """

    name: str
    kind: Kind
    file: str
    license: str = ""
    sha256: str = ""
    sources: tuple[str, ...] = ()
    megabytes: int = 0
    about: str = ""
    package: str = ""
    lifter: str = ""
    first_stage: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_recorded_later = self.kind == "lifter" and self.sources and not self.sha256
        if not is_recorded_later and not (MIN_DIGITS <= len(self.sha256) <= 64):
            raise ValueError(f"{self.name} needs a SHA-256 or at least {MIN_DIGITS} digits of one, got {self.sha256!r}")
        if Path(self.file).name != self.file:
            raise ValueError(f"{self.name} names the file {self.file!r}; expected a name without folders")

    @property
    def path(self) -> Path:
        """Where the file belongs."""
        return (DOWNLOADED if self.sources else FOLDER) / self.file

    @property
    def record(self) -> Path:
        """Where the SHA-256 of a first download is kept, as ``sha256sum --check`` reads it."""
        return self.path.with_name(self.file + ".sha256")

    @property
    def known_sha256(self) -> str:
        """The hash, published or recorded, or its first digits; "" before the first download of a lifter.

        Raises:
            RuntimeError: The record holds something else.
        """
        if self.sha256 or not self.record.is_file():
            return self.sha256
        digest = self.record.read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise RuntimeError(f"{self.record} holds no SHA-256; delete it and run posemamba fetch {self.name}")
        return digest

    @property
    def hash_text(self) -> str:
        """What is known of the hash, for messages."""
        known = self.known_sha256
        return f"SHA-256 {known}{'' if len(known) == 64 else '...'}" if known else "its hash is not published"

    @property
    def is_here(self) -> bool:
        """Whether the file is here, and was checked once if its hash is not published; the hash is not computed."""
        return self.path.is_file() and bool(self.sha256 or self.record.is_file())

    @property
    def max_bytes(self) -> int:
        """What no version of the file exceeds."""
        return 2 * (self.megabytes + 1) * 10**6 if self.megabytes else MAX_BYTES

    def matches(self, digest: str) -> bool:
        """Return whether ``digest``, a whole SHA-256 in hex, is that of the file; False while no hash is known."""
        return bool(known := self.known_sha256) and digest.startswith(known)


def shipped() -> dict[str, Entry]:
    """Return the weights of lifters that come with this repository, by name."""
    names = {each.name for each in fields(Entry)}
    entries = {}
    for name, table in _read(SHIPPED_LIST).items():
        known = {key: value for key, value in table.items() if key in names}
        details = {key: value for key, value in table.items() if key not in names}
        entries[name] = Entry(name, "lifter", lifter=name, details=details, **known)
    return entries


def downloads(kind: Kind | None = None) -> dict[str, Entry]:
    """Return the weights that others publish, by name: of one kind or all."""
    tables = _read(DOWNLOADS_LIST)
    return {
        name: Entry(name, each, **{**table, "sources": tuple(table["sources"])})
        for each in ((kind,) if kind else KINDS)
        for name, table in tables.get(each, {}).items()
    }


@functools.cache  # asked for dozens of times per clip
def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def with_first_stages(names: Iterable[str]) -> list[str]:
    """Return names of ``downloads``, each once, before each the other file that it cannot be used without."""
    known = downloads()
    return list(dict.fromkeys(each for name in names for each in (known[name].first_stage, name) if each))


def find(name_or_path: str | Path, kind: Kind) -> Path:
    """Return the file that a name or a path leads to; files with a name are verified.

    Raises:
        FileNotFoundError: No such name or file; the text says how to get it.
        RuntimeError: The file of a name has another SHA-256 than it must have.
    """
    known = {**(shipped() if kind == "lifter" else {}), **downloads(kind)}
    if entry := known.get(str(name_or_path)):
        return verify(entry)
    path = Path(name_or_path)
    if not path.is_file():
        names = f"no weights file {path}; give a file or one of {', '.join(known)} ('posemamba models' lists them)"
        raise FileNotFoundError("; ".join(filter(None, (names, suggest(str(path), known)))))
    return path


def verify(entry: Entry) -> Path:
    """Return the file of an entry after its SHA-256 was compared.

    Raises:
        FileNotFoundError: It is not here, or was put here by hand and never checked.
        RuntimeError: It has another SHA-256.
    """
    command = f"posemamba fetch {entry.name}"
    if not entry.path.is_file():
        how = command if entry.sources else f"restore {entry.path} from the repository"
        raise FileNotFoundError(f"the weights {entry.name} are not here: {how}")
    if not entry.known_sha256:
        raise FileNotFoundError(f"{entry.path} is here but was never checked: {command} does that, without a download")
    digest = sha256_of(entry.path)
    if not entry.matches(digest):
        how = f"delete it and run {command}" if entry.sources else "restore it from the repository"
        raise RuntimeError(
            f"{entry.path} has SHA-256 {digest}, expected {entry.hash_text}: the file is damaged or was replaced; {how}"
        )
    return entry.path


def suggest(name: str, known: Iterable[str]) -> str:
    """Return what an unknown name may have meant, or why there are no such weights; "" if neither is clear."""
    for prefix, title in UNPUBLISHED.items():
        if name.startswith(prefix):
            return f"the authors of {title} publish no weights; 'posemamba train --lifter NAME' makes some"
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""
