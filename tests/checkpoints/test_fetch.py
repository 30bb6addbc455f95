"""Downloads against a server on this machine that breaks off, lies, forgets Range, or is not there."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from typer.testing import CliRunner

import checkpoints.fetch
from app.cli.main import cli
from checkpoints import detector_weights
from checkpoints import fetch as fetching
from checkpoints.detector_weights import Download
from checkpoints.fetch import fetch

CONTENT = np.random.default_rng(0).bytes(3 * fetching.MEBIBYTE + 1234)


class Server(ThreadingHTTPServer):
    """Serves ``content``; the attributes say how badly.

    Attributes:
        breaks_after: Bytes after which each reply ends, in turn; None for a whole one.
        ranges: The Range header of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.status = CONTENT, '"one"', 200
        self.breaks_after: list[int | None] = []
        self.knows_range = True
        self.shift = 0
        self.location: str | None = None
        self.ranges: list[str | None] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/weights.pt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked, start = self.headers.get("Range"), 0
        server.ranges.append(asked)
        if server.location:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        if asked and server.knows_range and self.headers.get("If-Range") == server.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            first = start + server.shift
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        most = server.breaks_after.pop(0) if server.breaks_after else None
        self.wfile.write(body[:most])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def entry(server, tmp_path, monkeypatch):
    monkeypatch.setattr(detector_weights, "FOLDER", tmp_path)
    return Download("weights", "weights.pt", server.url, "AGPL-3.0", "", 3, hashlib.sha256(CONTENT).hexdigest())


def counted(items, stage, total):
    """A progress that keeps account in its attribute ``calls``: (stage, total, pieces)."""
    pieces = list(items)
    counted.calls.append((stage, total, len(pieces)))
    return pieces


@pytest.fixture(autouse=True)
def _no_calls():
    counted.calls = []


def streamed(items, stage, total):
    return items


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_under_its_name_and_only_once(server, entry, tmp_path):
    assert fetch(entry, counted) == tmp_path / "weights.pt"
    assert entry.path.read_bytes() == CONTENT
    assert names(tmp_path) == ["weights.pt"]
    assert counted.calls == [("weights", 4, 4)]
    assert fetch(entry, counted) == entry.path
    assert server.ranges == [None]  # nothing was asked for a second time


def test_a_broken_connection_is_resumed(server, entry, tmp_path):
    server.breaks_after = [2_000_000, 500_000]
    fetch(entry, streamed)
    assert entry.path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=2000000-", "bytes=2500000-"]
    assert names(tmp_path) == ["weights.pt"]


def test_a_later_call_goes_on_where_the_first_gave_up(server, entry, tmp_path):
    server.breaks_after = [1_000_000, 10, 10, 10]
    with pytest.raises(RuntimeError, match=r"broke 4 times, 1000030 bytes are here; run the same command again"):
        fetch(entry, streamed)
    assert names(tmp_path) == ["weights.pt.part", "weights.pt.part.version"]
    fetch(entry, streamed)
    assert entry.path.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=1000030-"


def test_an_interrupted_download_keeps_what_it_has(server, entry):
    def interrupted(items, stage, total):
        for count, item in enumerate(items):
            if count == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        fetch(entry, interrupted)
    fetch(entry, streamed)
    assert entry.path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={2 * fetching.MEBIBYTE}-"]


@pytest.mark.parametrize("change", ["no Range", "new version", "no ETag", "weak ETag"])
def test_a_server_that_cannot_resume_sends_all_of_it_again(server, entry, change):
    server.knows_range = change != "no Range"
    server.tag = {"no ETag": "", "weak ETag": 'W/"one"'}.get(change, server.tag)
    server.breaks_after = [1_000_000, 0, 0, 0]
    with pytest.raises(RuntimeError, match="broke 4 times"):
        fetch(entry, streamed)
    server.breaks_after = []
    if change == "new version":
        server.tag, server.content = '"two"', bytes(reversed(CONTENT))
        entry = replace(entry, sha256=hashlib.sha256(server.content).hexdigest())
    fetch(entry, streamed)
    assert entry.path.read_bytes() == server.content


def test_another_part_than_asked_for_is_not_appended(server, entry):
    server.breaks_after = [1_000_000]
    server.shift = 5
    fetch(entry, streamed)
    assert entry.path.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_dropped(server, entry, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(CONTENT + b"more")
    (tmp_path / "weights.pt.part.version").write_text(server.tag)
    fetch(entry, streamed)
    assert entry.path.read_bytes() == CONTENT


def test_wrong_bytes_never_get_the_name(server, entry, tmp_path):
    server.content = b"something else"
    with pytest.raises(RuntimeError, match=r"sent has SHA-256 \w{64}, published is SHA-256 \w{64}; it was deleted"):
        fetch(entry, streamed)
    assert names(tmp_path) == []


def test_a_prefix_of_the_hash_is_enough_and_checked(server, entry, tmp_path):
    known = replace(entry, sha256="", sha256_prefix=entry.sha256[:8])
    assert fetch(known, streamed) == tmp_path / "weights.pt"
    server.content = b"something else"
    entry.path.unlink()
    with pytest.raises(RuntimeError, match=rf"published is SHA-256 {entry.sha256[:8]}\.\.\."):
        fetch(known, streamed)


def test_a_damaged_file_is_replaced(entry):
    entry.path.write_bytes(b"damaged")
    fetch(entry, streamed)
    assert entry.path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_says_so_and_what_else_can_be_done(server, entry, tmp_path, status):
    server.status = status
    with pytest.raises(RuntimeError, match=rf"the server answered {status} .* put it at .*weights.pt .SHA-256 \w+"):
        fetch(entry, streamed)
    assert len(server.ranges) == 1
    assert names(tmp_path) == []


def test_without_a_connection_the_text_says_where_a_file_goes_by_hand(server, entry, tmp_path):
    closed = Server()
    closed.server_close()
    with pytest.raises(
        RuntimeError, match=r"no connection .*get http://127.0.0.1:\d+/weights.pt elsewhere and put it at"
    ):
        fetch(replace(entry, url=closed.url), streamed)
    assert names(tmp_path) == []


@pytest.mark.parametrize("url", ["http://example.org/weights.pt", "file:///etc/passwd", "ftp://127.0.0.1/weights.pt"])
def test_only_https_is_fetched(server, entry, url):
    with pytest.raises(RuntimeError, match="only https is"):
        fetch(replace(entry, url=url), streamed)


@pytest.mark.parametrize("url", ["http://example.org/weights.pt", "file:///etc/passwd"])
def test_redirects_lead_to_https_only(server, entry, url):
    server.location = url
    with pytest.raises(RuntimeError, match=r"only https is|is not allowed"):
        fetch(entry, streamed)


def test_the_command_fetches_by_name_and_reports_failures(server, entry, tmp_path, monkeypatch):
    bad = replace(entry, name="bad", file="bad.pt", sha256="0" * 64)
    monkeypatch.setattr(detector_weights, "downloads", lambda: {"weights": entry, "bad": bad})
    monkeypatch.setattr(checkpoints.fetch, "published_weights", dict)
    good = CliRunner().invoke(cli, ["fetch", "weights"])
    assert (good.exit_code, good.stdout) == (0, f"weights: {tmp_path / 'weights.pt'} (AGPL-3.0)\n")
    everything = CliRunner().invoke(cli, ["fetch", "--all"])
    assert everything.exit_code == 1
    assert "weights.pt" in everything.stdout
    assert "published is" in everything.output
    assert not (tmp_path / "bad.pt").exists()


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["yolo26n", "--all"]])
def test_wrong_usage_lists_what_there_is(arguments):
    answer = CliRunner().invoke(cli, ["fetch", *arguments], env={"COLUMNS": "400"})
    assert answer.exit_code == 2
    assert "hrnet-w48-384x288" in answer.output
