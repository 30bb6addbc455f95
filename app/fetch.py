"""Downloads of published weights: resumed where they stopped, verified, and only then given their name."""

from __future__ import annotations

import http.client
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from detectors.checkpoints import Download, sha256_of

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]  # as in app.pipeline
MEBIBYTE = 1 << 20  # pieces in which a file is read and progress is counted
ATTEMPTS = 4  # of one call; servers cut long transfers now and then
TIMEOUT_S = 30.0  # without a byte
LOCAL = ("localhost", "127.0.0.1", "::1")


def fetch(entry: Download, progress: Progress) -> Path:
    """Return the verified file of ``entry``, downloaded unless it is already there.

    An unfinished download stays beside it as ``<file>.part`` and is continued by the next call, if the server still
    has the same file (``If-Range``).

    Args:
        entry: What to download and where to.
        progress: Wraps the pieces of 1 MiB.

    Raises:
        RuntimeError: Nothing could be downloaded, the connection kept breaking, or the bytes are not the published
            ones; the text says where to put a file by hand.
    """
    if entry.path.is_file() and entry.matches(sha256_of(entry.path)):
        return entry.path
    require_safe(entry.url)
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    part = Part(entry.path)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            is_complete = transfer(entry, part, progress)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, urllib.error.HTTPError) or part.size == 0 or attempt == ATTEMPTS:
                raise RuntimeError(f"{entry.name} was not downloaded: {reason_of(error)}. {by_hand(entry)}") from error
            continue
        if is_complete:
            break
    else:
        raise RuntimeError(
            f"{entry.name}: the connection broke {ATTEMPTS} times, {part.size} bytes are here; run the same command "
            f"again to go on from there. {by_hand(entry)}"
        )
    digest = sha256_of(part.path)
    if not entry.matches(digest):
        part.delete()
        raise RuntimeError(
            f"what {entry.url} sent has SHA-256 {digest}, published is {entry.hash_said}; it was deleted. Try again "
            "later, or look whether a newer version of this program knows the file"
        )
    part.path.replace(entry.path)
    part.delete()
    return entry.path


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
        version = (
            "" if tag.startswith("W/") else tag or reply.headers.get("Last-Modified", "")
        )  # weak tags prove nothing
        self._version.write_text(version, encoding="utf-8")
        return self.path.open("wb")

    def delete(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def transfer(entry: Download, part: Part, progress: Progress) -> bool:
    """Return whether the file is complete after one request for what is missing."""
    headers = {"User-Agent": "posemamba-wild", "Accept-Encoding": "identity", **part.range()}
    request = urllib.request.Request(entry.url, headers=headers)
    opener = urllib.request.build_opener(SafeRedirects)
    try:
        reply = opener.open(request, timeout=TIMEOUT_S)
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
        for piece in progress(pieces(reply), entry.name, count):
            file.write(piece)
        return total is None or file.tell() == total


def pieces(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the body."""
    while piece := reply.read(MEBIBYTE):
        yield piece


def start_of(headers: Message) -> int | None:
    """Return where the part begins that a server sends (``Content-Range: bytes 100-199/200``)."""
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdigit() else None


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(  # noqa: D102 - urllib's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        require_safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def require_safe(url: str) -> None:
    """Raise RuntimeError unless the address is https, or http on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL):
        raise RuntimeError(f"{url} is not fetched: only https is")


def reason_of(error: Exception) -> str:
    """Return in a few words why a download failed."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__


def by_hand(entry: Download) -> str:
    """Return how to do without this command."""
    return f"Without a connection: get {entry.url} elsewhere and put it at {entry.path} ({entry.hash_said})"
