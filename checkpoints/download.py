"""Downloads of published weights: resumed where they stopped, verified, and only then given their name."""

from __future__ import annotations

import http.client
import math
import urllib.error
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from checkpoints.files import sha256_of
from checkpoints.manifest import Entry
from checkpoints.web import ask, reason_of, start_of

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]  # as in app.pipeline
Check = Callable[[Entry, Path], None]  # raises ValueError for a file that is not the entry's
MEBIBYTE = 1 << 20  # pieces in which a file is read and progress is counted
ATTEMPTS = 4  # of one call; servers cut long transfers now and then


def fetch(entry: Entry, progress: Progress, require_fit: Check) -> Path:
    """Return the verified file of ``entry``, downloaded unless it is already there.

    An unfinished download stays beside it as ``<file>.part`` and is continued by the next call, if the server still
    has the same file (``If-Range``).

    Args:
        entry: What to download and where to.
        progress: Wraps the pieces of 1 MiB.
        require_fit: Raises ValueError for a file that is not what the entry says; asked where no hash is known.

    Raises:
        RuntimeError: No source sent the file: nothing could be downloaded, the connection kept breaking, or the bytes
            are not the published ones; the text says where to put a file by hand.
    """
    failures = []
    if entry.path.is_file():
        try:
            accept(entry, entry.path, require_fit)
            return entry.path
        except ValueError as error:
            failures.append(f"{entry.path} {error}")
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    for url in entry.sources:
        try:
            part = download(url, entry, progress)
            try:
                accept(entry, part.path, require_fit)
            except ValueError as error:
                part.delete()
                raise RuntimeError(f"what {url} sent {error}; it was deleted") from error
            part.path.replace(entry.path)
            part.delete()
            return entry.path
        except RuntimeError as error:
            failures.append(f"{urlsplit(url).hostname}: {error}")
    raise RuntimeError(f"{entry.name} was not downloaded. {'; '.join(failures)}. {by_hand(entry)}")


def accept(entry: Entry, file: Path, require_fit: Check) -> None:
    """Raise ValueError unless a file is that of ``entry``; record its hash if none was known.

    The text of the error goes on after the name of the file.
    """
    digest = sha256_of(file)
    if entry.matches(digest):
        return
    if entry.sha256:
        raise ValueError(f"has SHA-256 {digest}, published is {entry.hash_text}")
    if entry.known_sha256:
        raise ValueError(
            f"has SHA-256 {digest}, that of the first download was {entry.known_sha256} (if the authors have replaced "
            f"it and you trust them, delete {entry.record})"
        )
    try:
        require_fit(entry, file)
    except ValueError as error:
        raise ValueError(f"is not {entry.name}: {error}") from error
    entry.record.write_text(f"{digest}  {entry.file}\n", encoding="utf-8")


def download(url: str, entry: Entry, progress: Progress) -> Part:
    """Return all that a source sends in place of the file of ``entry``, not verified.

    Raises:
        RuntimeError: As ``fetch``.
    """
    part = Part(entry.path)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            is_complete = transfer(url, entry, part, progress)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, urllib.error.HTTPError) or part.size == 0 or attempt == ATTEMPTS:
                raise RuntimeError(reason_of(error)) from error
            continue
        if is_complete:
            return part
    raise RuntimeError(
        f"the connection broke {ATTEMPTS} times, {part.size} bytes are here; run the same command again to go on from "
        "there"
    )


class Part:
    """The unfinished file, and which version of the server's file it is a part of."""

    def __init__(self, final: Path) -> None:
        self.path = final.with_name(final.name + ".part")
        self._version = final.with_name(final.name + ".part.version")

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def range(self) -> dict[str, str]:
        """Return the request headers that ask for the rest; none if the beginning is needed, too."""
        version = self._version.read_text(encoding="utf-8") if self._version.is_file() else ""
        return {"Range": f"bytes={self.size}-", "If-Range": version} if self.size and version else {}

    def open(self, reply: http.client.HTTPResponse) -> IO[bytes]:
        """Return the file, ready for what the server sends: at its end if that is the rest, else emptied."""
        if reply.status == http.HTTPStatus.PARTIAL_CONTENT:
            return self.path.open("ab")
        tag = reply.headers.get("ETag", "")
        # weak tags prove nothing
        version = "" if tag.startswith("W/") else tag or reply.headers.get("Last-Modified", "")
        self._version.write_text(version, encoding="utf-8")
        return self.path.open("wb")

    def delete(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def transfer(url: str, entry: Entry, part: Part, progress: Progress) -> bool:
    """Return whether the file is complete after one request for what is missing.

    Raises:
        RuntimeError: The server sends no file, or more than the file can have.
    """
    try:
        reply = ask(url, part.range())
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not part.size:
            raise
        part.delete()  # longer than the server's file: not a part of it
        return False
    if reply.status == http.HTTPStatus.PARTIAL_CONTENT and start_of(reply.headers) != part.size:
        reply.close()
        part.delete()  # so that the next request is for the whole file
        return False
    with reply, part.open(reply) as file:
        length = reply.headers.get("Content-Length")
        total = None if length is None else file.tell() + int(length)
        count = None if total is None else math.ceil((total - file.tell()) / MEBIBYTE)
        is_too_large = total is not None and total > entry.max_bytes
        if not is_too_large:
            for piece in progress(pieces(reply), entry.name, count):
                file.write(piece)
                if is_too_large := file.tell() > entry.max_bytes:
                    break
        size = file.tell()
    if is_too_large:
        part.delete()
        raise RuntimeError(f"the server sends more than {entry.max_bytes // 10**6} MB, so it is not this file")
    return total is None or size == total


def pieces(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the body."""
    while piece := reply.read(MEBIBYTE):
        yield piece


def by_hand(entry: Entry) -> str:
    """Return how to do without this command."""
    return (
        f"Without a connection: get {entry.sources[0]} elsewhere and put it at {entry.path} ({entry.hash_text}); the "
        "same command then checks it"
    )
