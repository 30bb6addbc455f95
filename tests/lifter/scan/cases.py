"""Inputs of the scan, and how far from the float64 definition an answer may be."""

import math

import torch

from lifter.scan import reference

CHUNK = 16  # steps between two checkpoints of the compiled kernel; the lengths of the tests go around it

# Largest difference to the float64 definition over its largest absolute value. Measured on the cases of these tests,
# worst over backends and instruction sets: values 5e-7, gradients 1.5e-5 (sums over up to 512 steps; the compiled
# kernel's exponentials are good to 1.1e-7 and their 16th power to 2e-6). A wrong term is off by 1e-2 and more.
TOLERANCE = {"values": 1e-5, "gradients": 5e-5}


def decays(channels: int, states: int, kind: str) -> torch.Tensor:
    """Return A: "unit" -(1 ... N), "powers" a number per channel times that, or "any"; two have short cuts."""
    A = -torch.arange(1, states + 1).float().expand(channels, states)
    if kind == "unit":
        return A.clone()
    A = A * (0.5 + torch.rand(channels, 1))
    return A if kind == "powers" else A * (1 + 0.1 * torch.randn(channels, states))


def cross_inputs(batch, frames, joints, width, rank, states, num_sources, *, num_walks=4, kind="any", seed=0):
    torch.manual_seed(seed)
    K, L = num_walks, frames * joints
    block = rank + 2 * states
    return {
        **{f"source{s}": torch.randn(batch, L, width) for s in range(num_sources)},
        **{f"projection{s}": torch.randn(batch, L, K // num_sources * block) for s in range(num_sources)},
        "dt_weight": torch.randn(K, width, rank) / math.sqrt(rank),
        "dt_bias": torch.randn(K, width) - 2,  # steps of about 0.1 behind the softplus
        "A": decays(K * width, states, kind).view(K, width, states),
        "D": torch.randn(K, width),
    }


def with_steps(inputs: dict[str, torch.Tensor], steps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return inputs of rank 1 whose steps before softplus are ``steps`` (L,), whatever the token's place in a walk."""
    projections = {}
    for name in (name for name in inputs if name.startswith("projection")):
        blocks = inputs[name].unflatten(-1, (-1, 1 + 2 * inputs["A"].shape[2])).clone()
        blocks[..., 0] = steps[:, None]
        projections[name] = blocks.flatten(-2)
    ones, zeros = torch.ones_like(inputs["dt_weight"]), torch.zeros_like(inputs["dt_bias"])
    return {**inputs, **projections, "dt_weight": ones, "dt_bias": zeros}


def without_memory(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return y of inputs of rank 1 whose states last one step: the sum of (delta <B, C> + D) u over walks."""
    x = {name: tensor.double() for name, tensor in inputs.items()}
    K, N = x["A"].shape[0], x["A"].shape[2]
    S = sum(name.startswith("source") for name in x)
    y = 0
    for k in range(K):
        block = x[f"projection{k % S}"].unflatten(-1, (-1, 1 + 2 * N))[:, :, k // S]
        raw, gate_in, gate_out = block.split([1, N, N], dim=-1)
        delta = torch.nn.functional.softplus(raw @ x["dt_weight"][k].T + x["dt_bias"][k])
        y = y + (delta * (gate_in * gate_out).sum(-1, keepdim=True) + x["D"][k]) * x[f"source{k % S}"]
    return y


def cross(scan_function, inputs, order):
    sources = [x for name, x in inputs.items() if name.startswith("source")]
    projections = [x for name, x in inputs.items() if name.startswith("projection")]
    return scan_function(sources, projections, *(inputs[n] for n in ("dt_weight", "dt_bias", "A", "D")), order)


def with_gradients(function, inputs, dtype, frozen=()):
    """Return the value and the gradient by name of a fixed random functional of the output."""
    leaves = {k: v.to(dtype).clone().requires_grad_(k not in frozen) for k, v in inputs.items()}
    y = function(leaves)
    generator = torch.Generator().manual_seed(7)
    (y * torch.randn(y.shape, generator=generator).to(dtype)).sum().backward()
    # a leaf that cannot matter (A over a single step) may have no gradient instead of a gradient of zero
    zero = {name: torch.zeros_like(leaf) for name, leaf in leaves.items() if name not in frozen}
    return y.detach(), {k: zero.get(k) if leaf.grad is None else leaf.grad for k, leaf in leaves.items()}


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def assert_agrees(function, inputs, order, definition=reference.cross_scan, frozen=()):
    """Assert that ``function`` of the inputs, and its gradients, are those of the definition along ``order``."""
    value, gradients = with_gradients(function, inputs, torch.float32, frozen)
    expected, expected_gradients = with_gradients(lambda x: cross(definition, x, order), inputs, torch.float64)
    assert error(value, expected) < TOLERANCE["values"]
    errors = {n: error(g, expected_gradients[n]) for n, g in gradients.items() if n not in frozen}
    assert max(errors.values()) < TOLERANCE["gradients"], errors
    assert all(gradients[name] is None for name in frozen)
