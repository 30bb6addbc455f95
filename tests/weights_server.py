"""A server on this machine that behaves like those that publish weights: also badly, and like Google Drive."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

PAGE = "<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>"
QUOTA = PAGE.format(
    title="Google Drive - Quota exceeded",
    body="<p>Sorry, you can't view or download this file at this time.</p><p>Too many users have viewed or downloaded "
    "this file recently.</p>",
)
SIGN_IN = PAGE.format(title="Google Drive: Sign-in", body="<p>to continue to Google Drive</p>")
WARNING = PAGE.format(
    title="Google Drive - Virus scan warning",
    body="""<p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<form id="search" action="https://example.org/"><input type="hidden" name="q" value="no"></form>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="5f0e-a&amp;b"></form>""",
)
ELSEWHERE = "http://example.org/weights"


class WeightsServer(ThreadingHTTPServer):
    """Serves files by name.

    Attributes:
        files: Their content.
        how: How a name is answered in place of its file: "confirm" (Drive's form first), "form elsewhere", "redirect"
            (to ``location``), "endless", "huge" (so it says), "called a file" (a page that says it is none), or a page.
        status: Of pages and of refusals, the latter for every name if ``how`` has none.
        tag: ETag of all files; "" for none.
        knows_range: Whether a part can be asked for; it begins ``shift`` bytes too late.
        breaks_after: Bytes after which each reply ends, in turn; None for a whole one.
        asked: What was asked for: name, whether confirmed, Range.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.how: dict[str, str] = {}
        self.status, self.tag, self.location = 200, '"one"', ELSEWHERE
        self.knows_range, self.shift = True, 0
        self.breaks_after: list[int | None] = []
        self.asked: list[tuple[str, bool, str | None]] = []

    def url(self, name: str) -> str:
        """Return the address of a file."""
        return f"http://127.0.0.1:{self.server_port}/download?id={quote(name)}&export=download"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of every request."""
        return [asked for _, _, asked in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: WeightsServer

    def do_GET(self) -> None:
        """Answer it."""
        server = self.server
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        name, is_confirmed = query["id"], query.get("confirm") == "t"
        how = server.how.get(name, "file")
        server.asked.append((name, is_confirmed, self.headers.get("Range")))
        if how == "confirm" and not is_confirmed:
            action = f"http://127.0.0.1:{server.server_port}/download"
            self.send_page(WARNING.format(action=action, id=name), cookie="NID=abc; path=/")
        elif how == "confirm" and (query["uuid"], self.headers.get("Cookie")) != ("5f0e-a&b", "NID=abc"):
            self.send_error(403)
        elif how == "form elsewhere":
            self.send_page(WARNING.format(action=ELSEWHERE, id=name))
        elif how == "redirect":
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
        elif how == "called a file":
            self.send_page(QUOTA, kind="application/octet-stream")
        elif how == "endless":
            self.send_endlessly()
        elif how not in ("file", "confirm", "huge"):
            self.send_page(how)
        elif server.status != 200 or name not in server.files:
            self.send_error(server.status if server.status != 200 else 404)
        else:
            self.send_file(server.files[name], how == "huge")

    def send_page(self, text: str, kind: str = "text/html; charset=utf-8", cookie: str = "") -> None:
        """Send a page."""
        content = text.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(content)

    def send_file(self, content: bytes, is_huge: bool) -> None:
        """Send a file or the rest of it."""
        server, start = self.server, 0
        asked = self.headers.get("Range")
        if asked and server.knows_range and self.headers.get("If-Range") == server.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start + server.shift}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(10**12 if is_huge else len(content) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        most = server.breaks_after.pop(0) if server.breaks_after else None
        with contextlib.suppress(OSError):  # who asked may have hung up
            self.wfile.write(content[start:][:most])
        self.close_connection = True

    def send_endlessly(self) -> None:
        """Send zeros until nobody listens."""
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 20))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Be silent."""


@contextlib.contextmanager
def serving():
    """Yield a ``WeightsServer`` that runs in a thread."""
    server = WeightsServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
