"""Downloads from a server that breaks off, lies, forgets Range, answers pages like Google Drive, or is not there."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from checkpoints import Entry, manifest
from checkpoints.download import MEBIBYTE, fetch
from tests.weights_server import PAGE, QUOTA, SIGN_IN

CONTENT = np.random.default_rng(0).bytes(3 * MEBIBYTE + 1234)


@pytest.fixture
def server(weights_server):
    weights_server.files = {"weights": CONTENT}
    return weights_server


@pytest.fixture
def entry(server, downloaded):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Entry("weights", "detector", "weights.pt", "AGPL-3.0", digest, (server.url("weights"),), megabytes=3)


def streamed(items, stage, total):
    return items


def get(entry, progress=streamed):
    return fetch(entry, progress, require_fit=None)  # which is not asked where a hash is known


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------------------------------- whole, resumed


def test_a_file_arrives_whole_under_its_name_and_only_once(server, entry, downloaded):
    calls = []

    def counted(items, stage, total):
        pieces = list(items)
        calls.append((stage, total, len(pieces)))
        return pieces

    assert get(entry, counted) == downloaded / "weights.pt"
    assert entry.path.read_bytes() == CONTENT
    assert names(downloaded) == ["weights.pt"]
    assert calls == [("weights", 4, 4)]
    assert get(entry) == entry.path
    assert server.ranges == [None]  # nothing was asked for a second time
    entry.path.write_bytes(b"damaged")
    assert get(entry).read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["file", "confirm"])
def test_a_broken_transfer_is_resumed(server, entry, downloaded, how):
    server.how = {"weights": how}
    server.breaks_after = [2_000_000, 500_000]
    assert get(entry).read_bytes() == CONTENT
    ranges = [asked for _, is_confirmed, asked in server.asked if is_confirmed == (how == "confirm")]
    assert ranges == [None, "bytes=2000000-", "bytes=2500000-"]
    assert names(downloaded) == ["weights.pt"]


def test_a_later_call_goes_on_where_the_first_gave_up(server, entry, downloaded):
    server.breaks_after = [1_000_000, 10, 10, 10]
    with pytest.raises(RuntimeError, match=r"broke 4 times, 1000030 bytes are here; run the same command again"):
        get(entry)
    assert names(downloaded) == ["weights.pt.part", "weights.pt.part.version"]
    assert get(entry).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=1000030-"


def test_an_interrupted_download_keeps_what_it_has(server, entry):
    def interrupted(items, stage, total):
        for count, item in enumerate(items):
            if count == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        get(entry, interrupted)
    assert get(entry).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={2 * MEBIBYTE}-"]


@pytest.mark.parametrize("change", ["no Range", "new version", "no ETag", "weak ETag"])
def test_a_server_that_cannot_resume_sends_all_of_it_again(server, entry, change):
    server.knows_range = change != "no Range"
    server.tag = {"no ETag": "", "weak ETag": 'W/"one"'}.get(change, server.tag)
    server.breaks_after = [1_000_000, 0, 0, 0]
    with pytest.raises(RuntimeError, match="broke 4 times"):
        get(entry)
    server.breaks_after = []
    if change == "new version":
        server.tag, server.files = '"two"', {"weights": bytes(reversed(CONTENT))}
        entry = replace(entry, sha256=hashlib.sha256(server.files["weights"]).hexdigest())
    assert get(entry).read_bytes() == server.files["weights"]


def test_another_part_than_asked_for_is_not_appended(server, entry):
    server.breaks_after, server.shift = [1_000_000], 5
    assert get(entry).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_dropped(server, entry, downloaded):
    (downloaded / "weights.pt.part").write_bytes(CONTENT + b"more")
    (downloaded / "weights.pt.part.version").write_text(server.tag)
    assert get(entry).read_bytes() == CONTENT


# ---------------------------------------------------------------------------------------------- not this file


@pytest.mark.parametrize("digits", [64, 8])
def test_wrong_bytes_never_get_the_name(server, entry, downloaded, digits):
    known = replace(entry, sha256=entry.sha256[:digits])
    server.files = {"weights": b"something else"}
    with pytest.raises(RuntimeError, match=rf"has SHA-256 \w{{64}}, published is SHA-256 {known.sha256}.*was deleted"):
        get(known)
    assert names(downloaded) == []
    server.files = {"weights": CONTENT}
    assert get(known).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_says_so_and_what_else_can_be_done(server, entry, downloaded, status):
    server.status = status
    with pytest.raises(RuntimeError, match=rf"the server answered {status} .* put it at .*weights.pt .SHA-256 \w+"):
        get(entry)
    assert len(server.ranges) == 1
    assert names(downloaded) == []


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (QUOTA, "127.0.0.1: too many people have fetched the file, .* try again tomorrow"),
        (SIGN_IN, "127.0.0.1: the server asks to sign in"),
    ],
    ids=["quota", "sign in"],
)
def test_a_page_in_place_of_a_file_is_explained(server, entry, downloaded, page, reason, status):
    server.how, server.status = {"weights": page}, status
    by_hand = r"get http://\S+id=weights&export=download elsewhere and put it at .*weights.pt"
    with pytest.raises(RuntimeError, match=rf"{reason}.*\. Without a connection: {by_hand} .* checks it"):
        get(entry)
    assert names(downloaded) == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (PAGE.format(title="Something\n new", body=""), r"sent a web page instead of the file \(Something new\)"),
        ("called a file", "too many people have fetched the file"),
        ("redirect", "http://example.org/weights is not fetched: only https is"),
        ("form elsewhere", r"http://example.org/weights\?id=\S+ is not fetched: only https is"),
        ("huge", "sends more than 8 MB, so it is not this file"),
    ],
    ids=["unknown page", "called a file", "redirect", "form", "huge"],
)
def test_what_is_no_file_is_not_taken_for_one(server, entry, downloaded, how, reason):
    server.how = {"weights": how}
    with pytest.raises(RuntimeError, match=reason):
        get(entry)
    assert names(downloaded) == []


def test_redirects_to_files_of_this_machine_are_refused(server, entry):
    server.how, server.location = {"weights": "redirect"}, "file:///etc/passwd"
    with pytest.raises(RuntimeError, match=r"only https is|is not allowed"):
        get(entry)


@pytest.mark.parametrize("url", ["http://example.org/weights.pt", "file:///etc/passwd", "ftp://127.0.0.1/weights.pt"])
def test_only_https_is_fetched(entry, url):
    with pytest.raises(RuntimeError, match="only https is"):
        get(replace(entry, sources=(url,)))


def test_a_stream_without_end_does_not_fill_the_disk(server, entry, downloaded):
    server.how = {"weights": "endless"}
    seen = []

    def watched(items, stage, total):
        for item in items:
            seen.append(len(item))
            yield item

    with pytest.raises(RuntimeError, match="sends more than 8 MB"):
        get(entry, watched)
    assert sum(seen) < entry.max_bytes + 2 * MEBIBYTE
    assert names(downloaded) == []


# ---------------------------------------------------------------------------------------------- several sources, names


def test_the_second_source_is_asked_when_the_first_has_none(server, entry):
    server.how = {"full": QUOTA}
    assert get(replace(entry, sources=(server.url("full"), *entry.sources))).read_bytes() == CONTENT
    entry.path.unlink()
    with pytest.raises(RuntimeError, match=r"too many people.*; 127.0.0.1: too many people"):
        get(replace(entry, sources=(server.url("full"),) * 2))


def test_without_a_connection_the_text_says_where_a_file_goes_by_hand(server, entry, downloaded):
    server.shutdown()
    server.server_close()
    with pytest.raises(RuntimeError, match=r"no connection .*get http://127.0.0.1:\S+ elsewhere and put it at"):
        get(entry)
    assert names(downloaded) == []


def test_the_command_fetches_by_name_and_goes_on_after_failures(server, entry, downloaded, tmp_path, monkeypatch):
    tables = ""
    for name, digest in {"bad": "0" * 64, "weights": entry.sha256}.items():
        tables += f'[detector.{name}]\nfile = "{name}.pt"\nsources = ["{server.url("weights")}"]\n'
        tables += f'sha256 = "{digest}"\nmegabytes = 3\nlicense = "AGPL-3.0"\n'
    (tmp_path / "downloads.toml").write_text(tables)
    monkeypatch.setattr(manifest, "DOWNLOADS_LIST", tmp_path / "downloads.toml")
    good = CliRunner().invoke(cli, ["fetch", "weights"])
    assert (good.exit_code, good.stdout) == (0, f"weights: {downloaded / 'weights.pt'} (AGPL-3.0)\n")
    everything = CliRunner().invoke(cli, ["fetch", "--all"])
    assert everything.exit_code == 1
    assert everything.stdout == good.stdout
    assert "published is SHA-256 000" in everything.output
    assert "Traceback" not in everything.output
    assert not (downloaded / "bad.pt").exists()


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["yolo26n", "--all"]])
def test_wrong_usage_lists_what_there_is(arguments):
    answer = CliRunner().invoke(cli, ["fetch", *arguments], env={"COLUMNS": "400"})
    assert answer.exit_code == 2
    assert "hrnet-w48-384x288" in answer.output
