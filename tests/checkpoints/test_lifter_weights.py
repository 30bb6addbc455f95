"""Weights on disk: the published format, ours, and files that must be refused."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch

import lifter
from checkpoints import lifter_weights
from lifter.load import build_for
from lifter.models.posemamba import BASE, LARGE, SMALL, PoseMamba, PoseMambaConfig
from lifter.training.train import save_weights

TINY = PoseMambaConfig(width=16, depth=2)


@pytest.fixture(scope="module")
def filled(recipe):
    def make(config: PoseMambaConfig) -> PoseMamba:
        model = PoseMamba(config)
        model.load_state_dict(recipe.fill(model.state_dict(), 0))
        return model.eval()

    return make


@pytest.fixture(scope="module")
def tiny(filled):
    return filled(TINY)


def published(model: PoseMamba, key: str = "model_pos", prefix: str = "module.") -> dict:
    """A checkpoint as the published training code writes it, with everything that lies beside the weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    return {
        "epoch": 87,
        "lr": 2e-4 * 0.99**86,
        "optimizer": optimizer.state_dict(),
        key: {prefix + name: x for name, x in model.state_dict().items()},
        "min_loss": np.float64(41.8),
    }


def same(lifted: PoseMamba, model: PoseMamba) -> bool:
    keypoints = torch.randn(1, 3, 17, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return torch.equal(lifted(keypoints), model(keypoints))


# ---------------------------------------------------------------------------------------------- published files


@pytest.mark.parametrize(
    ("config", "name"), [(SMALL, "posemamba-s"), (BASE, "posemamba-b"), (LARGE, "posemamba-l")], ids=["S", "B", "L"]
)
def test_published_checkpoints_load_as_they_are(filled, tmp_path, config, name):
    model = filled(config)
    path = tmp_path / "best_epoch.bin"
    torch.save(published(model), path)
    loaded = lifter.load_lifter(path)
    assert loaded.name == name
    assert loaded.window == 243
    assert (loaded.normalization, loaded.unit) == ("picture", "normalized")
    assert loaded.provenance["weights"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert same(loaded.model, model)


@pytest.mark.parametrize("key", ["model_pos", "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_every_published_layout_is_understood(tiny, tmp_path, key, prefix):
    torch.save(published(tiny, key, prefix), tmp_path / "weights.pth.tr")
    assert same(lifter.load_lifter(str(tmp_path / "weights.pth.tr")).model, tiny)


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
def test_a_bare_state_dict_is_understood(tiny, tmp_path, prefix, is_zip):
    state = {prefix + name: x for name, x in tiny.state_dict().items()}
    torch.save(state, tmp_path / "weights.bin", _use_new_zipfile_serialization=is_zip)
    assert same(lifter.load_lifter(tmp_path / "weights.bin").model, tiny)


@pytest.mark.parametrize("scalar", [np.float64(41.8), np.float32(41.8), np.int64(42), 41.8])
def test_numpy_scalars_beside_the_weights_are_admitted(tiny, tmp_path, scalar):
    torch.save({**published(tiny), "min_loss": scalar}, tmp_path / "weights.bin")
    assert same(lifter.load_lifter(tmp_path / "weights.bin").model, tiny)


def test_a_network_that_is_not_registered_is_named_by_its_size(tiny, tmp_path):
    torch.save(tiny.state_dict(), tmp_path / "weights.bin")
    assert lifter.load_lifter(tmp_path / "weights.bin").name == "posemamba-width16-depth2"


# ---------------------------------------------------------------------------------------------- weights that do not fit


def test_a_missing_key_is_named(tiny):
    state = dict(tiny.state_dict())
    del state["TTEblocks.1.op.Ds"]
    with pytest.raises(
        ValueError, match=r"fit posemamba-width16-depth2: missing \['TTEblocks.1.op.Ds'\], unexpected \[\]"
    ):
        build_for(state)


def test_an_unexpected_key_is_named(tiny):
    with pytest.raises(ValueError, match=r"unexpected \['head.2.weight'\]"):
        build_for({**tiny.state_dict(), "head.2.weight": torch.zeros(3)})


def test_a_wrong_shape_is_named(tiny):
    with pytest.raises(ValueError, match=r"wrong shape \['head.1.weight'\]"):
        build_for({**tiny.state_dict(), "head.1.weight": torch.zeros(2, 16)})


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(ValueError, match=r"no known network: no PoseMamba weights: .* has the keys weight, bias"):
        lifter.load_lifter(tmp_path / "linear.pt")


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, {}, [torch.zeros(2)], torch.zeros(2), {"model": torch.zeros(1), "a": 1}]
)
def test_a_file_without_weights_says_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="holds no state dict: found"):
        lifter.load_lifter(tmp_path / "weights.bin")


# ---------------------------------------------------------------------------------------------- files that lie


class Attack:
    """Unpickled without care, creates a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["torch", "torch, old format", "pickle"])
def test_a_file_that_runs_code_is_refused_without_running_it(tiny, tmp_path, how):
    marker, path = tmp_path / "marker", tmp_path / "evil.bin"
    content = {**published(tiny), "min_loss": Attack(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ValueError, match=r"evil.bin was not loaded.*a file that needs to run code is refused"):
        lifter.load_lifter(path)
    assert not marker.exists()
    with path.open("rb") as file:  # the attack is real: pickle falls for it
        if how == "pickle":
            pickle.load(file)
            assert marker.exists()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_truncated_file_is_refused(tiny, tmp_path, share, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".bin":
        torch.save(published(tiny), path)
    else:
        save_weights(tiny.state_dict(), {}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"weights\.\w+ (was not loaded|is no safetensors file)"):
        lifter.load_lifter(path)


@pytest.mark.parametrize(
    "text",
    [
        "this is not a checkpoint",
        "Not Found",
        "<!DOCTYPE html><html>",
        "version https://git-lfs.github.com/spec/v1\n",
        ".",
    ],
)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors", ""])
def test_a_text_file_is_refused(tmp_path, text, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"(was not loaded|is no safetensors file)"):
        lifter.load_lifter(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # damage hits the protocol number too
def test_a_damaged_file_never_ends_in_another_error(tiny, tmp_path):
    path = tmp_path / "weights.bin"
    torch.save({"a": torch.zeros(30), "b": torch.ones(2, 3)}, path, _use_new_zipfile_serialization=False)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), 2):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            lifter_weights.read_weights(path)
        except ValueError as error:
            assert str(path) in str(error)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*nowhere.bin; give a file or one of the names"):
        lifter.load_lifter(tmp_path / "nowhere.bin")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file"):
        lifter.load_lifter(tmp_path)


def test_a_device_that_is_not_there_is_refused(tiny, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    torch.save(tiny.state_dict(), tmp_path / "weights.bin")
    with pytest.raises(RuntimeError, match="torch sees no CUDA device; use --device cpu"):
        lifter.load_lifter(tmp_path / "weights.bin", device="cuda")


# ---------------------------------------------------------------------------------------------- our own files


def test_our_files_keep_weights_and_metadata(tiny, tmp_path):
    path = tmp_path / "weights.safetensors"
    metadata = {"normalization": "person", "unit": "m",
                "training": '{"training_minutes": 12.5, "revision": "abc"}'}  # fmt: skip
    save_weights(tiny.state_dict(), metadata, path)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]  # no part file is left
    read = lifter_weights.read_weights(path)
    assert read.metadata == metadata
    assert all(torch.equal(read.tensors[k], x) for k, x in tiny.state_dict().items())
    loaded = lifter.load_lifter(path)
    assert (loaded.normalization, loaded.unit) == ("person", "m")
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


@pytest.mark.parametrize("backend", ["cpu", "torch", "reference"])
def test_the_backend_is_chosen_for_every_scan(tiny, tmp_path, backend):
    torch.save(tiny.state_dict(), tmp_path / "weights.bin")
    if reason := lifter.lift.scan.usable_backends("cpu")[backend]:
        pytest.skip(reason)
    loaded = lifter.load_lifter(tmp_path / "weights.bin", backend=backend)
    chosen = [m.scan_backend for m in loaded.model.modules() if hasattr(m, "scan_backend")]
    assert chosen == [backend] * 4
    assert loaded.provenance["scan_backend"].startswith(backend)


def test_an_unknown_backend_is_refused(tiny, tmp_path):
    torch.save(tiny.state_dict(), tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="unknown scan backend 'fast'"):
        lifter.load_lifter(tmp_path / "weights.bin", backend="fast")


# ---------------------------------------------------------------------------------------------- the manifest


@pytest.fixture
def folder(tmp_path, monkeypatch, filled):
    """A checkpoints folder whose manifest lists a right file, a replaced one, an absent one and a misnamed one."""
    save_weights(filled(SMALL).state_dict(), {}, tmp_path / "small.safetensors")
    right = hashlib.sha256((tmp_path / "small.safetensors").read_bytes()).hexdigest()
    entries = {"posemamba-s": ("small.safetensors", right), "replaced": ("small.safetensors", "0" * 64),
               "absent": ("absent.safetensors", "1" * 64), "posemamba-b": ("small.safetensors", right)}  # fmt: skip
    text = "".join(f'["{name}"]\nfile = "{file}"\nsha256 = "{sha}"\n' for name, (file, sha) in entries.items())
    (tmp_path / "manifest.toml").write_text(text)
    monkeypatch.setattr(lifter_weights, "FOLDER", tmp_path)
    monkeypatch.setattr(lifter_weights, "MANIFEST", tmp_path / "manifest.toml")
    return tmp_path


def test_a_name_leads_to_its_verified_file(folder):
    assert lifter_weights.find_checkpoint("posemamba-s") == folder / "small.safetensors"
    assert lifter.load_lifter("posemamba-s").name == "posemamba-s"


def test_a_file_with_another_hash_is_refused(folder):
    with pytest.raises(RuntimeError, match=r"has SHA-256 \w{64}, expected 0{64}: the file is damaged or was replaced"):
        lifter_weights.find_checkpoint("replaced")


def test_an_absent_file_says_where_it_belongs(folder):
    with pytest.raises(FileNotFoundError, match=r"weights of absent are missing: expected .*absent.safetensors"):
        lifter_weights.find_checkpoint("absent")


def test_a_name_without_weights_lists_those_with(folder):
    with pytest.raises(
        FileNotFoundError, match=r"no trained weights for posemamba-l .*available: posemamba-s, replaced"
    ):
        lifter.load_lifter("posemamba-l")


def test_a_name_that_leads_to_another_network_is_refused(folder):
    with pytest.raises(ValueError, match="holds weights of posemamba-s, expected posemamba-b"):
        lifter.load_lifter("posemamba-b")


def test_shipped_checkpoints_match_their_hash_and_load(root):
    assert root / "checkpoints" / "manifest.toml" == lifter_weights.MANIFEST
    is_there = lifter_weights.MANIFEST.exists()
    names = [name for name in lifter_weights.manifest() if name in lifter.LIFTERS] if is_there else []
    if not names:
        pytest.skip("checkpoints/manifest.toml lists no lifter: this checkout ships no weights")
    for name in names:
        path = lifter_weights.find_checkpoint(name)  # checks the hash
        loaded = lifter.load_lifter(name)
        assert loaded.name == name
        assert loaded.provenance["weights"]["file"] == path.name
        with torch.inference_mode():
            assert torch.isfinite(loaded.model(torch.zeros(1, loaded.window, 17, loaded.channels))).all()


def test_numbers_that_are_not_finite_are_refused(tiny_model, tmp_path):
    state = {key: value.clone() for key, value in tiny_model.state_dict().items()}
    state["head.1.bias"][0] = float("nan")
    save_weights(state, {}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"not finite.*head.1.bias"):
        lifter.load_lifter(tmp_path / "nan.safetensors")


@pytest.mark.parametrize(
    ("spatial", "temporal", "block"),
    [((), (243,), 0), ((1, 17, 16), (1, 243, 16), 100_000_000), ((1, 1, 300_000), (1, 1, 1), 0)],
)
def test_a_file_that_claims_a_giant_network_is_refused_before_it_is_built(spatial, temporal, block, tmp_path):
    state = {
        "Spatial_pos_embed": torch.zeros(spatial),
        "Temporal_pos_embed": torch.zeros(temporal),
        f"STEblocks.{block}.norm.weight": torch.zeros(1),
        "STEblocks.0.op.in_proj.weight": torch.zeros(1, *spatial[2:]),
    }
    save_weights(state, {}, tmp_path / "giant.safetensors")
    with pytest.raises(ValueError, match=r"weights (do not fit|of no known network)"):
        lifter.load_lifter(tmp_path / "giant.safetensors")
