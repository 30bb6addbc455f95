"""Published weights of lifters: from a server that behaves like Google Drive to ``--lifter NAME``, or to a sentence."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lifter
from app import pipeline
from app.cli.main import cli
from checkpoints import lifter_weights, published
from checkpoints.fetch import MEBIBYTE, fetch
from checkpoints.published import published_weights, require_network
from lifter import LIFTERS, create_model, load_lifter
from lifter.lift import Sequence2D, lift
from lifter.models.mdtf import MDTF, TINY
from lifter.skeletons import MOTION_FPS

TOLERANCE = 1e-4  # of the golden files
PAGE = "<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>"
WARNING = PAGE.format(
    title="Google Drive - Virus scan warning",
    body="""<p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<form id="search" action="https://example.org/"><input type="hidden" name="q" value="no"></form>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="5f0e-a&amp;b"></form>""",
)
QUOTA = PAGE.format(
    title="Google Drive - Quota exceeded",
    body="<p>Sorry, you can't view or download this file at this time.</p><p>Too many users have viewed or downloaded "
    "this file recently.</p>",
)
SIGN_IN = PAGE.format(title="Google Drive: Sign-in", body="<p>to continue to Google Drive</p>")


class Drive(ThreadingHTTPServer):
    """Files by id, and how each is sent.

    Attributes:
        how: "file", "confirm", "elsewhere", "form elsewhere", "endless", "huge", "called a file", or a page.
        status: Of pages.
        breaks_after: Bytes after which each file ends, in turn; None for a whole one.
        asked: What was asked for: id, whether confirmed, Range.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.how: dict[str, str] = {}
        self.status = 200
        self.breaks_after: list[int | None] = []
        self.asked: list[tuple[str, bool, str | None]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/download?id={name}&export=download"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        drive = self.server
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        name, is_confirmed = query["id"], query.get("confirm") == "t"
        how = drive.how.get(name, "file")
        drive.asked.append((name, is_confirmed, self.headers.get("Range")))
        if how == "confirm" and not is_confirmed:
            action = f"http://127.0.0.1:{drive.server_port}/download"
            self.page(WARNING.format(action=action, id=name), cookie="NID=abc; path=/")
        elif how == "confirm" and (query["uuid"], self.headers.get("Cookie")) != ("5f0e-a&b", "NID=abc"):
            self.send_error(403)
        elif how == "form elsewhere":
            self.page(WARNING.format(action="http://example.org/download", id=name))
        elif how == "elsewhere":
            self.send_response(303)
            self.send_header("Location", "http://example.org/weights")
            self.end_headers()
        elif how == "called a file":
            self.page(QUOTA, kind="application/octet-stream")
        elif how == "endless":
            self.endless()
        elif how == "file" and name not in drive.files:
            self.send_error(404)
        elif how in ("file", "confirm", "huge"):
            self.file(drive.files[name], how == "huge")
        else:
            self.page(how)

    def page(self, text, kind="text/html; charset=utf-8", cookie=""):
        content = text.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(content)

    def file(self, content, is_huge):
        start, date = 0, "Sat, 01 Jun 2024 00:00:00 GMT"
        if (asked := self.headers.get("Range")) and self.headers.get("If-Range") == date:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(10**12 if is_huge else len(content) - start))
        self.send_header("Last-Modified", date)
        self.end_headers()
        most = self.server.breaks_after.pop(0) if self.server.breaks_after else None
        with contextlib.suppress(OSError):  # who asked may have hung up
            self.wfile.write(content[start:][:most])
        self.close_connection = True

    def endless(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(MEBIBYTE))
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def drive():
    server = Drive()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(drive, tmp_path, monkeypatch):
    """A checkpoints folder whose manifest is the real one of lifters, with addresses on this machine."""
    entries = ""
    for name, entry in published_weights().items():
        sources = [drive.url(name), *(drive.url(f"second of {name}").replace(" ", "%20") for _ in entry.sources[1:])]
        entries += f'[{name}]\nlifter = "{entry.lifter}"\nfirst_stage = "{entry.first_stage}"\n'
        entries += f"sources = {json.dumps(sources)}\n"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "downloads.toml").write_text(entries)
    monkeypatch.setattr(published, "FOLDER", tmp_path / "checkpoints")
    monkeypatch.setattr(published, "MANIFEST", tmp_path / "downloads.toml")
    pipeline.cached_lifter.cache_clear()
    yield tmp_path / "checkpoints"
    pipeline.cached_lifter.cache_clear()


def checkpoint(state, key="model_pos", score="min_loss", **others) -> bytes:
    """A file as the authors' training code writes it."""
    model = {f"module.{name}": tensor for name, tensor in state.items()}
    moments = {i: {"step": torch.tensor(9.0), "exp_avg": x.clone()} for i, x in enumerate(list(state.values())[:4])}
    optimizer = {"state": moments, "param_groups": [{"lr": 2e-4, "params": [0, 1, 2, 3]}]}
    content = {
        "epoch": 87, "lr": 2e-4, "optimizer": optimizer, key: model, score: np.float64(41.8), **others,
    }  # fmt: skip
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def posemamba(recipe) -> bytes:
    """PoseMamba-S with the weights of its golden file."""
    return checkpoint(recipe.fill(create_model("posemamba-s").state_dict(), 0))


@pytest.fixture(scope="module")
def stages(recipe) -> tuple[dict, dict]:
    """State dicts of the two files of MDTF-tiny, with the weights of its golden file."""
    state = MDTF(TINY).state_dict()
    first = {key.removeprefix("bam."): x for key, x in state.items() if key.startswith("bam.")}
    return recipe.fill(first, 0), recipe.fill({key: x for key, x in state.items() if not key.startswith("bam.")}, 0)


def streamed(items, stage, total):
    return items


def get(name):
    return fetch(published_weights()[name], streamed)


def command(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"COLUMNS": "1000"})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def walking(frames=20) -> Sequence2D:
    rng = np.random.default_rng(0)
    keypoints = np.array([640, 360]) + rng.normal(size=(frames, 17, 2)) * [40, 110]
    return Sequence2D(keypoints, np.arange(frames) / MOTION_FPS, 1280, 720, rng.uniform(0.3, 1, (frames, 17)))


def golden(root, name):
    with np.load(root / "tests" / "golden" / f"{name}_seed0.npz") as npz:
        return torch.from_numpy(npz["input"][:1]), torch.from_numpy(npz["output"][:1])


def assert_golden(loaded, root, name):
    x, y = golden(root, name)
    with torch.inference_mode():
        assert (loaded.model(x) - y).abs().max() < TOLERANCE


# ---------------------------------------------------------------------------------------------- by name


def test_every_entry_names_a_network_and_safe_addresses():
    entries = published_weights()
    sources = [url for entry in entries.values() for url in entry.sources]
    assert len(set(sources)) == len(sources) == 13
    assert all(url.startswith(("https://drive.usercontent.google.com/", "https://huggingface.co/")) for url in sources)
    for name, entry in entries.items():
        assert name == f"{entry.lifter or 'mdtf-bones'}-h36m"
        assert entry.lifter in {*LIFTERS, ""}
        assert entry.first_stage in {*entries, ""}
        assert entry.license == "research only (Human3.6M)"


def test_a_name_means_one_network():
    published_code = {name: ["reference"] if name.startswith("mdtf") else [] for name in LIFTERS}
    configs = {name: lifter.configuration(name, extras) for name, extras in published_code.items()}
    for entry in filter(lambda each: each.lifter, published_weights().values()):
        require_network(entry, "it", configs[entry.lifter])
        for config in (config for name, config in configs.items() if name != entry.lifter):
            with pytest.raises(ValueError, match=f"it holds weights of another, expected {entry.lifter}"):
                require_network(entry, "another", config)


@pytest.mark.parametrize("how", ["file", "confirm"])
def test_a_name_is_fetched_and_lifts_as_its_file_does(drive, folder, posemamba, root, how):
    drive.files, drive.how = {"posemamba-s-h36m": posemamba}, {"posemamba-s-h36m": how}
    answer = command("fetch", "posemamba-s-h36m")
    path = folder / "posemamba-s-h36m.pth.tr"
    assert (answer.exit_code, answer.stdout) == (0, f"posemamba-s-h36m: {path} (research only (Human3.6M))\n")
    assert path.read_bytes() == posemamba
    digest = hashlib.sha256(posemamba).hexdigest()
    assert (folder / f"{path.name}.sha256").read_text() == f"{digest}  {path.name}\n"
    assert names(folder) == [path.name, f"{path.name}.sha256"]
    by_name, by_path = load_lifter("posemamba-s-h36m"), load_lifter(path)
    assert (by_name.name, by_name.unit, by_name.normalization) == ("posemamba-s-h36m", "normalized", "picture")
    assert by_name.provenance["weights"]["file"] == path.name
    assert by_name.provenance["weights"]["sha256"] == digest
    assert_golden(by_name, root, "posemamba_s")
    assert np.array_equal(lift(by_name, [walking()])[0], lift(by_path, [walking()])[0])
    assert command("fetch", "posemamba-s-h36m").exit_code == 0
    assert len(drive.asked) == (1 if how == "file" else 2)  # nothing was asked for a second time


def test_run_takes_the_name_and_writes_it_down(drive, folder, posemamba, brief_clips, tmp_path):
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    arguments = ("run", brief_clips[0], "-o", tmp_path / "out", "--detector", "mediapipe", "--no-overlay",
                 "--lifter", "posemamba-s-h36m")  # fmt: skip
    before = command(*arguments)
    assert isinstance(before.exception, FileNotFoundError) or before.exit_code == 1
    assert "posemamba fetch posemamba-s-h36m" in before.output + str(before.exception)
    drive.files = {"posemamba-s-h36m": posemamba}
    assert command("fetch", "posemamba-s-h36m").exit_code == 0
    after = command(*arguments)
    assert after.exit_code == 0, after.output
    pose = json.loads((tmp_path / "out" / "a" / "pose.json").read_text())
    told = pose["provenance"]["lifter"]
    assert (told["name"], told["weights"]["file"]) == ("posemamba-s-h36m", "posemamba-s-h36m.pth.tr")
    assert told["weights"]["sha256"] == hashlib.sha256(posemamba).hexdigest()


def test_lists_tell_what_is_here_without_reading_it(drive, folder, posemamba):
    assert lifter.usable_lifters() == lifter.trained_lifters()
    drive.files = {"posemamba-s-h36m": posemamba}
    path = get("posemamba-s-h36m")
    path.write_bytes(b"not read by lists")
    assert lifter.usable_lifters() == [*lifter.trained_lifters(), "posemamba-s-h36m"]
    models = command("models").stdout
    rows = {line.split()[1]: line for line in models.splitlines() if "-h36m " in line}
    row, missing = rows["posemamba-s-h36m"], rows["posemamba-l-h36m"]
    assert all(text in row for text in ("41.8 / -", "research only (Human3.6M)", " yes "))
    assert all(text in missing for text in ("38.1 / -", "research only (Human3.6M)", " no "))
    assert "authors of HGMamba and SSR-STF publish no weights" in " ".join(models.split())
    assert "none published" in models
    doctor = command("doctor").stdout
    assert f"weights posemamba-s-h36m: {path}, SHA-256 on record, checked at every use; research only" in doctor
    assert "weights mdtf-tiny-h36m: not here: posemamba fetch mdtf-tiny-h36m; research only" in doctor


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("posemamba-l-h36", "did you mean posemamba-l-h36m?"),
        ("mdtf-h36m", "did you mean mdtf-"),
        ("hgmamba-b-h36m", "the authors of HGMamba publish no weights; 'posemamba train"),
        ("ssr-stf-s", "the authors of SSR-STF publish no weights"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_or_the_reason(name, hint):
    answer = command("fetch", "posemamba-s-h36m", name)
    assert answer.exit_code == 2
    assert f"unknown weights {name}; {hint}" in answer.output
    if name not in LIFTERS:
        with pytest.raises(FileNotFoundError, match=rf"no weights file {name}; give a file .*; {re.escape(hint)}"):
            load_lifter(name)


def test_a_network_whose_authors_publish_weights_says_so():
    with pytest.raises(FileNotFoundError, match=r"its authors publish posemamba-l-h36m \('posemamba fetch posemamba-l"):
        load_lifter("posemamba-l")


# ---------------------------------------------------------------------------------------------- two files


def test_both_stages_are_fetched_and_joined(drive, folder, stages, root):
    drive.files = {"mdtf-bones-h36m": checkpoint(stages[0], "model"), "mdtf-tiny-h36m": checkpoint(stages[1], "model")}
    answer = command("fetch", "mdtf-tiny-h36m")
    assert answer.exit_code == 0, answer.output
    assert [line.partition(":")[0] for line in answer.stdout.splitlines()] == ["mdtf-bones-h36m", "mdtf-tiny-h36m"]
    loaded = load_lifter("mdtf-tiny-h36m")
    assert loaded.name == "mdtf-tiny-h36m"
    assert_golden(loaded, root, "mdtf_tiny")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in drive.files.items()}
    assert loaded.provenance["weights"]["sha256"] == digests["mdtf-tiny-h36m"]
    assert loaded.provenance["weights"]["parts"] == {"mdtf-bones-h36m.pth.tr": digests["mdtf-bones-h36m"]}
    with pytest.raises(ValueError, match="no lifter but the first stage of mdtf-tiny-h36m and mdtf-large-h36m"):
        load_lifter("mdtf-bones-h36m")
    (folder / "mdtf-bones-h36m.pth.tr").write_bytes(drive.files["mdtf-tiny-h36m"])
    with pytest.raises(RuntimeError, match=r"mdtf-bones-h36m.pth.tr has SHA-256 \w+, at its first download it had"):
        load_lifter("mdtf-tiny-h36m")


def test_a_file_that_holds_both_stages_needs_no_other(drive, folder, stages, root):
    both = {f"bam.{key}": x for key, x in stages[0].items()} | stages[1]
    drive.files = {"mdtf-tiny-h36m": checkpoint(both, "model")}
    get("mdtf-tiny-h36m")
    loaded = load_lifter("mdtf-tiny-h36m")
    assert_golden(loaded, root, "mdtf_tiny")
    assert "parts" not in loaded.provenance["weights"]


def test_one_stage_alone_asks_for_the_other(drive, folder, stages):
    drive.files = {"mdtf-tiny-h36m": checkpoint(stages[1], "model")}
    get("mdtf-tiny-h36m")
    assert lifter.usable_lifters() == lifter.trained_lifters()
    with pytest.raises(
        FileNotFoundError, match="the weights mdtf-bones-h36m are not here: posemamba fetch mdtf-bones-h"
    ):
        load_lifter("mdtf-tiny-h36m")


def test_stages_are_not_taken_for_each_other(drive, folder, stages):
    first, second = (checkpoint(state, "model") for state in stages)
    drive.files = {"mdtf-tiny-h36m": first, "mdtf-bones-h36m": second, "mdtf-large-h36m": second}
    for name in drive.files:
        with pytest.raises(RuntimeError, match=f"sent is not {name}: .*; it was deleted"):
            get(name)
    assert names(folder) == []


# ---------------------------------------------------------------------------------------------- no file


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (QUOTA, "127.0.0.1: too many people have fetched the file, .* try again tomorrow"),
        (SIGN_IN, "127.0.0.1: the server asks to sign in"),
    ],
    ids=["quota", "sign in"],
)
def test_a_page_in_place_of_a_file_is_explained(drive, folder, page, reason, status):
    drive.how, drive.status = {"mdtf-tiny-h36m": page}, status
    by_hand = r"get http://\S+id=mdtf-tiny-h36m&export=download elsewhere and put it at .*mdtf-tiny-h36m.pth.tr"
    with pytest.raises(RuntimeError, match=rf"{reason}.*\. Without a connection: {by_hand} .* checks it"):
        get("mdtf-tiny-h36m")
    assert names(folder) == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (PAGE.format(title="Something\n new", body=""), r"sent a web page instead of the file \(Something new\)"),
        ("called a file", "too many people have fetched the file"),
        ("elsewhere", "http://example.org/weights is not fetched: only https is"),
        ("form elsewhere", r"http://example.org/download\?id=\S+ is not fetched: only https is"),
        ("huge", "sends more than 500 MB, so it is not this file"),
    ],
    ids=["unknown page", "called a file", "redirect", "form", "huge"],
)
def test_what_is_no_file_is_not_taken_for_one(drive, folder, posemamba, how, reason):
    drive.files, drive.how = {"mdtf-tiny-h36m": posemamba}, {"mdtf-tiny-h36m": how}
    with pytest.raises(RuntimeError, match=reason):
        get("mdtf-tiny-h36m")
    assert names(folder) == []


def test_a_stream_without_end_does_not_fill_the_disk(drive, folder, monkeypatch):
    drive.how = {"mdtf-tiny-h36m": "endless"}
    monkeypatch.setattr(published.PublishedWeights, "max_bytes", 5_000_000)
    seen = []

    def watched(items, stage, total):
        for item in items:
            seen.append(len(item))
            yield item

    with pytest.raises(RuntimeError, match="sends more than 5 MB"):
        fetch(published_weights()["mdtf-tiny-h36m"], watched)
    assert sum(seen) < 5_000_000 + 2 * MEBIBYTE
    assert names(folder) == []


def test_the_second_source_is_asked_when_the_first_has_none(drive, folder, posemamba):
    drive.how = {"posemamba-s-h36m": QUOTA}
    drive.files = {"second of posemamba-s-h36m": posemamba}
    assert get("posemamba-s-h36m").read_bytes() == posemamba
    drive.how = {name: QUOTA for name in ("posemamba-b-h36m", "second of posemamba-b-h36m")}
    with pytest.raises(RuntimeError, match=r"too many people.*; 127.0.0.1: too many people"):
        get("posemamba-b-h36m")


@pytest.mark.parametrize("how", ["file", "confirm"])
def test_a_broken_transfer_is_resumed(drive, folder, posemamba, how):
    drive.files, drive.how = {"posemamba-s-h36m": posemamba}, {"posemamba-s-h36m": how}
    drive.breaks_after = [2_000_000, 300_000]
    assert get("posemamba-s-h36m").read_bytes() == posemamba
    ranges = [asked for _, is_confirmed, asked in drive.asked if is_confirmed == (how == "confirm")]
    assert ranges == [None, "bytes=2000000-", "bytes=2300000-"]
    assert names(folder) == ["posemamba-s-h36m.pth.tr", "posemamba-s-h36m.pth.tr.sha256"]


def test_other_names_go_on_where_one_fails(drive, folder, posemamba):
    drive.files = {"posemamba-s-h36m": posemamba}
    drive.how = {"motionagformer-xs-h36m": SIGN_IN}
    answer = command("fetch", "motionagformer-xs-h36m", "posemamba-s-h36m")
    assert answer.exit_code == 1
    assert "error: motionagformer-xs-h36m was not downloaded." in answer.output
    assert "Traceback" not in answer.output
    assert load_lifter("posemamba-s-h36m").name == "posemamba-s-h36m"


def test_without_a_network_there_is_a_sentence(drive, folder):
    drive.shutdown()
    drive.server_close()
    answer = command("fetch", "posemamba-s-h36m", "mdtf-tiny-h36m")
    assert answer.exit_code == 1
    said = answer.output.splitlines()
    assert [line.split()[1] for line in said if line.startswith("error: ")] == [
        "posemamba-s-h36m", "mdtf-bones-h36m", "mdtf-tiny-h36m",
    ]  # fmt: skip
    assert all("no connection" in line and "put it at" in line for line in said if line.startswith("error: "))


# ---------------------------------------------------------------------------------------------- another file


class Attack:
    """Unpickled without care, creates a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_weights_of_another_network_are_refused(drive, folder, posemamba, tiny_model):
    drive.files = {
        "posemamba-b-h36m": posemamba, "posemamba-s-h36m": checkpoint(tiny_model.state_dict()),
        "motionagformer-xs-h36m": posemamba, "mdtf-tiny-h36m": posemamba, "mdtf-bones-h36m": posemamba,
        "second of posemamba-b-h36m": b"no weights at all", "second of posemamba-s-h36m": posemamba[:-1000],
    }  # fmt: skip
    for name in published_weights():
        if name in drive.files:
            with pytest.raises(RuntimeError, match=f"sent is not {name}: .*; it was deleted"):
                get(name)
    with pytest.raises(RuntimeError, match="it holds weights of posemamba-s, expected motionagformer-xs"):
        get("motionagformer-xs-h36m")
    assert names(folder) == []


def test_a_pickle_that_wants_to_run_code_is_refused(drive, folder, posemamba, tmp_path):
    state = torch.load(io.BytesIO(posemamba), weights_only=False)["model_pos"]
    marker = tmp_path / "was_here"
    plain = {key.removeprefix("module."): x for key, x in state.items()}
    evil = checkpoint(plain, wandb_id=Attack(marker))
    drive.files = {"posemamba-s-h36m": evil, "second of posemamba-s-h36m": evil}
    with pytest.raises(RuntimeError, match="a file that needs to run code is refused; it was deleted"):
        get("posemamba-s-h36m")
    assert not marker.exists()
    assert names(folder) == []
    torch.load(io.BytesIO(evil), weights_only=False)  # the attack is real
    assert marker.exists()


def test_an_archive_that_grows_is_refused(drive, folder, posemamba):
    bomb = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(posemamba)) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, bytes(len(old.read(member))) if "/data/" in member else old.read(member))
    drive.files = dict.fromkeys(("posemamba-s-h36m", "second of posemamba-s-h36m"), bomb.getvalue())
    with pytest.raises(RuntimeError, match=r"was not loaded: \d+ bytes that unpack to \d+; weights never do"):
        get("posemamba-s-h36m")


def test_the_hash_of_the_first_download_is_demanded_from_then_on(drive, folder, posemamba, recipe):
    drive.files = {"posemamba-s-h36m": posemamba}
    path = get("posemamba-s-h36m")
    other = checkpoint(recipe.fill(create_model("posemamba-s").state_dict(), 1))  # fits as well
    path.write_bytes(other)
    with pytest.raises(
        RuntimeError, match="the file is damaged or was replaced; delete it and run posemamba fetch pose"
    ):
        load_lifter("posemamba-s-h36m")
    assert get("posemamba-s-h36m").read_bytes() == posemamba  # and is replaced by what it was
    path.unlink()
    drive.files = dict.fromkeys(("posemamba-s-h36m", "second of posemamba-s-h36m"), other)
    with pytest.raises(
        RuntimeError, match=r"that of the first download was \w{64} .*delete .*\.sha256\); it was deleted"
    ):
        get("posemamba-s-h36m")
    assert names(folder) == ["posemamba-s-h36m.pth.tr.sha256"]
    published_weights()["posemamba-s-h36m"].record.unlink()
    assert get("posemamba-s-h36m").read_bytes() == other


def test_a_file_put_there_by_hand_is_checked_first(drive, folder, posemamba):
    path = folder / "posemamba-s-h36m.pth.tr"
    path.write_bytes(posemamba)
    with pytest.raises(
        FileNotFoundError, match="never checked: posemamba fetch posemamba-s-h36m does that, without a d"
    ):
        load_lifter("posemamba-s-h36m")
    assert get("posemamba-s-h36m") == path
    assert drive.asked == []
    assert load_lifter("posemamba-s-h36m").name == "posemamba-s-h36m"
    path.with_name(path.name + ".sha256").write_text("garbage")
    with pytest.raises(RuntimeError, match="holds no SHA-256; delete it and run posemamba fetch posemamba-s-h36m"):
        load_lifter("posemamba-s-h36m")


def test_a_wrong_file_put_there_by_hand_is_said_to_be_wrong(drive, folder, posemamba):
    path = folder / "mdtf-tiny-h36m.pth.tr"
    path.write_bytes(posemamba)
    drive.how = {"mdtf-tiny-h36m": QUOTA}
    with pytest.raises(RuntimeError, match=rf"{path} is not mdtf-tiny-h36m: .*; 127.0.0.1: too many people"):
        get("mdtf-tiny-h36m")
    assert path.read_bytes() == posemamba  # it is not ours to delete
    assert lifter_weights.read_weights(path).tensors
