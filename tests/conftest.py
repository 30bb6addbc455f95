"""What every test shares: thread settings, the hypothesis profile and small fixtures."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep instead of spinning

import importlib.util
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.training.train import save_weights

torch.set_num_threads(2)
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("requires_cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data beside the checkout that is too large for it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder.name}/ beside the checkout")
    return folder


@pytest.fixture(scope="session")
def recipe():
    """The golden recipe: ``fill(state_dict, seed)`` and ``checksum(state_dict)``."""
    spec = importlib.util.spec_from_file_location("golden_recipe", ROOT / "tests" / "golden" / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_model(recipe) -> PoseMamba:
    """A PoseMamba of width 16 and depth 1 with weights that make every part matter; do not change it."""
    model = PoseMamba(PoseMambaConfig(width=16, depth=1))
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    return model.eval().requires_grad_(False)


@pytest.fixture
def threads():
    """``torch.set_num_threads`` that is undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_weights(tiny_model, tmp_path_factory) -> Path:
    """A weights file of ``tiny_model`` that claims our conventions (person normalization, metres)."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(tiny_model.state_dict(), {"normalization": "person", "unit": "m"}, path)
    return path
