"""Every backend of the scan against the definition, evaluated in float64."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lifter import scan
from lifter.scan import cpu, reference
from lifter.scan.fused_ops import gated_norm, grid_conv

CHUNK = 16  # steps between two checkpoints of the compiled kernel; the lengths below go around it

# Largest difference to the float64 definition over its largest absolute value. Measured on the cases of this file,
# worst over backends and instruction sets: values 5e-7, gradients 1.5e-5 (sums over up to 512 steps; the compiled
# kernel's exponentials are good to 1.1e-7 and their 16th power to 2e-6). A wrong term is off by 1e-2 and more.
TOLERANCE = {"values": 1e-5, "gradients": 5e-5}

KINDS = ("unit", "powers", "any")  # of decays
RUNNERS = ("reference", "torch", "cpu", "cpu portable", "cpu avx2", "cpu avx512")

# (batch, channels, groups, states, length)
SHAPES = [
    (1, 16, 1, 16, 1),
    (2, 16, 1, 7, 2),
    (2, 20, 2, 16, CHUNK - 1),
    (2, 32, 4, 16, CHUNK),
    (1, 12, 4, 7, CHUNK),
    (2, 20, 2, 7, CHUNK + 1),
    (1, 48, 1, 16, 2 * CHUNK + 1),
    (2, 5, 1, 16, 2 * CHUNK),
    (1, 16, 2, 16, 243),
]
# (batch, frames, joints, inner width, rank, states, number of sources)
GRIDS = [
    (1, 1, 17, 16, 1, 16, 2),
    (2, 4, 16, 32, 2, 16, 2),
    (1, 5, 13, 20, 3, 7, 1),
    (2, 9, 7, 24, 2, 7, 2),
    (1, 8, 17, 16, 4, 16, 4),
]


def sweep(shapes: list[tuple]) -> list:
    """Every shape with every kind of decays; slow but for any decays, and for the second shape."""
    return [pytest.param(shape, kind, marks=[] if kind == "any" or shape == shapes[1] else pytest.mark.slow)
            for shape in shapes for kind in KINDS]  # fmt: skip


def run(runner: str, name: str):
    """Return function ``name`` of the door with this backend, or of the compiled scan with this instruction set."""
    backend, _, instructions = runner.partition(" ")
    reason = scan.usable_backends("cpu")[backend]
    if reason is None and instructions and isinstance(cpu.kernel(instructions), str):
        reason = cpu.kernel(instructions)
    if reason:
        pytest.skip(reason)
    if instructions:
        return partial(getattr(cpu, name), instructions=instructions)
    return partial(getattr(scan, name), backend=backend)


def call(function, inputs, softplus=True):
    """Return the one-dimensional scan of ``inputs`` by a function from ``run``."""
    return (door if "backend" in function.keywords else selective)(function, inputs, softplus)


@pytest.fixture(params=RUNNERS)
def runner(request) -> str:
    return request.param


@pytest.fixture(params=[r for r in RUNNERS if r.startswith("cpu")])
def compiled(request) -> str:
    return request.param


def decays(channels: int, states: int, kind: str) -> torch.Tensor:
    """Return A: "unit" -(1 ... N), "powers" a number per channel times that, or "any"; two have short cuts."""
    A = -torch.arange(1, states + 1).float().expand(channels, states)
    if kind == "unit":
        return A.clone()
    A = A * (0.5 + torch.rand(channels, 1))
    return A if kind == "powers" else A * (1 + 0.1 * torch.randn(channels, states))


def selective_inputs(batch, channels, groups, states, length, *, kind="any", seed=0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "u": torch.randn(batch, channels, length),
        "delta": torch.randn(batch, channels, length),
        "A": decays(channels, states, kind),
        "B": torch.randn(batch, groups, states, length),
        "C": torch.randn(batch, groups, states, length),
        "D": torch.randn(channels),
        "delta_bias": torch.randn(channels) - 2,  # steps of about 0.1 behind the softplus
    }


def selective(scan_function, inputs, softplus=True):
    return scan_function(*inputs.values(), softplus)


def door(scan_function, inputs, softplus=True):
    positional = [inputs[name] for name in ("u", "delta", "A", "B", "C", "D")]
    return scan_function(*positional, delta_bias=inputs.get("delta_bias"), delta_softplus=softplus)


def cross_inputs(batch, frames, joints, width, rank, states, num_sources, *, num_walks=4, kind="any", seed=0):
    torch.manual_seed(seed)
    K, L = num_walks, frames * joints
    block = rank + 2 * states
    return {
        **{f"source{s}": torch.randn(batch, L, width) for s in range(num_sources)},
        **{f"projection{s}": torch.randn(batch, L, K // num_sources * block) for s in range(num_sources)},
        "dt_weight": torch.randn(K, width, rank) / math.sqrt(rank),
        "dt_bias": torch.randn(K, width) - 2,
        "A": decays(K * width, states, kind).view(K, width, states),
        "D": torch.randn(K, width),
    }


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


def assert_agrees(function, definition, inputs, frozen=()):
    value, gradients = with_gradients(function, inputs, torch.float32, frozen)
    expected, expected_gradients = with_gradients(definition, inputs, torch.float64)
    assert error(value, expected) < TOLERANCE["values"]
    errors = {n: error(g, expected_gradients[n]) for n, g in gradients.items() if n not in frozen}
    assert max(errors.values()) < TOLERANCE["gradients"], errors
    assert all(gradients[name] is None for name in frozen)


# ---------------------------------------------------------------------------------------------- one-dimensional


@pytest.mark.parametrize(("shape", "kind"), sweep(SHAPES), ids=str)
def test_selective_scan_agrees_with_the_definition(runner, shape, kind):
    function = run(runner, "selective_scan")
    assert_agrees(
        lambda x: call(function, x),
        lambda x: selective(reference.selective_scan, x),
        selective_inputs(*shape, kind=kind),
    )


def test_steps_are_used_as_they_are_without_softplus(runner):
    function = run(runner, "selective_scan")
    inputs = selective_inputs(2, 16, 2, 16, CHUNK + 1)
    inputs["delta"], inputs["delta_bias"] = inputs["delta"].abs() / 10, inputs["delta_bias"].abs() / 100
    assert_agrees(
        lambda x: call(function, x, softplus=False),
        lambda x: selective(reference.selective_scan, x, softplus=False),
        inputs,
    )


@pytest.mark.parametrize("backend", scan.BACKENDS)
def test_no_step_bias_is_a_bias_of_zero(backend):
    function = run(backend, "selective_scan")
    inputs = selective_inputs(1, 16, 1, 16, 9)
    without = {k: v for k, v in inputs.items() if k != "delta_bias"}
    with_zero = {**inputs, "delta_bias": torch.zeros(16)}
    assert torch.equal(door(function, without), door(function, with_zero))


@pytest.mark.parametrize("kind", KINDS)
def test_steps_around_the_softplus_threshold(runner, kind):
    # 15 ... 25: softplus turns into the identity at 20
    function = run(runner, "selective_scan")
    inputs = selective_inputs(1, 16, 1, 16, CHUNK + 1, kind=kind)
    inputs["delta"] = torch.linspace(15, 25, CHUNK + 1).expand(1, 16, -1).clone()
    inputs["delta_bias"] = torch.zeros(16)
    inputs["A"] = inputs["A"] / 50  # so that the state lives longer than one step
    assert_agrees(lambda x: call(function, x), lambda x: selective(reference.selective_scan, x), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_decays_to_nothing_in_one_step(runner, kind):
    # exp(-30 * 16) is zero in float32; nothing may become NaN, and y_l = (delta_l <B_l, C_l> + D) u_l remains
    function = run(runner, "selective_scan")
    inputs = selective_inputs(1, 16, 1, 16, CHUNK + 1, kind=kind)
    inputs["delta_bias"] = torch.full((16,), 300.0)
    value, gradients = with_gradients(lambda x: call(function, x), inputs, torch.float32)
    x = {k: v.double() for k, v in inputs.items()}
    gates = (x["B"] * x["C"]).sum(2)  # (B, 1, L)
    expected = ((x["delta"] + 300) * gates + x["D"][:, None]) * x["u"]
    assert error(value, expected) < TOLERANCE["values"]
    assert all(torch.isfinite(g).all() for g in gradients.values())


def test_a_state_that_hardly_decays(runner):
    # steps of exp(-7): after 512 steps the state is a sum of nearly all inputs
    function = run(runner, "selective_scan")
    inputs = selective_inputs(1, 16, 1, 16, 8 * CHUNK, kind="powers")
    inputs["delta_bias"] = torch.full((16,), -7.0)
    inputs["delta"] = inputs["delta"] / 10
    assert_agrees(lambda x: call(function, x), lambda x: selective(reference.selective_scan, x), inputs)


def test_known_answer_of_three_steps(runner):
    # one channel, one state: h = 2^-delta h + delta u B, y = C h + D u, by hand with delta = 1
    function = run(runner, "selective_scan")
    ones = torch.ones(1, 1, 3)
    inputs = {
        "u": torch.tensor([[[1.0, 2.0, 4.0]]]), "delta": ones, "A": torch.tensor([[-math.log(2)]]),
        "B": torch.tensor([[[[1.0, 1.0, 0.5]]]]), "C": torch.tensor([[[[1.0, 10.0, 100.0]]]]),
        "D": torch.tensor([0.5]), "delta_bias": torch.zeros(1),
    }  # fmt: skip
    y = call(function, inputs, softplus=False)
    # h = 1, 2.5, 3.25
    assert y.flatten().tolist() == pytest.approx([1.5, 26.0, 327.0], rel=1e-6)  # a few roundings of float32


# ---------------------------------------------------------------------------------------------- over the token grid


@pytest.mark.parametrize(("grid", "kind"), sweep(GRIDS), ids=str)
def test_cross_scan_agrees_with_the_definition(runner, grid, kind):
    function = run(runner, "cross_scan")
    order = scan.grid_orders(*grid[1:3])
    assert_agrees(
        lambda x: cross(function, x, order),
        lambda x: cross(reference.cross_scan, x, order),
        cross_inputs(*grid, kind=kind),
    )


def test_cross_scan_follows_any_order(runner):
    function = run(runner, "cross_scan")
    inputs = cross_inputs(2, 5, 13, 16, 2, 16, 2)
    order = torch.stack([torch.randperm(65, generator=torch.Generator().manual_seed(k)) for k in range(4)])
    assert_agrees(lambda x: cross(function, x, order), lambda x: cross(reference.cross_scan, x, order), inputs)


WEIGHTS = ("dt_weight", "dt_bias", "A", "D")


@pytest.mark.parametrize(
    "frozen",
    [("A",), WEIGHTS, tuple(n for n in ("source0", "source1", "projection0", "projection1", *WEIGHTS) if n != "A")],
    ids=["decays", "all weights", "all but decays"],
)
@pytest.mark.parametrize("kind", ["unit", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_frozen_inputs_leave_all_other_gradients_right(runner, kind, frozen):
    function = run(runner, "cross_scan")
    inputs = cross_inputs(2, 5, 14, 32, 2, 16, 2, kind=kind)
    order = scan.grid_orders(5, 14)
    assert_agrees(
        lambda x: cross(function, x, order), lambda x: cross(reference.cross_scan, x, order), inputs, frozen=frozen
    )


def test_grid_orders_known_answer():
    assert scan.grid_orders(2, 3).tolist() == [
        [0, 1, 2, 3, 4, 5],  # frame by frame
        [0, 3, 1, 4, 2, 5],  # joint by joint
        [5, 4, 3, 2, 1, 0],
        [5, 2, 4, 1, 3, 0],
    ]


@pytest.mark.parametrize("backend", scan.BACKENDS)
def test_orders_made_during_inference_serve_training(backend):
    function = run(backend, "cross_scan")
    scan.grid_orders.cache_clear()
    inputs = cross_inputs(1, 3, 5, 16, 1, 16, 2)
    with torch.inference_mode():
        cross(function, inputs, scan.grid_orders(3, 5))
    _, gradients = with_gradients(lambda x: cross(function, x, scan.grid_orders(3, 5)), inputs, torch.float32)
    assert all(torch.isfinite(g).all() for g in gradients.values())


# ---------------------------------------------------------------------------------------------- independence


def test_a_sample_does_not_depend_on_its_batch(runner):
    function = run(runner, "cross_scan")
    order = scan.grid_orders(5, 14)
    inputs = cross_inputs(3, 5, 14, 32, 2, 16, 2)
    together = cross(function, inputs, order)
    alone = cross(
        function, {k: v[1:2] if k.startswith(("source", "projection")) else v for k, v in inputs.items()}, order
    )
    # PyTorch's matrix products may round differently for another batch size; the compiled scan may not
    assert error(together[1:2], alone.double()) <= (0 if runner.startswith("cpu") else 1e-6)


def test_the_number_of_threads_changes_nothing(compiled, threads):
    function = run(compiled, "cross_scan")
    order = scan.grid_orders(5, 14)
    inputs = cross_inputs(3, 5, 14, 48, 2, 16, 2)
    answers = []
    for count in (1, 2, 5):
        threads(count)
        answers.append(with_gradients(lambda x: cross(function, x, order), inputs, torch.float32))
    for value, gradients in answers[1:]:
        assert torch.equal(value, answers[0][0])
        assert all(torch.equal(gradients[name], answers[0][1][name]) for name in gradients)


def test_inputs_are_left_as_they_were(runner):
    function = run(runner, "selective_scan")
    inputs = selective_inputs(2, 20, 2, 16, 70)
    copies = {k: v.clone() for k, v in inputs.items()}
    call(function, inputs)
    assert all(torch.equal(inputs[k], copies[k]) for k in inputs)


def test_strided_inputs_give_the_same(runner):
    function = run(runner, "selective_scan")
    inputs = selective_inputs(2, 20, 2, 16, 70)
    strided = {k: v.transpose(0, -1).contiguous().transpose(0, -1) for k, v in inputs.items()}
    # sums over strided memory may be taken in another order; the compiled scan copies first
    assert error(call(function, strided), call(function, inputs).double()) <= (0 if runner.startswith("cpu") else 1e-6)


# ---------------------------------------------------------------------------------------------- the door


def test_a_missing_kernel_is_no_secret(monkeypatch, caplog):
    absent = SimpleNamespace(why_not=lambda device: "no compiled kernel: its sources have changed")
    monkeypatch.setitem(scan.BACKENDS, "cpu", absent)
    scan._first_usable.cache_clear()
    assert scan.resolve_backend("auto", "cpu") == "torch"
    scan._first_usable.cache_clear()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.endswith("many times slower: no compiled kernel: its sources have changed")


def test_auto_takes_the_first_usable_backend():
    usable = [name for name in scan.AUTO_ORDER["cpu"] if scan.usable_backends("cpu")[name] is None]
    assert scan.resolve_backend("auto", "cpu") == usable[0]


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_the_compiled_scan_says_that_it_runs_on_the_cpu_only(device):
    assert scan.usable_backends(device)["cpu"] == f"runs on the CPU only, not on {device}"
    assert scan.resolve_backend("auto", device) != "cpu"
    with pytest.raises(RuntimeError, match=f"'cpu' cannot run on {device}: runs on the CPU only.*backend='auto'"):
        scan.resolve_backend("cpu", device)


def test_a_call_with_an_unusable_backend_raises_its_reason():
    inputs = {k: v.to("meta") for k, v in selective_inputs(1, 16, 1, 16, 3).items()}
    with pytest.raises(RuntimeError, match="runs on the CPU only, not on meta"):
        door(partial(scan.selective_scan, backend="cpu"), inputs)


def test_an_unknown_backend_is_named_with_the_known_ones():
    known = "auto, cpu, triton, mamba_ssm, torch, reference"
    with pytest.raises(ValueError, match=f"unknown scan backend 'gpu'; choose one of {known}"):
        scan.resolve_backend("gpu", "cpu")


@pytest.mark.parametrize("name", ["delta", "A", "B", "C", "D", "delta_bias"])
def test_a_wrong_shape_is_named(name):
    inputs = selective_inputs(2, 16, 2, 16, 5)
    inputs[name] = torch.cat([inputs[name], inputs[name]])
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        door(scan.selective_scan, inputs)


def test_channels_must_divide_into_groups():
    with pytest.raises(ValueError, match="16 channels cannot be shared by 3 groups"):
        door(scan.selective_scan, selective_inputs(1, 16, 3, 16, 5))


@pytest.mark.parametrize(
    ("name", "text"),
    [("source1", "sources and projections must have"), ("projection0", "sources and projections must have"),
     ("dt_bias", "dt_bias must have shape"), ("A", "A must have shape"), ("D", "D must have shape"),
     ("order", r"order must have shape \(4, 6\), got \(4, 5\)")],
)  # fmt: skip
def test_wrong_shapes_of_walks_are_named(name, text):
    inputs = {**cross_inputs(1, 2, 3, 16, 1, 16, 2), "order": scan.grid_orders(2, 3)}
    inputs[name] = inputs[name][:, :-1]
    with pytest.raises(ValueError, match=text):
        cross(scan.cross_scan, inputs, inputs["order"])


def test_more_states_than_the_compiled_scan_holds(compiled):
    function = run(compiled, "selective_scan")
    with pytest.raises(ValueError, match="at most 16 states, got 17; use backend='torch'"):
        call(function, selective_inputs(1, 16, 1, 17, 3))


# batch, frames, joints, channels: borders on every side, fewer frames than the kernel is wide, more rows than parts
@pytest.mark.parametrize("grid", [(1, 1, 17, 16), (2, 2, 17, 32), (3, 9, 17, 128), (1, 5, 1, 48)], ids=str)
@pytest.mark.parametrize("instructions", ["portable", "avx2", "avx512"])
def test_fused_operations_agree_with_pytorch(grid, instructions, monkeypatch):
    if isinstance(reason := cpu.kernel(instructions), str):
        pytest.skip(reason)
    monkeypatch.setattr(cpu, "best_kernel", lambda: instructions)
    torch.manual_seed(0)
    *_, E = grid
    wide = torch.randn(*grid[:3], 2 * E)
    wide[..., 0] = 100.0  # an exponential of it would overflow
    wide[..., 1] = -100.0
    inputs = (wide, torch.randn(E, 1, 3, 3), *torch.randn(3, E))

    def results(backend, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        u, z = leaves[0].chunk(2, dim=-1)  # every other half row is the other's
        y = grid_conv(u, leaves[1], leaves[2], backend)
        out = gated_norm(y, z, leaves[3], leaves[4], 1e-5, backend)
        return [y.detach(), out.detach(), *torch.autograd.grad((out * weights.to(dtype)).sum(), leaves)]

    weights = torch.randn(grid)
    for found, expected in zip(results("cpu", torch.float32), results("torch", torch.float64), strict=True):
        assert (found - expected).abs().max() < TOLERANCE["values"] * expected.abs().max()


def test_the_loop_takes_any_number_of_states():
    assert_agrees(
        lambda x: door(partial(scan.selective_scan, backend="torch"), x),
        lambda x: selective(reference.selective_scan, x),
        selective_inputs(1, 16, 1, 33, 9),
    )


def test_the_lengths_above_go_around_the_kernels_chunk(compiled):
    run(compiled, "selective_scan")
    name = compiled.partition(" ")[2] or cpu.best_kernel()
    assert cpu.kernel(name).scan_chunk() == CHUNK
