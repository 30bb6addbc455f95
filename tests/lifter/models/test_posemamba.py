"""PoseMamba against the published network (golden files) and its specification."""

import numpy as np
import pytest
import torch

from lifter import create_model, scan
from lifter.models.posemamba import SMALL, PoseMamba, PoseMambaConfig

# The published network run with a plain float32 scan; another correct float32 implementation was measured to differ by
# up to 1.5e-5, the smallest mistake tried (one wrong epsilon) by 1e-3.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def small(recipe):
    model = PoseMamba(SMALL)
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    return model.eval().requires_grad_(False)


def answer(model: PoseMamba, keypoints, backend: str = "auto") -> np.ndarray:
    for module in model.modules():
        if hasattr(module, "scan_backend"):
            module.scan_backend = scan.resolve_backend(backend, "cpu")
    with torch.inference_mode():
        return model(torch.as_tensor(keypoints)).numpy()


# ---------------------------------------------------------------------------------------------- golden files


@pytest.mark.parametrize(
    ("backend", "name"),
    [("cpu", "posemamba_s_seed0"), ("cpu", "posemamba_s_seed0_t81"), ("torch", "posemamba_s_seed0_t81")],
)
def test_golden_output(small, golden, recipe, backend, name):
    if reason := scan.usable_backends("cpu")[backend]:
        pytest.skip(reason)
    expected = golden(name)
    assert str(expected["variant"]).lower().endswith("s")
    # float32 sums of 1.5 million numbers taken in float64: any wrong weight shows
    assert recipe.checksum(small.state_dict()) == pytest.approx(float(expected["weights_abs_sum"]), rel=1e-6)
    assert np.abs(answer(small, expected["input"], backend) - expected["output"]).max() < TOLERANCE


# ---------------------------------------------------------------------------------------------- sizes and keys


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown lifter 'posemamba-x'; choose one of posemamba-s"):
        create_model("posemamba-x")


# ---------------------------------------------------------------------------------------------- training


def test_the_limb_term_passes_its_gradient():
    # the published hand-written backward pass leaves it out; ours is the true gradient, checked by finite differences
    torch.manual_seed(0)
    model = PoseMamba(PoseMambaConfig(16, 1)).double()
    for module in model.modules():
        if hasattr(module, "scan_backend"):
            module.scan_backend = "reference"  # float64 throughout
    keypoints = torch.randn(1, 1, 17, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.eval()(x)[0, :, ::8], keypoints, atol=1e-6)
