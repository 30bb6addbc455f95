"""PoseMamba against the published network (golden files) and its specification."""

import math

import numpy as np
import pytest
import torch

from lifter import create_model, scan
from lifter.models import posemamba
from lifter.models.posemamba import BASE, LARGE, NUM_JOINTS, SMALL, Block, PoseMamba, PoseMambaConfig
from lifter.skeletons import H36M17

# The published network run with a plain float32 scan; another correct float32 implementation was measured to differ by
# up to 1.5e-5, the smallest mistake tried (one wrong epsilon) by 1e-3.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def small(recipe):
    model = PoseMamba(SMALL)
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def golden(root):
    def load(name: str):
        with np.load(root / "tests" / "golden" / f"{name}.npz") as npz:
            return {key: npz[key] for key in npz.files}

    return load


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


@pytest.mark.parametrize("backend", scan.BACKENDS)
def test_backends_agree_through_the_whole_network(small, golden, backend):
    # The definition is too slow for 81 frames; five show the same.
    if reason := scan.usable_backends("cpu")[backend]:
        pytest.skip(reason)
    keypoints = golden("posemamba_s_seed0_t81")["input"][:, :5]
    assert np.abs(answer(small, keypoints, backend) - answer(small, keypoints, "torch")).max() < TOLERANCE


def spoilt(small, change) -> PoseMamba:
    model = PoseMamba(SMALL).eval().requires_grad_(False)
    state = {key: value.clone() for key, value in small.state_dict().items()}
    change(state)
    model.load_state_dict(state)
    return model


def swap_gates(state):
    for key in [k for k in state if k.endswith("x_proj_weight")]:
        step, gate_in, gate_out = state[key].split([4, 16, 16], dim=1)
        state[key] = torch.cat([step, gate_out, gate_in], dim=1)


def swap_shared_norms(state):
    for leaf in ("weight", "bias"):
        a, b = f"Spatial_norm.{leaf}", f"Temporal_norm.{leaf}"
        state[a], state[b] = state[b], state[a]


def transpose_convolutions(state):
    for key in [k for k in state if k.endswith("conv2d.weight")]:
        state[key] = state[key].mT


def drop_temporal_embedding(state):
    state["Temporal_pos_embed"].zero_()


def drop_skips(state):
    for key in [k for k in state if k.endswith(".Ds")]:
        state[key].zero_()


@pytest.mark.parametrize(
    "change", [swap_gates, swap_shared_norms, transpose_convolutions, drop_temporal_embedding, drop_skips]
)
def test_the_golden_output_notices_a_wrong_part(small, golden, change):
    expected = golden("posemamba_s_seed0_t81")
    output = answer(spoilt(small, change), expected["input"])
    assert np.abs(output - expected["output"]).max() > 0.4  # measured for such mistakes: 0.5 to 4.4


@pytest.mark.parametrize("kind", ["one entry", "parents"])
def test_the_golden_output_notices_a_wrong_limb_table(small, golden, kind, monkeypatch):
    right = posemamba.LIMB_SOURCE
    wrong = (*right[:5], 4, *right[6:]) if kind == "one entry" else tuple(max(p, 0) for p in H36M17.parents)
    monkeypatch.setattr(posemamba, "LIMB_SOURCE", wrong)
    expected = golden("posemamba_s_seed0_t81")
    assert np.abs(answer(small, expected["input"]) - expected["output"]).max() > 0.4  # measured: 3.0 and 3.5


# ---------------------------------------------------------------------------------------------- sizes and keys


@pytest.mark.parametrize(
    ("config", "parameters", "entries"),
    [(SMALL, 1_470_211, 392), (BASE, 4_742_659, 392), (LARGE, 9_450_499, 772)],
    ids=["S", "B", "L"],
)
def test_sizes_are_those_of_the_published_networks(config, parameters, entries):
    state = PoseMamba(config).state_dict()
    assert sum(x.numel() for x in state.values()) == parameters
    assert len(state) == entries
    assert all(x.dtype == torch.float32 for x in state.values())


def published_shapes(d: int, n: int) -> dict[str, tuple[int, ...]]:
    """Keys, in order, and shapes of a published checkpoint."""
    E, R, N, K = 2 * d, math.ceil(d / 16), 16, 4
    block = {
        "norm.weight": (d,), "norm.bias": (d,),
        "op.x_proj_weight": (K, R + 2 * N, E), "op.dt_projs_weight": (K, E, R), "op.dt_projs_bias": (K, E),
        "op.A_logs": (K * E, N), "op.Ds": (K * E,), "op.out_norm.weight": (E,), "op.out_norm.bias": (E,),
        "op.in_proj.weight": (2 * E, d), "op.conv2d.weight": (E, 1, 3, 3), "op.conv2d.bias": (E,),
        "op.out_proj.weight": (d, E), "norm2.weight": (d,), "norm2.bias": (d,),
        "mlp.fc1.weight": (2 * d, d), "mlp.fc1.bias": (2 * d,), "mlp.fc2.weight": (d, 2 * d), "mlp.fc2.bias": (d,),
    }  # fmt: skip
    blocks = {
        f"{kind}.{i}.{key}": shape
        for kind in ("STEblocks", "TTEblocks")
        for i in range(n)
        for key, shape in block.items()
    }
    return {
        "Spatial_pos_embed": (1, 17, d), "Temporal_pos_embed": (1, 243, d),
        "Spatial_patch_to_embedding.weight": (d, 2), "Spatial_patch_to_embedding.bias": (d,),
        **blocks,
        "Spatial_norm.weight": (d,), "Spatial_norm.bias": (d,), "Temporal_norm.weight": (d,),
        "Temporal_norm.bias": (d,), "head.0.weight": (d,), "head.0.bias": (d,),
        "head.1.weight": (3, d), "head.1.bias": (3,),
    }  # fmt: skip


@pytest.mark.parametrize("config", [SMALL, BASE, LARGE], ids=["S", "B", "L"])
def test_keys_order_and_shapes_are_the_published_ones(config):
    actual = {key: tuple(x.shape) for key, x in PoseMamba(config).state_dict().items()}
    expected = published_shapes(config.width, config.depth)
    assert actual == expected
    assert list(actual) == list(expected)


@pytest.mark.parametrize("config", [SMALL, LARGE, PoseMambaConfig(32, 3, window=81)])
def test_the_size_is_read_from_the_weights(config):
    found = posemamba.config_of(PoseMamba(config).state_dict())
    assert (found.width, found.depth, found.window) == (config.width, config.depth, config.window)


@pytest.mark.parametrize("state", [{}, {"conv.weight": torch.zeros(1)}, {"Spatial_pos_embed": torch.zeros(1, 17, 4)}])
def test_weights_of_something_else_are_refused(state):
    with pytest.raises(ValueError, match="no PoseMamba weights"):
        posemamba.config_of(state)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown lifter 'posemamba-x'; choose one of posemamba-s"):
        create_model("posemamba-x")


# ---------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize("frames", [1, 2, 242, 243])
def test_every_length_up_to_the_window_is_accepted(tiny_model, frames):
    output = answer(tiny_model, torch.randn(1, frames, 17, 2))
    assert output.shape == (1, frames, 17, 3)
    assert np.isfinite(output).all()


@pytest.mark.parametrize("frames", [0, 244, 486])
def test_other_lengths_are_refused(tiny_model, frames):
    with pytest.raises(ValueError, match=f"a window holds 1 to 243 frames, got {frames}; split longer clips first"):
        tiny_model(torch.zeros(1, frames, 17, 2))


@pytest.mark.parametrize("shape", [(1, 9, 16, 2), (1, 9, 17, 3), (9, 17, 2), (1, 1, 9, 17, 2)])
def test_other_shapes_are_refused(tiny_model, shape):
    with pytest.raises(ValueError, match=r"keypoints must have shape \(B, T, 17, 2\), got"):
        tiny_model(torch.zeros(shape))


def test_first_frame_moves_the_temporal_embedding(tiny_model):
    keypoints = torch.randn(1, 9, 17, 2)
    moved = PoseMamba(tiny_model.config).eval()
    state = dict(tiny_model.state_dict())
    state["Temporal_pos_embed"] = state["Temporal_pos_embed"].roll(-100, dims=1)
    moved.load_state_dict(state)
    with torch.inference_mode():
        assert torch.equal(tiny_model(keypoints, first_frame=100), moved(keypoints))
    with pytest.raises(ValueError, match="a window holds 1 to 8 frames, got 9"):
        tiny_model(keypoints, first_frame=235)


def test_a_window_does_not_depend_on_its_batch(tiny_model):
    keypoints = torch.randn(5, 27, 17, 2)
    together, alone = answer(tiny_model, keypoints), answer(tiny_model, keypoints[3:4])
    assert np.abs(together[3:4] - alone).max() < 1e-5  # matrix products round differently for another batch size


# ---------------------------------------------------------------------------------------------- training


def test_initialization():
    torch.manual_seed(0)
    model = PoseMamba(SMALL)
    assert not model.Spatial_pos_embed.any()
    assert not model.Temporal_pos_embed.any()
    for block in (*model.STEblocks, *model.TTEblocks):
        op = block.op
        # ln(1 ... 16) in every row; float32 rounding of the logarithm
        assert torch.allclose(op.A_logs, torch.arange(1, 17.0).log().expand(512, 16), atol=1e-6)
        assert (op.Ds == 1).all()
        assert op.x_proj_weight.abs().max() <= 1 / math.sqrt(128)
        assert op.dt_projs_weight.abs().max() <= 1 / math.sqrt(4)
        step = torch.nn.functional.softplus(op.dt_projs_bias.detach())
        assert step.min() > 0.999e-3  # the inverse softplus of 0.001 is good to 1e-4 of it in float32
        assert step.max() < 0.1001
        # 512 log-uniform draws between 0.001 and 0.1: mean ln is that of 0.01, standard error 0.06
        assert float(step.log().mean()) == pytest.approx(math.log(0.01), abs=0.3)
    # uniform on +-1/sqrt(128): standard deviation 0.0510, here from 368 640 draws
    spread = torch.cat([b.op.x_proj_weight.flatten() for b in (*model.STEblocks, *model.TTEblocks)]).detach().std()
    assert float(spread) == pytest.approx(1 / math.sqrt(128 * 3), rel=0.02)


def test_drop_path_grows_with_depth():
    model = PoseMamba(PoseMambaConfig(16, 5, drop_path=0.2))
    for blocks in (model.STEblocks, model.TTEblocks):
        assert [b.drop_path for b in blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_drop_path_is_the_identity_in_evaluation(recipe):
    x = torch.randn(4, 3, NUM_JOINTS, 16)
    still, dropping = Block(16, 0.0), Block(16, 0.9)
    dropping.load_state_dict(still.state_dict())
    assert torch.equal(dropping.eval()(x), still.eval()(x))


def test_drop_path_drops_whole_samples_and_scales_the_others():
    torch.manual_seed(0)
    block = Block(16, 0.75)
    torch.nn.init.zeros_(block.mlp.fc2.weight)  # leaves one branch
    torch.nn.init.zeros_(block.mlp.fc2.bias)
    x = torch.randn(64, 3, NUM_JOINTS, 16)
    with torch.no_grad():
        branch = block.eval()(x) - x
        change = block.train()(x) - x
    factors = (change * branch).sum((1, 2, 3)) / branch.square().sum((1, 2, 3))
    kept = factors > 0.5
    assert torch.allclose(factors[kept], torch.tensor(4.0), rtol=1e-4)  # 1 / (1 - 0.75); float32 differences of x
    assert not change[~kept].any()
    assert 4 <= int(kept.sum()) <= 32  # 16 expected of 64, standard deviation 3.5


def test_gradients_reach_every_parameter(recipe):
    model = PoseMamba(PoseMambaConfig(16, 2))
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    model(torch.randn(2, 243, 17, 2)).square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_the_limb_term_passes_its_gradient():
    # the published hand-written backward pass leaves it out; ours is the true gradient, checked by finite differences
    torch.manual_seed(0)
    model = PoseMamba(PoseMambaConfig(16, 1)).double()
    for module in model.modules():
        if hasattr(module, "scan_backend"):
            module.scan_backend = "reference"  # float64 throughout
    keypoints = torch.randn(1, 1, 17, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.eval()(x)[0, :, ::8], keypoints, atol=1e-6)
