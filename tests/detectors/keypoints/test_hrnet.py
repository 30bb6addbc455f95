"""HRNet against timm's, and the files it loads: official, MMPose's, ours, and those that must be refused."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from checkpoints.tensors import read_weights
from detectors.keypoints import hrnet


def random_network(width: int) -> hrnet.HRNet:
    """A network in which every part matters: normalizations are not the identity."""
    torch.manual_seed(width)
    network = hrnet.HRNet(width)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.8, 1.2)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter.data, 0.5, 1.0) if name.endswith("weight") else parameter.data.normal_(
                0, 0.1
            )
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def narrow() -> hrnet.HRNet:
    return random_network(8)


def answers(network: hrnet.HRNet) -> torch.Tensor:
    pictures = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return network(pictures)


@pytest.mark.parametrize("width", [32, 48])
def test_features_are_those_of_timm(width):
    timm = pytest.importorskip("timm", reason="needs timm, the oracle (dev extra)")
    ours = random_network(width)
    theirs = timm.create_model(f"hrnet_w{width}", pretrained=False, num_classes=0).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert set(unexpected) == {"final_layer.weight", "final_layer.bias"}
    last = "stages.3" if any(key.startswith("stages.") for key in missing) else "stage4"
    unused = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
    rows = tuple(f"{last}.2.fuse_layers.{row}." for row in (1, 2, 3))  # of the last module only the first row is read
    assert all(key.startswith((*unused, *rows)) for key in missing)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        stem = theirs.act2(theirs.bn2(theirs.conv2(theirs.act1(theirs.bn1(theirs.conv1(x))))))
        expected = theirs.stages(stem)[0]
        difference = (ours.features(x) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5  # the same operations in float32


def test_heatmaps_have_a_quarter_of_the_size(narrow):
    assert answers(narrow).shape == (2, 17, 16, 24)


def test_official_files_load_as_they_are(narrow, tmp_path):
    path = tmp_path / "pose_hrnet_w8_256x192.pth"
    torch.save(narrow.state_dict(), path, _use_new_zipfile_serialization=False)  # they are from before PyTorch 1.6
    loaded, size = hrnet.from_weights(read_weights(path))
    assert size == (256, 192)
    assert loaded.width == 8
    assert torch.equal(answers(loaded), answers(narrow))


def test_mmpose_files_load_with_whatever_their_trainer_left_in_them(narrow, tmp_path, monkeypatch):
    """MMEngine stores objects of its own beside the weights; nothing of it need be installed."""
    module = ModuleType("mmengine")
    history = type("HistoryBuffer", (), {"__module__": "mmengine"})
    module.HistoryBuffer = history
    monkeypatch.setitem(sys.modules, "mmengine", module)
    kept = history()
    kept.values = np.arange(3.0)
    prefixed = {
        ("head." if key.startswith("final") else "backbone.") + key: x for key, x in narrow.state_dict().items()
    }
    path = tmp_path / "td-hm_hrnet-w8_8xb64-210e_coco-128x96-81c58e40_20220909.pth"
    torch.save({"meta": {"epoch": 210, "loss": kept, "score": np.float64(0.7)}, "state_dict": prefixed}, path)
    monkeypatch.delitem(sys.modules, "mmengine")
    loaded, size = hrnet.from_weights(read_weights(path))
    assert size == (128, 96)
    assert torch.equal(answers(loaded), answers(narrow))


def test_our_files_say_their_input_size(narrow, tmp_path):
    path = tmp_path / "small.safetensors"
    save_file(narrow.state_dict(), path, {"input": "128x96"})
    loaded, size = hrnet.from_weights(read_weights(path))
    assert size == (128, 96)
    assert torch.equal(answers(loaded), answers(narrow))


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("pose.pth", {}, "nothing says which input size"),
        ("pose_100x75.pth", {}, "expected multiples of 32"),
        ("pose_64x64.pth", {"extra.weight": torch.zeros(1)}, "1 unknown (such as extra.weight)"),
        ("pose_64x64.pth", {"conv1.weight": torch.zeros(64, 3, 5, 5)}, "1 of another shape (such as conv1.weight)"),
        ("pose_64x64.pth", {"conv1.weight": None}, "1 missing (such as conv1.weight)"),
        ("pose_64x64.pth", {"final_layer.weight": torch.zeros(16, 8, 1, 1)}, "no HRNet for COCO-17"),
        ("pose_64x64.pth", {"final_layer.weight": torch.zeros(17, 4096, 1, 1)}, "width 4096"),
        ("pose_64x64.pth", {"final_layer.bias": torch.full((17,), torch.nan)}, "not finite"),
    ],
)
def test_other_files_are_refused(narrow, tmp_path, name, change, text):
    state = {key: x for key, x in {**narrow.state_dict(), **change}.items() if x is not None}
    torch.save(state, tmp_path / name)
    with pytest.raises(ValueError, match="pose") as caught:
        hrnet.from_weights(read_weights(tmp_path / name))
    assert text in str(caught.value)
