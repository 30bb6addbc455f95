"""Weights files read as tensors: layouts that are understood, and files that must be refused without running code."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from checkpoints.tensors import Inert, read_weights

STATE = {"a": torch.arange(300.0), "b.c": torch.ones(2, 3, dtype=torch.float16), "n": torch.tensor(7)}


def same(tensors):
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[key], x.to(tensors[key].dtype))
                                                  for key, x in STATE.items())  # fmt: skip


def as_published(key="model_pos", prefix="module.", score=41.8):
    """A checkpoint as published training code writes it, with everything that lies beside the weights."""
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=2e-4)
    state = {prefix + name: x for name, x in STATE.items()}
    return {"epoch": 87, "optimizer": optimizer.state_dict(), key: state, "min_loss": score}


# ---------------------------------------------------------------------------------------------- what is understood


def test_safetensors_keep_their_metadata(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(STATE, path, {"unit": "m"})
    read = read_weights(path)
    assert same(read.tensors)
    assert (read.metadata, read.attributes, read.about) == ({"unit": "m"}, {}, {"unit": "m"})
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {str(x.dtype) for x in read.tensors.values()} == {"torch.float32", "torch.int64"}


@pytest.mark.parametrize("key", ["model_pos", "model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_every_published_layout_is_understood(tmp_path, key, prefix, is_zip):
    bare = {prefix + name: x for name, x in STATE.items()}
    content = as_published(key, prefix) if key else bare
    torch.save(content, tmp_path / "weights.pth.tr", _use_new_zipfile_serialization=is_zip)
    assert same(read_weights(tmp_path / "weights.pth.tr").tensors)


@pytest.mark.parametrize("score", [np.float64(41.8), np.float32(41.8), np.int64(42)])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_numpy_scalars_beside_the_weights_are_admitted(tmp_path, score, is_zip):
    torch.save(as_published(score=score), tmp_path / "weights.bin", _use_new_zipfile_serialization=is_zip)
    assert same(read_weights(tmp_path / "weights.bin").tensors)


# ---------------------------------------------------------------------------------------------- files that lie


class Attack:
    """Unpickled without care, creates a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["torch", "torch, old format", "pickle"])
def test_a_file_that_runs_code_is_refused_without_running_it(tmp_path, how):
    marker, path = tmp_path / "marker", tmp_path / "evil.bin"
    content = as_published(score=Attack(marker))
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ValueError, match=r"evil.bin was not loaded.*a file that needs to run code is refused"):
        read_weights(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes()) if how == "pickle" else torch.load(path, weights_only=False)
    assert marker.exists()  # the attack is real


class QuietAttack(Attack):
    """The same with a function of a package that checkpoints do name."""

    def __reduce__(self):
        return np.savetxt, (str(self.marker), [1.0])


def test_functions_of_packages_that_checkpoints_name_do_not_run_either(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "weights.pt"
    torch.save(as_published(score=QuietAttack(marker)), path)
    assert same(read_weights(path).tensors)
    assert not marker.exists()


class Innocent(nn.Linear):
    """A layer of somebody's package that does harm as soon as it is rebuilt."""

    def __setstate__(self, state):
        raise AssertionError("code of the file's choice ran")


def test_what_a_file_names_is_never_imported_or_called(tmp_path, monkeypatch):
    monkeypatch.setattr(Innocent, "__module__", "ultralytics.nn.modules.trap")
    monkeypatch.setitem(sys.modules, "ultralytics.nn.modules.trap", sys.modules[__name__])
    layer = Innocent(2, 3)
    torch.save({"model": layer}, tmp_path / "trap.pt")
    monkeypatch.delitem(sys.modules, "ultralytics.nn.modules.trap")
    read = read_weights(tmp_path / "trap.pt")
    assert torch.equal(read.tensors["weight"], layer.weight)
    assert set(read.tensors) == {"weight", "bias"}
    assert read.about["in_features"] == 2
    assert "ultralytics.nn.modules.trap" not in sys.modules


def test_nothing_stays_admitted_after_a_file_was_read(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save(as_published(score=np.float64(1)), tmp_path / "plain.pt")
    read_weights(tmp_path / "plain.pt")
    assert set(torch.serialization.get_safe_globals()) == before
    assert not isinstance(Inert(1, key=2), nn.Module)


def test_an_archive_that_grows_is_refused(tmp_path):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "plain.bin")
    bomb = tmp_path / "bomb.bin"
    with zipfile.ZipFile(tmp_path / "plain.bin") as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
    with pytest.raises(ValueError, match=r"was not loaded: \d+ bytes that unpack to \d+; weights never do"):
        read_weights(bomb)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path, is_zip):
    state = {"a": torch.zeros(1, dtype=torch.float16).expand(10**9, 10**6)}
    torch.save(state, tmp_path / "weights.bin", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"its tensors claim 2000000000000000 bytes, expected at most \d+"):
        read_weights(tmp_path / "weights.bin")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path, share, suffix):
    path = tmp_path / f"weights{suffix}"
    torch.save(as_published(), path) if suffix == ".bin" else save_file(STATE, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"weights\.\w+ (was not loaded|is no safetensors file)"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors", ""])
@pytest.mark.parametrize(
    "text", ["no checkpoint", "Not Found", "<!DOCTYPE html>", "version https://git-lfs.github.com/spec/v1\n", "."]
)
def test_a_text_file_is_refused(tmp_path, text, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"(was not loaded|is no safetensors file)"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # damage hits the protocol number too
def test_a_damaged_file_never_ends_in_another_error(tmp_path):
    path = tmp_path / "weights.bin"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), 2):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3}, {}, [1, 2], torch.zeros(2), {"state_dict": {}}, {"model": {"a": "text"}},
        {"model": torch.zeros(1), "a": 1},
    ],
)  # fmt: skip
def test_a_file_without_weights_says_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="holds no weights: found"):
        read_weights(tmp_path / "weights.bin")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_weights(tmp_path)
