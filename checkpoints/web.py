"""What web servers answer: files, pages in place of files (also Google Drive's form), and redirects; https only."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from email.message import Message
from html.parser import HTMLParser
from typing import IO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

TIMEOUT_S = 30.0  # without a byte
MAX_PAGE_BYTES = 1 << 20  # of a page that are read
LOCAL = ("localhost", "127.0.0.1", "::1")
PAGE_STARTS = (b"<!doctype html", b"<html")


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
            page = Page(reply.geturl(), reply.read(MAX_PAGE_BYTES))
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
            if known := Page(error.geturl() or "", error.read(MAX_PAGE_BYTES)).known_reason:
                return known
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__
