"""Weights to a lifter: which network they fit, by name or path, with which conventions, and what is refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

import lifter
from checkpoints import find, manifest, shipped
from lifter import scan
from lifter.load import build_for
from lifter.models.posemamba import BASE, LARGE, SMALL, PoseMamba, PoseMambaConfig
from lifter.training.train import save_weights


@pytest.fixture(scope="module")
def filled(recipe):
    def make(config: PoseMambaConfig) -> PoseMamba:
        model = PoseMamba(config)
        model.load_state_dict(recipe.fill(model.state_dict(), 0))
        return model.eval()

    return make


@pytest.fixture(scope="module")
def tiny(filled):
    return filled(PoseMambaConfig(width=16, depth=2))


@pytest.fixture
def tiny_file(tiny, tmp_path):
    save_weights(tiny.state_dict(), {}, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def same(lifted: PoseMamba, model: PoseMamba) -> bool:
    keypoints = torch.randn(1, 3, 17, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return torch.equal(lifted(keypoints), model(keypoints))


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("config", "name"), [(SMALL, "posemamba-s"), (BASE, "posemamba-b"), (LARGE, "posemamba-l")], ids=["S", "B", "L"]
)
def test_published_checkpoints_load_as_they_are(filled, tmp_path, config, name):
    model, path = filled(config), tmp_path / "best_epoch.bin"
    state = {f"module.{key}": x for key, x in model.state_dict().items()}
    torch.save({"epoch": 87, "model_pos": state, "min_loss": np.float64(41.8)}, path)
    loaded = lifter.load_lifter(path)
    assert (loaded.name, loaded.window) == (name, 243)
    assert (loaded.normalization, loaded.unit) == ("picture", "normalized")
    assert loaded.provenance["weights"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert same(loaded.model, model)


def test_our_files_keep_weights_and_metadata(tiny, tmp_path):
    path = tmp_path / "weights.safetensors"
    metadata = {"normalization": "person", "unit": "m",
                "training": '{"training_minutes": 12.5, "revision": "abc"}'}  # fmt: skip
    save_weights(tiny.state_dict(), metadata, path)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]  # no part file is left
    loaded = lifter.load_lifter(path)
    assert (loaded.name, loaded.normalization, loaded.unit) == ("posemamba-width16-depth2", "person", "m")
    assert loaded.provenance["weights"] == {
        "file": "weights.safetensors", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "validation_mm": None, "training_minutes": 12.5, "revision": "abc",
    }  # fmt: skip
    assert same(loaded.model, tiny)


@pytest.mark.parametrize("metadata", [{"normalization": "sphere"}, {"unit": "inch"}])
def test_conventions_of_another_version_are_refused(tiny, tmp_path, metadata):
    save_weights(tiny.state_dict(), metadata, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="which this version lacks"):
        lifter.load_lifter(tmp_path / "weights.safetensors")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*nowhere.bin; give a file or one of posemamba-s, "):
        lifter.load_lifter(tmp_path / "nowhere.bin")


# ---------------------------------------------------------------------------------------------- weights that do not fit


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"TTEblocks.1.op.Ds": None}, r"missing \['TTEblocks.1.op.Ds'\], unexpected \[\]"),
        ({"head.2.weight": torch.zeros(3)}, r"unexpected \['head.2.weight'\]"),
        ({"head.1.weight": torch.zeros(2, 16)}, r"wrong shape \['head.1.weight'\]"),
        ({"head.1.bias": torch.tensor([0.0, float("nan"), 0.0])}, r"not finite, in \['head.1.bias'\]"),
    ],
    ids=["missing", "unexpected", "shape", "not finite"],
)
def test_what_does_not_fit_is_named(tiny, change, text):
    state = {key: x for key, x in {**tiny.state_dict(), **change}.items() if x is not None}
    with pytest.raises(ValueError, match=text):
        build_for(state)


def test_weights_of_no_known_network_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(ValueError, match=r"no known network: no PoseMamba weights: .* has the keys weight, bias"):
        lifter.load_lifter(tmp_path / "linear.pt")


@pytest.mark.parametrize(
    ("spatial", "temporal", "block"),
    [((), (243,), 0), ((1, 17, 16), (1, 243, 16), 100_000_000), ((1, 1, 300_000), (1, 1, 1), 0)],
)
def test_a_file_that_claims_a_giant_network_is_refused_before_it_is_built(spatial, temporal, block):
    state = {
        "Spatial_pos_embed": torch.zeros(spatial),
        "Temporal_pos_embed": torch.zeros(temporal),
        f"STEblocks.{block}.norm.weight": torch.zeros(1),
        "STEblocks.0.op.in_proj.weight": torch.zeros(1, *spatial[2:]),
    }
    with pytest.raises(ValueError, match=r"weights (do not fit|of no known network)"):
        build_for(state)


# ---------------------------------------------------------------------------------------------- where it runs


def test_a_device_that_is_not_there_is_refused(tiny_file):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(RuntimeError, match="torch sees no CUDA device; use --device cpu"):
        lifter.load_lifter(tiny_file, device="cuda")


@pytest.mark.parametrize("backend", ["cpu", "torch", "reference"])
def test_the_backend_is_chosen_for_every_scan(tiny_file, backend):
    if reason := scan.usable_backends("cpu")[backend]:
        pytest.skip(reason)
    loaded = lifter.load_lifter(tiny_file, backend=backend)
    chosen = [m.scan_backend for m in loaded.model.modules() if hasattr(m, "scan_backend")]
    assert chosen == [backend] * 4
    assert loaded.provenance["scan_backend"].startswith(backend)


def test_an_unknown_backend_is_refused(tiny_file):
    with pytest.raises(ValueError, match="unknown scan backend 'fast'"):
        lifter.load_lifter(tiny_file, backend="fast")


# ---------------------------------------------------------------------------------------------- names


def test_names_lead_to_verified_files_of_their_network(tmp_path, monkeypatch, filled):
    path = tmp_path / "small.safetensors"
    save_weights(filled(SMALL).state_dict(), {}, path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    entries = {"posemamba-s": (path.name, right), "hgmamba-s": (path.name, "0" * 64),
               "mdtf-tiny": ("absent.safetensors", right), "posemamba-b": (path.name, right)}  # fmt: skip
    text = "".join(f'["{name}"]\nfile = "{file}"\nsha256 = "{sha}"\n' for name, (file, sha) in entries.items())
    (tmp_path / "manifest.toml").write_text(text)
    monkeypatch.setattr(manifest, "FOLDER", tmp_path)
    monkeypatch.setattr(manifest, "SHIPPED_LIST", tmp_path / "manifest.toml")
    assert lifter.trained_lifters() == ["posemamba-s", "posemamba-b", "hgmamba-s"]
    assert lifter.load_lifter("posemamba-s").name == "posemamba-s"
    with pytest.raises(RuntimeError, match=r"has SHA-256 \w{64}, expected SHA-256 0{64}: the file .*restore it from"):
        lifter.load_lifter("hgmamba-s")
    with pytest.raises(FileNotFoundError, match=r"the weights mdtf-tiny are not here: restore .*absent.safetensors"):
        lifter.load_lifter("mdtf-tiny")
    with pytest.raises(ValueError, match="holds weights of posemamba-s, expected posemamba-b"):
        lifter.load_lifter("posemamba-b")
    with pytest.raises(FileNotFoundError, match=r"no trained weights for posemamba-l .*available: posemamba-s, hgm"):
        lifter.load_lifter("posemamba-l")


def test_shipped_weights_match_their_hash_and_load(root):
    assert shipped()
    for name, entry in shipped().items():
        assert find(name, "lifter") == root / "checkpoints" / entry.file  # checks the hash
        loaded = lifter.load_lifter(name)
        assert (loaded.name, loaded.provenance["weights"]["file"]) == (name, entry.file)
        with torch.inference_mode():
            assert torch.isfinite(loaded.model(torch.zeros(1, loaded.window, 17, loaded.channels))).all()
