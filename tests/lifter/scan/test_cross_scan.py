"""Every backend of the scan against the definition, evaluated in float64."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lifter import scan
from lifter.models.layers.bimamba import both_ways
from lifter.scan import cpu
from lifter.scan.fused_ops import gated_norm, grid_conv
from tests.lifter.scan.cases import (
    CHUNK,
    TOLERANCE,
    assert_agrees,
    cross,
    cross_inputs,
    error,
    with_gradients,
    with_steps,
    without_memory,
)

KINDS = ("unit", "powers", "any")  # of decays
RUNNERS = ("reference", "torch", "cpu", "cpu portable", "cpu avx2", "cpu avx512")

# (batch, frames, joints, inner width, rank, states, number of sources); tokens from 1 to 243, around the kernel's chunk
GRIDS = [
    (1, 1, 1, 16, 1, 16, 1),
    (1, 1, 17, 16, 1, 16, 2),
    (2, 4, 16, 32, 2, 16, 2),
    (1, 3, 5, 5, 2, 16, 1),
    (2, 4, 4, 12, 1, 7, 4),
    (1, 5, 13, 20, 3, 7, 1),
    (1, 3, 11, 48, 1, 16, 2),
    (2, 9, 7, 24, 2, 7, 2),
    (1, 8, 17, 16, 4, 16, 4),
    (1, 81, 3, 16, 1, 16, 2),
]


def sweep(shapes: list[tuple]) -> list:
    """Every shape with every kind of decays; slow but for any decays, and for the second shape."""
    return [pytest.param(shape, kind, marks=[] if kind == "any" or shape == shapes[1] else pytest.mark.slow)
            for shape in shapes for kind in KINDS]  # fmt: skip


def run(runner: str):
    """Return ``cross_scan`` with this backend, or that of the compiled scan with this instruction set."""
    backend, _, instructions = runner.partition(" ")
    reason = scan.usable_backends("cpu")[backend]
    if reason is None and instructions and isinstance(cpu.kernel(instructions), str):
        reason = cpu.kernel(instructions)
    if reason:
        pytest.skip(reason)
    return (
        partial(cpu.cross_scan, instructions=instructions)
        if instructions
        else partial(scan.cross_scan, backend=backend)
    )


@pytest.fixture(params=RUNNERS)
def runner(request):
    return run(request.param)


@pytest.fixture(params=[r for r in RUNNERS if r.startswith("cpu")])
def compiled(request):
    return run(request.param)


# ---------------------------------------------------------------------------------------------- against the definition


@pytest.mark.parametrize(("grid", "kind"), sweep(GRIDS), ids=str)
def test_cross_scan_agrees_with_the_definition(runner, grid, kind):
    order = scan.grid_orders(*grid[1:3])
    assert_agrees(lambda x: cross(runner, x, order), cross_inputs(*grid, kind=kind), order)


def test_cross_scan_follows_any_order(runner):
    order = torch.stack([torch.randperm(65, generator=torch.Generator().manual_seed(k)) for k in range(4)])
    assert_agrees(lambda x: cross(runner, x, order), cross_inputs(2, 5, 13, 16, 2, 16, 2), order)


WEIGHTS = ("dt_weight", "dt_bias", "A", "D")


@pytest.mark.parametrize(
    "frozen",
    [("A",), WEIGHTS, tuple(n for n in ("source0", "source1", "projection0", "projection1", *WEIGHTS) if n != "A")],
    ids=["decays", "all weights", "all but decays"],
)
@pytest.mark.parametrize("kind", ["unit", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_frozen_inputs_leave_all_other_gradients_right(runner, kind, frozen):
    order = scan.grid_orders(5, 14)
    assert_agrees(
        lambda x: cross(runner, x, order), cross_inputs(2, 5, 14, 32, 2, 16, 2, kind=kind), order, frozen=frozen
    )


@pytest.mark.parametrize("kind", KINDS)
def test_steps_around_the_softplus_threshold(runner, kind):
    # 15 ... 25: softplus turns into the identity at 20
    inputs = cross_inputs(1, 1, CHUNK + 1, 16, 1, 16, 2, kind=kind)
    inputs = with_steps(inputs, torch.linspace(15, 25, CHUNK + 1))
    inputs["A"] = inputs["A"] / 50  # so that the state lives longer than one step
    order = scan.grid_orders(1, CHUNK + 1)
    assert_agrees(lambda x: cross(runner, x, order), inputs, order)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_decays_to_nothing_in_one_step(runner, kind):
    # exp(-30 * 16) is zero in float32, and nothing may become NaN
    inputs = cross_inputs(1, 1, CHUNK + 1, 16, 1, 16, 2, kind=kind)
    inputs["dt_bias"] = torch.full((4, 16), 300.0)
    order = scan.grid_orders(1, CHUNK + 1)
    value, gradients = with_gradients(lambda x: cross(runner, x, order), inputs, torch.float32)
    assert error(value, without_memory(inputs)) < TOLERANCE["values"]
    assert all(torch.isfinite(g).all() for g in gradients.values())


def test_a_state_that_hardly_decays(runner):
    # steps of exp(-7): after 128 steps the state is a sum of nearly all inputs
    inputs = cross_inputs(1, 8, CHUNK, 16, 1, 16, 2, kind="powers")
    inputs["dt_bias"], inputs["dt_weight"] = torch.full((4, 16), -7.0), inputs["dt_weight"] / 10
    order = scan.grid_orders(8, CHUNK)
    assert_agrees(lambda x: cross(runner, x, order), inputs, order)


def test_known_answer_of_three_steps(runner):
    # one walk, one channel, one state: h = 2^-delta h + delta u B, y = C h + D u, by hand with delta = 1
    inputs = {
        "source0": torch.tensor([[[1.0], [2.0], [4.0]]]),
        "projection0": torch.tensor([[[0.0, 1.0, 1.0], [0.0, 1.0, 10.0], [0.0, 0.5, 100.0]]]),  # step, B, C
        "dt_weight": torch.ones(1, 1, 1), "dt_bias": torch.tensor([[math.log(math.e - 1)]]),  # softplus of it is 1
        "A": torch.tensor([[[-math.log(2)]]]), "D": torch.tensor([[0.5]]),
    }  # fmt: skip
    y = cross(runner, inputs, torch.arange(3)[None])
    # h = 1, 2.5, 3.25
    assert y.flatten().tolist() == pytest.approx([1.5, 26.0, 327.0], rel=1e-6)  # a few roundings of float32


def test_grid_orders_known_answer():
    assert scan.grid_orders(2, 3).tolist() == [
        [0, 1, 2, 3, 4, 5],  # frame by frame
        [0, 3, 1, 4, 2, 5],  # joint by joint
        [5, 4, 3, 2, 1, 0],
        [5, 2, 4, 1, 3, 0],
    ]


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu"])
def test_orders_made_during_inference_serve_training(backend):
    function = run(backend)
    scan.grid_orders.cache_clear()
    both_ways.cache_clear()
    inputs = cross_inputs(1, 3, 5, 16, 1, 16, 2)
    with torch.inference_mode():
        cross(function, inputs, scan.grid_orders(3, 5))
        assert not both_ways(5).is_inference()
    _, gradients = with_gradients(lambda x: cross(function, x, scan.grid_orders(3, 5)), inputs, torch.float32)
    assert all(torch.isfinite(g).all() for g in gradients.values())


# ---------------------------------------------------------------------------------------------- independence


def test_a_sample_depends_on_nothing_but_itself(runner):
    order = scan.grid_orders(5, 14)
    inputs = cross_inputs(3, 5, 14, 32, 2, 16, 2)
    copies = {k: v.clone() for k, v in inputs.items()}
    together = cross(runner, inputs, order)
    assert all(torch.equal(inputs[k], copies[k]) for k in inputs)
    alone = {k: v[1:2] if k.startswith(("source", "projection")) else v for k, v in inputs.items()}
    strided = {k: v.transpose(0, -1).contiguous().transpose(0, -1) for k, v in inputs.items()}
    # PyTorch may sum in another order for another batch size or strided memory; the compiled scan may not
    allowed = 0 if runner.func is cpu.cross_scan or runner.keywords["backend"] == "cpu" else 1e-6
    assert error(together[1:2], cross(runner, alone, order).double()) <= allowed
    assert error(together, cross(runner, strided, order).double()) <= allowed


def test_the_number_of_threads_changes_nothing(compiled, threads):
    order = scan.grid_orders(5, 14)
    inputs = cross_inputs(3, 5, 14, 48, 2, 16, 2)
    answers = []
    for count in (1, 2, 5):
        threads(count)
        answers.append(with_gradients(lambda x: cross(compiled, x, order), inputs, torch.float32))
    for value, gradients in answers[1:]:
        assert torch.equal(value, answers[0][0])
        assert all(torch.equal(gradients[name], answers[0][1][name]) for name in gradients)


# ---------------------------------------------------------------------------------------------- choice, refusals


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
    inputs = {k: v.to("meta") for k, v in cross_inputs(1, 1, 3, 16, 1, 16, 2).items()}
    with pytest.raises(RuntimeError, match="runs on the CPU only, not on meta"):
        cross(partial(scan.cross_scan, backend="cpu"), inputs, scan.grid_orders(1, 3))


def test_an_unknown_backend_is_named_with_the_known_ones():
    known = f"auto, {', '.join(scan.BACKENDS)}"
    with pytest.raises(ValueError, match=f"unknown scan backend 'gpu'; choose one of {known}"):
        scan.resolve_backend("gpu", "cpu")


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


def test_more_states_than_the_compiled_scan_holds_are_for_the_loop(compiled):
    inputs, order = cross_inputs(1, 1, 3, 16, 1, 33, 2), scan.grid_orders(1, 3)
    with pytest.raises(ValueError, match="at most 16 states, got 33; use backend='torch'"):
        cross(compiled, inputs, order)
    assert_agrees(lambda x: cross(partial(scan.cross_scan, backend="torch"), x, order), inputs, order)


def test_the_lengths_above_go_around_the_kernels_chunk(compiled):
    assert cpu.library(compiled.keywords.get("instructions")).scan_chunk() == CHUNK


# ---------------------------------------------------------------------------------------------- fused operations


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
