"""The bidirectional Mamba against its equations, written out token by token in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from lifter import scan
from lifter.models.layers.bimamba import BiMamba

D, N = 20, 16  # 20: rank 2, and an inner width that is no multiple of a vector
LENGTHS = [1, 2, 17, 100]


def direction(p: dict[str, torch.Tensor], X: torch.Tensor, suffix: str) -> torch.Tensor:
    """One direction before the gate, over X (B, L, E) in its own order; the equations, one token after the other."""
    w, bias = p[f"conv1d{suffix}.weight"][:, 0], p[f"conv1d{suffix}.bias"]
    A = -torch.exp(p["A_b_log" if suffix else "A_log"])
    skip, projection = p[f"D{suffix}"], p[f"x_proj{suffix}.weight"]
    state, outputs = torch.zeros(len(X), *A.shape, dtype=X.dtype), []
    for n in range(X.shape[1]):
        before = [X[:, n - 3 + i] * w[:, i] for i in range(4) if n - 3 + i >= 0]
        x = F.silu(bias + sum(before))  # (B, E)
        step_in, gate_in, gate_out = (x @ projection.T).split([projection.shape[0] - 2 * N, N, N], dim=1)
        step = F.softplus(step_in @ p[f"dt_proj{suffix}.weight"].T + p[f"dt_proj{suffix}.bias"])  # (B, E)
        state = torch.exp(step[..., None] * A) * state + (step * x)[..., None] * gate_in[:, None]
        outputs.append((state * gate_out[:, None]).sum(-1) + skip * x)
    return torch.stack(outputs, 1)


def equations(p: dict[str, torch.Tensor], u: torch.Tensor, is_mean: bool) -> torch.Tensor:
    X, Z = (u @ p["in_proj.weight"].T).chunk(2, dim=-1)
    ahead = direction(p, X, "") * F.silu(Z)
    behind = (direction(p, X.flip(1), "_b") * F.silu(Z.flip(1))).flip(1)
    total = (ahead + behind) / 2 if is_mean else ahead + behind
    return total @ p["out_proj.weight"].T


def block(expand: int, is_mean: bool, backend: str) -> BiMamba:
    if reason := scan.usable_backends("cpu")[backend]:
        pytest.skip(reason)
    model = BiMamba(D, expand, is_mean=is_mean)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # away from the start, where both directions decay alike
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.scan_backend = backend
    return model


@pytest.mark.parametrize("L", LENGTHS)
@pytest.mark.parametrize(("expand", "is_mean"), [(2, False), (1, True)], ids=["HGMamba", "MDTF"])
# float64: rounding only. float32: values around 1, a hundred steps of a decaying state, and sums over all tokens in the
# gradients of weights; measured up to 4e-6 of the largest number.
@pytest.mark.parametrize(("backend", "tolerance"), [("torch", 1e-11), ("cpu", 2e-5)])
def test_values_and_gradients_follow_the_equations(L, expand, is_mean, backend, tolerance):
    model = block(expand, is_mean, backend)
    if backend == "torch":
        model.double()
    generator = torch.Generator().manual_seed(L)
    u = torch.randn(3, L, D, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, L, D, generator=generator, dtype=torch.float64)
    exact = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
    u_exact, u_ours = u.clone().requires_grad_(), u.to(model.D.dtype).requires_grad_()
    expected, output = equations(exact, u_exact, is_mean), model(u_ours)
    assert output.shape == (3, L, D)
    # one token alone has no decay: zero, whether or not a backend leaves it out
    ours = torch.autograd.grad((output * weight).sum(), [u_ours, *model.parameters()], materialize_grads=True)
    theirs = torch.autograd.grad((expected * weight).sum(), [u_exact, *exact.values()])
    for name, a, b in zip(["output", "input", *exact], [output, *ours], [expected, *theirs], strict=True):
        assert float((a - b).detach().abs().max()) <= tolerance * max(1.0, float(b.detach().abs().max())), name


def test_the_backward_direction_sees_what_comes_after():
    # with the forward direction silenced, token 5 depends on itself and on later tokens only
    model = block(2, False, "torch").double()
    with torch.no_grad():
        for parameter in (model.D, model.conv1d.weight, model.conv1d.bias):
            parameter.zero_()
    u = torch.randn(1, 12, D, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(u)[0, 5].sum(), u)
    reached = gradient[0].abs().sum(-1) > 0
    assert reached.tolist() == [False] * 5 + [True] * 7


def test_it_starts_like_the_published_block():
    torch.manual_seed(0)
    model = BiMamba(64, 2, is_mean=False)
    for decays in (model.A_log, model.A_b_log):  # float32 rounding of the logarithm
        assert torch.allclose(decays, torch.arange(1, 17.0).log().expand(128, 16), atol=1e-6)
    assert (model.D == 1).all()
    assert (model.D_b == 1).all()
    step = F.softplus(model.dt_proj.bias.detach())
    assert step.min() > 0.999e-3  # the inverse softplus of 0.001 is good to 1e-4 of it in float32
    assert step.max() < 0.1001
    assert model.dt_proj.weight.abs().max() <= 1 / math.sqrt(4)
