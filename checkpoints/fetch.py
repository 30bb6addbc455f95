"""Downloads of published weights: resumed where they stopped, verified, and only then given their name."""

from __future__ import annotations

import contextlib
import http.client
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from checkpoints import detector_weights
from checkpoints.published import published_weights

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]  # as in app.pipeline
MEBIBYTE = 1 << 20  # pieces in which a file is read and progress is counted
ATTEMPTS = 4  # of one call; servers cut long transfers now and then
TIMEOUT_S = 30.0  # without a byte
LOCAL = ("localhost", "127.0.0.1", "::1")
PAGE_STARTS = (b"<!doctype html", b"<html")


class Entry(Protocol):
    """What can be fetched: ``checkpoints.detector_weights.Download``, ``checkpoints.published.PublishedWeights``."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    @property
    def path(self) -> Path:
        """Where the file belongs."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Addresses, tried in this order."""

    @property
    def license(self) -> str:
        """Of the weights."""

    @property
    def hash_said(self) -> str:
        """What is known of the hash."""

    @property
    def max_bytes(self) -> int:
        """More than the file can have."""

    def accept(self, file: Path) -> None:
        """Raise ValueError unless ``file`` is what was published."""


def entries() -> dict[str, Entry]:
    """Return everything that can be fetched, by name."""
    return {**detector_weights.downloads(), **published_weights()}


def with_first_stages(names: Iterable[str]) -> list[str]:
    """Return names of ``entries``, each once, before each the other file that it cannot be used without."""
    published = published_weights()
    needed = ((published[name].first_stage if name in published else "", name) for name in names)
    return list(dict.fromkeys(name for pair in needed for name in pair if name))


def fetch(entry: Entry, progress: Progress) -> Path:
    """Return the verified file of ``entry``, downloaded unless it is already there.

    An unfinished download stays beside it as ``<file>.part`` and is continued by the next call, if the server still
    has the same file (``If-Range``).

    Args:
        entry: What to download and where to.
        progress: Wraps the pieces of 1 MiB.

    Raises:
        RuntimeError: No source sent the file: nothing could be downloaded, the connection kept breaking, or the bytes
            are not the published ones; the text says where to put a file by hand.
    """
    failures = []
    if entry.path.is_file():
        try:
            entry.accept(entry.path)
            return entry.path
        except ValueError as error:
            failures.append(f"{entry.path} {error}")
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    for url in entry.sources:
        try:
            download(url, entry, progress)
            return entry.path
        except RuntimeError as error:
            failures.append(f"{urlsplit(url).hostname}: {error}")
    raise RuntimeError(f"{entry.name} was not downloaded. {'; '.join(failures)}. {by_hand(entry)}")


def download(url: str, entry: Entry, progress: Progress) -> None:
    """Put the file of ``entry`` in its place, from one of its sources.

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
            break
    else:
        raise RuntimeError(
            f"the connection broke {ATTEMPTS} times, {part.size} bytes are here; run the same command again to go on "
            "from there"
        )
    try:
        entry.accept(part.path)
    except ValueError as error:
        part.delete()
        raise RuntimeError(f"what {url} sent {error}; it was deleted") from error
    part.path.replace(entry.path)
    part.delete()


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


def ask(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Return a server's answer, which is no web page.

    Google Drive answers a page with a form for files that are too large for its virus scan: that is sent off.

    Raises:
        RuntimeError: A page it is; the text says what stands there.
    """
    opener = urllib.request.build_opener(SafeRedirects, urllib.request.HTTPCookieProcessor())
    headers = {"User-Agent": "posemamba-wild", "Accept-Encoding": "identity", **headers}
    address, reason = url, ""
    for _ in range(2):
        require_safe(address)
        reply = opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S)
        if not is_page(reply):
            return reply
        with reply:
            page = Page(reply.geturl(), reply.read(MEBIBYTE))
        address, reason = page.form, page.reason
        if not address:
            break
    raise RuntimeError(reason)


def is_page(reply: http.client.HTTPResponse) -> bool:
    """Return whether a web page comes in place of a file, whatever the server calls it."""
    if reply.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        return True
    return reply.status == http.HTTPStatus.OK and reply.peek(64).lstrip().lower().startswith(PAGE_STARTS)


class Page(HTMLParser):
    """A web page in place of a file."""

    def __init__(self, address: str, content: bytes) -> None:
        super().__init__()
        self._address, self._action = address, ""
        self._fields: dict[str, str] = {}
        self._tag, self._title, self._text = "", "", ""
        self.feed(content.decode("utf-8", "replace"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102 - HTMLParser's
        given = {key: value or "" for key, value in attrs}
        self._tag = tag
        if tag == "form" and given.get("id") == "download-form":
            self._action = given.get("action", "")
        elif tag == "input" and self._action and given.get("type") == "hidden":
            self._fields[given.get("name", "")] = given.get("value", "")

    def handle_data(self, data: str) -> None:  # noqa: D102 - HTMLParser's
        if self._tag == "title":
            self._title += data
        if self._tag not in ("script", "style"):
            self._text += data

    def handle_endtag(self, tag: str) -> None:  # noqa: D102 - HTMLParser's
        self._tag = ""

    @property
    def form(self) -> str:
        """The address that Google Drive's download form leads to; empty if there is none."""
        if not self._action:
            return ""
        parts = urlsplit(urljoin(self._address, self._action))
        return urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | self._fields)))

    @property
    def known_reason(self) -> str:
        """Why there is no file, in a few words; empty for pages that are not known to us."""
        title, text = self._title.lower().replace("-", " "), self._text.lower()
        if "quota" in text or "too many users" in text:
            return "too many people have fetched the file, and Google allows so many in a day; try again tomorrow"
        if urlsplit(self._address).hostname == "accounts.google.com" or "sign in" in title:
            return "the server asks to sign in: the owner does not share the file with everybody any more"
        return ""

    @property
    def reason(self) -> str:
        """Why there is no file, in a few words."""
        title = " ".join(self._title.split())[:80] or "without a title"
        return self.known_reason or f"the server sent a web page instead of the file ({title})"


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
        with contextlib.suppress(OSError, http.client.HTTPException):
            if said := Page(error.geturl() or "", error.read(MEBIBYTE)).known_reason:
                return said
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__


def by_hand(entry: Entry) -> str:
    """Return how to do without this command."""
    return (
        f"Without a connection: get {entry.sources[0]} elsewhere and put it at {entry.path} ({entry.hash_said}); the "
        "same command then checks it"
    )
