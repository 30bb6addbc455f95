"""Published weights of lifters: fetched by name, checked to be their network, joined, demanded unchanged afterwards."""

from __future__ import annotations

import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lifter
from app import pipeline
from app.cli.main import cli
from checkpoints import downloads, manifest
from checkpoints.download import fetch
from checkpoints.tensors import read_weights
from lifter import LIFTERS, create_model, load_lifter
from lifter.lift import Sequence2D, lift
from lifter.models.mdtf import MDTF, TINY
from lifter.skeletons import MOTION_FPS
from lifter.weights import require_network
from tests.checkpoints.test_tensors import Attack
from tests.weights_server import QUOTA

TOLERANCE = 1e-4  # of the golden files
S = "posemamba-s-h36m"


@pytest.fixture
def server(weights_server, downloaded, tmp_path, monkeypatch):
    """A server that the real list of published lifters leads to: one source each."""
    text = manifest.DOWNLOADS_LIST.read_text().partition("# Weights of lifters")[0]  # those of detectors as they are
    for name, entry in downloads("lifter").items():
        text += f'[lifter.{name}]\nfile = "{entry.file}"\nlicense = "{entry.license}"\nlifter = "{entry.lifter}"\n'
        text += f'first_stage = "{entry.first_stage}"\nsources = ["{weights_server.url(name)}"]\n'
    (tmp_path / "downloads.toml").write_text(text)
    monkeypatch.setattr(manifest, "DOWNLOADS_LIST", tmp_path / "downloads.toml")
    pipeline.cached_lifter.cache_clear()
    yield weights_server
    pipeline.cached_lifter.cache_clear()


def checkpoint(state, key="model_pos", **others) -> bytes:
    """A file as the authors' training code writes it."""
    model = {f"module.{name}": tensor for name, tensor in state.items()}
    file = io.BytesIO()
    torch.save({"epoch": 87, "lr": 2e-4, key: model, "min_loss": np.float64(41.8), **others}, file)
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


def get(name):
    return fetch(downloads()[name], lambda items, stage, total: items, lifter.require_fit)


def command(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"COLUMNS": "1000"})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def walking(frames=20) -> Sequence2D:
    rng = np.random.default_rng(0)
    keypoints = np.array([640, 360]) + rng.normal(size=(frames, 17, 2)) * [40, 110]
    return Sequence2D(keypoints, np.arange(frames) / MOTION_FPS, 1280, 720, rng.uniform(0.3, 1, (frames, 17)))


def assert_golden(loaded, root, name):
    with np.load(root / "tests" / "golden" / f"{name}_seed0.npz") as npz:
        x, y = torch.from_numpy(npz["input"][:1]), torch.from_numpy(npz["output"][:1])
    with torch.inference_mode():
        assert (loaded.model(x) - y).abs().max() < TOLERANCE


# ---------------------------------------------------------------------------------------------- by name


def test_every_entry_names_a_network_and_safe_addresses():
    entries = downloads("lifter")
    sources = [url for entry in entries.values() for url in entry.sources]
    assert len(set(sources)) == len(sources) == 13
    assert all(url.startswith(("https://drive.usercontent.google.com/", "https://huggingface.co/")) for url in sources)
    for name, entry in entries.items():
        assert name == f"{entry.lifter or 'mdtf-bones'}-h36m"
        assert (entry.file, entry.license) == (f"{name}.pth.tr", "research only (Human3.6M)")
        assert entry.lifter in {*LIFTERS, ""}
        assert entry.first_stage in {*entries, ""}


def test_a_name_means_one_network():
    published_code = {name: ["as_released"] if name.startswith("mdtf") else [] for name in LIFTERS}
    configs = {name: lifter.configuration(name, extras) for name, extras in published_code.items()}
    for entry in filter(lambda each: each.lifter, downloads("lifter").values()):
        require_network(entry, "it", configs[entry.lifter])
        for config in (config for name, config in configs.items() if name != entry.lifter):
            with pytest.raises(ValueError, match=f"it holds weights of another, expected {entry.lifter}"):
                require_network(entry, "another", config)


def test_a_name_is_fetched_and_lifts_as_its_file_does(server, downloaded, posemamba, root):
    server.files = {S: posemamba}
    answer = command("fetch", S)
    path = downloaded / f"{S}.pth.tr"
    assert (answer.exit_code, answer.stdout) == (0, f"{S}: {path} (research only (Human3.6M))\n")
    digest = hashlib.sha256(posemamba).hexdigest()
    assert (downloaded / f"{path.name}.sha256").read_text() == f"{digest}  {path.name}\n"
    assert names(downloaded) == [path.name, f"{path.name}.sha256"]
    by_name, by_path = load_lifter(S), load_lifter(path)
    assert (by_name.name, by_name.unit, by_name.normalization) == (S, "normalized", "picture")
    assert by_name.provenance["weights"]["file"] == path.name
    assert by_name.provenance["weights"]["sha256"] == digest
    assert_golden(by_name, root, "posemamba_s")
    assert np.array_equal(lift(by_name, [walking()])[0], lift(by_path, [walking()])[0])
    assert command("fetch", S).exit_code == 0
    assert len(server.asked) == 1  # nothing was asked for a second time


def test_run_takes_the_name_and_writes_it_down(server, posemamba, brief_clips, tmp_path):
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    arguments = ("run", brief_clips[0], "-o", tmp_path / "out", "--detector", "mediapipe", "--no-overlay",
                 "--lifter", S)  # fmt: skip
    before = command(*arguments)
    assert before.exit_code == 1
    assert f"posemamba fetch {S}" in before.output + str(before.exception)
    server.files = {S: posemamba}
    assert command("fetch", S).exit_code == 0
    after = command(*arguments)
    assert after.exit_code == 0, after.output
    provenance = json.loads((tmp_path / "out" / "a" / "pose.json").read_text())["provenance"]["lifter"]
    assert (provenance["name"], provenance["weights"]["file"]) == (S, f"{S}.pth.tr")
    assert provenance["weights"]["sha256"] == hashlib.sha256(posemamba).hexdigest()


def test_lists_tell_what_is_here_without_reading_it(server, posemamba):
    assert lifter.usable_lifters() == lifter.trained_lifters()
    server.files = {S: posemamba}
    path = get(S)
    path.write_bytes(b"not read by lists")
    assert lifter.usable_lifters() == [*lifter.trained_lifters(), S]
    models = command("models").stdout
    rows = {line.split()[1]: line for line in models.splitlines() if "-h36m " in line}
    row, missing = rows[S], rows["posemamba-l-h36m"]
    assert all(text in row for text in ("41.8 / -", "research only (Human3.6M)", " yes "))
    assert all(text in missing for text in ("38.1 / -", "research only (Human3.6M)", " no "))
    assert "authors of HGMamba and SSR-STF publish no weights" in " ".join(models.split())
    assert "none published" in models
    doctor = command("doctor").stdout
    assert f"weights {S}: {path}, SHA-256 on record, checked at every use; research only" in doctor
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
    answer = command("fetch", S, name)
    assert answer.exit_code == 2
    assert f"unknown weights {name}; {hint}" in answer.output
    if name not in LIFTERS:
        with pytest.raises(FileNotFoundError, match=rf"no weights file {name}; give a file .*; {re.escape(hint)}"):
            load_lifter(name)


def test_a_network_whose_authors_publish_weights_says_so():
    with pytest.raises(FileNotFoundError, match=r"its authors publish posemamba-l-h36m \('posemamba fetch posemamba-l"):
        load_lifter("posemamba-l")


# ---------------------------------------------------------------------------------------------- two files


def test_both_stages_are_fetched_and_joined(server, downloaded, stages, root):
    server.files = {"mdtf-bones-h36m": checkpoint(stages[0], "model"), "mdtf-tiny-h36m": checkpoint(stages[1], "model")}
    answer = command("fetch", "mdtf-tiny-h36m")
    assert answer.exit_code == 0, answer.output
    assert [line.partition(":")[0] for line in answer.stdout.splitlines()] == ["mdtf-bones-h36m", "mdtf-tiny-h36m"]
    loaded = load_lifter("mdtf-tiny-h36m")
    assert loaded.name == "mdtf-tiny-h36m"
    assert_golden(loaded, root, "mdtf_tiny")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in server.files.items()}
    assert loaded.provenance["weights"]["sha256"] == digests["mdtf-tiny-h36m"]
    assert loaded.provenance["weights"]["parts"] == {"mdtf-bones-h36m.pth.tr": digests["mdtf-bones-h36m"]}
    with pytest.raises(ValueError, match="no lifter but the first stage of mdtf-tiny-h36m and mdtf-large-h36m"):
        load_lifter("mdtf-bones-h36m")
    (downloaded / "mdtf-bones-h36m.pth.tr").write_bytes(server.files["mdtf-tiny-h36m"])
    with pytest.raises(RuntimeError, match=r"mdtf-bones-h36m.pth.tr has SHA-256 \w+, expected SHA-256"):
        load_lifter("mdtf-tiny-h36m")


def test_a_file_that_holds_both_stages_needs_no_other(server, stages, root):
    both = {f"bam.{key}": x for key, x in stages[0].items()} | stages[1]
    server.files = {"mdtf-tiny-h36m": checkpoint(both, "model")}
    get("mdtf-tiny-h36m")
    loaded = load_lifter("mdtf-tiny-h36m")
    assert_golden(loaded, root, "mdtf_tiny")
    assert "parts" not in loaded.provenance["weights"]


def test_one_stage_alone_asks_for_the_other(server, stages):
    server.files = {"mdtf-tiny-h36m": checkpoint(stages[1], "model")}
    get("mdtf-tiny-h36m")
    assert lifter.usable_lifters() == lifter.trained_lifters()
    with pytest.raises(FileNotFoundError, match="weights mdtf-bones-h36m are not here: posemamba fetch mdtf-bones-h"):
        load_lifter("mdtf-tiny-h36m")
    with pytest.raises(ValueError, match=r"the two published files are made one by lifter.models.mdtf.join_stages"):
        load_lifter(downloads()["mdtf-tiny-h36m"].path)


# ---------------------------------------------------------------------------------------------- another file


def test_files_that_are_not_the_network_of_their_name_are_refused(
    server, downloaded, posemamba, stages, tiny_model, tmp_path
):
    first, second = (checkpoint(state, "model") for state in stages)
    marker = tmp_path / "was_here"
    for name, content in [
        (S, checkpoint(tiny_model.state_dict())), (S, b"no weights at all"), (S, posemamba[:-1000]),
        (S, checkpoint(create_model("posemamba-s").state_dict(), wandb_id=Attack(marker))),
        ("posemamba-b-h36m", posemamba), ("motionagformer-xs-h36m", posemamba), ("mdtf-tiny-h36m", posemamba),
        ("mdtf-bones-h36m", posemamba), ("mdtf-tiny-h36m", first), ("mdtf-bones-h36m", second),
        ("mdtf-large-h36m", second),
    ]:  # fmt: skip
        server.files = {name: content}
        with pytest.raises(RuntimeError, match=f"sent is not {name}: .*; it was deleted"):
            get(name)
    assert names(downloaded) == []
    assert not marker.exists()


def test_the_hash_of_the_first_download_is_demanded_from_then_on(server, downloaded, posemamba, recipe):
    server.files = {S: posemamba}
    path = get(S)
    other = checkpoint(recipe.fill(create_model("posemamba-s").state_dict(), 1))  # fits as well
    path.write_bytes(other)
    with pytest.raises(RuntimeError, match="the file is damaged or was replaced; delete it and run posemamba fetch po"):
        load_lifter(S)
    assert get(S).read_bytes() == posemamba  # and is replaced by what it was
    path.unlink()
    server.files = {S: other}
    with pytest.raises(RuntimeError, match=r"the first download was \w{64} .*delete .*\.sha256\); it was deleted"):
        get(S)
    assert names(downloaded) == [f"{S}.pth.tr.sha256"]
    downloads()[S].record.unlink()
    assert get(S).read_bytes() == other


def test_a_file_put_there_by_hand_is_checked_first(server, downloaded, posemamba):
    path = downloaded / f"{S}.pth.tr"
    path.write_bytes(posemamba)
    with pytest.raises(FileNotFoundError, match=f"never checked: posemamba fetch {S} does that, without a d"):
        load_lifter(S)
    assert get(S) == path
    assert server.asked == []
    assert load_lifter(S).name == S
    path.with_name(path.name + ".sha256").write_text("garbage")
    with pytest.raises(RuntimeError, match=f"holds no SHA-256; delete it and run posemamba fetch {S}"):
        load_lifter(S)


def test_a_wrong_file_put_there_by_hand_stays(server, downloaded, posemamba):
    path = downloaded / "mdtf-tiny-h36m.pth.tr"
    path.write_bytes(posemamba)
    server.how = {"mdtf-tiny-h36m": QUOTA}
    with pytest.raises(RuntimeError, match=rf"{path} is not mdtf-tiny-h36m: .*; 127.0.0.1: too many people"):
        get("mdtf-tiny-h36m")
    assert path.read_bytes() == posemamba  # it is not ours to delete
    assert read_weights(path).tensors
