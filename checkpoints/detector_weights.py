"""Names of detectors' published weights -> verified local files (``checkpoints/downloads.toml``); imports no torch."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).resolve().parent
MANIFEST = FOLDER / "downloads.toml"


@dataclass(frozen=True, slots=True)
class Download:
    """One file that somebody publishes.

    Attributes:
        name: What ``posemamba fetch`` calls it.
        file: File name in the checkpoints folder.
        url: Where it is published.
        license: Of the weights.
        about: What it is, in a few words.
        megabytes: Size, rounded.
        sha256: Of the whole file; empty if the publisher only says a prefix.
        sha256_prefix: First hex digits of it; the file name of the publisher says them.
        package: Which must be installed to use it; empty if none of the optional ones.

    ``fetch`` also asks for ``sources``, ``max_bytes`` and ``accept``.
    """

    name: str
    file: str
    url: str
    license: str
    about: str
    megabytes: int
    sha256: str = ""
    sha256_prefix: str = ""
    package: str = ""

    def __post_init__(self) -> None:
        if not (len(self.sha256) == 64 or len(self.sha256_prefix) >= 8):
            raise ValueError(
                f"{self.name} has neither a SHA-256 nor 8 digits of one; weights nobody vouches for are out"
            )
        if Path(self.file).name != self.file:
            raise ValueError(f"{self.name} names the file {self.file!r}; expected a name without folders")

    @property
    def path(self) -> Path:
        """Where the file belongs."""
        return FOLDER / self.file

    @property
    def sources(self) -> tuple[str, ...]:
        """Where it can be fetched from: at one place."""
        return (self.url,)

    @property
    def max_bytes(self) -> int:
        """What no version of the file exceeds."""
        return 2 * (self.megabytes + 1) * 10**6

    @property
    def hash_said(self) -> str:
        """The hash as far as it is known, for messages."""
        return f"SHA-256 {self.sha256 or self.sha256_prefix + '...'}"

    def matches(self, digest: str) -> bool:
        """Return whether ``digest``, a whole SHA-256 in hex, is that of the published file."""
        return digest == self.sha256 if self.sha256 else digest.startswith(self.sha256_prefix)

    def accept(self, file: Path) -> None:
        """Raise ValueError unless a file is the published one; the text goes on after the name of the file."""
        digest = sha256_of(file)
        if not self.matches(digest):
            raise ValueError(f"has SHA-256 {digest}, published is {self.hash_said}")


def downloads() -> dict[str, Download]:
    """Return the manifest: every file of a detector by name."""
    entries = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    return {name: Download(name, **entry) for name, entry in entries.items() if "lifter" not in entry}


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file that a name in the manifest or a path leads to; named files are verified.

    Raises:
        FileNotFoundError: No such name or file; the text has the command that fetches it.
        RuntimeError: The file of a name has another SHA-256 than the published one.
    """
    known = downloads()
    entry = known.get(str(name_or_path))
    if entry is None:
        path = Path(name_or_path)
        if not path.is_file():
            raise FileNotFoundError(f"no weights file {path}; give a file or one of {', '.join(known)}")
        return path
    if not entry.path.is_file():
        raise FileNotFoundError(f"the weights {entry.name} are not here: posemamba fetch {entry.name}")
    digest = sha256_of(entry.path)
    if not entry.matches(digest):
        raise RuntimeError(
            f"{entry.path} has SHA-256 {digest}, published is {entry.hash_said}: the file is damaged or was replaced; "
            f"delete it and run posemamba fetch {entry.name}"
        )
    return entry.path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
