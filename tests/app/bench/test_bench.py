"""The benchmarks on tiny networks and on the CPU: what a rented GPU runs is run here first."""

import math
import types
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from app.bench import comparison, cpu, exactness, floor, gpu, measure, throughput, training
from app.bench.measure import Stopwatch, backends, machine, median_seconds, milliseconds, rate, ratio
from app.bench.throughput import Throughput
from app.bench.training import Shape
from app.cli.main import cli
from lifter import LIFTERS, LifterSpec, complexity, create_model
from lifter.lift import Sequence2D
from lifter.models import motionagformer, posemamba
from lifter.models.posemamba import LARGE, NUM_JOINTS, SMALL, PoseMamba, PoseMambaConfig
from lifter.scan import BACKENDS
from lifter.training.train import save_weights

CPU = torch.device("cpu")
WINDOW = 4


@pytest.fixture
def tiny(monkeypatch) -> str:
    """The name of a registered network of width 16 and one pair of blocks for windows of 4 frames."""
    monkeypatch.setattr(posemamba, "TINY", PoseMambaConfig(width=16, depth=1, window=WINDOW), raising=False)
    monkeypatch.setitem(LIFTERS, "tiny", LifterSpec("lifter.models.posemamba", "TINY", WINDOW, "for tests"))
    return "tiny"


@pytest.fixture
def short_weights(tiny, recipe, tmp_path) -> Path:
    """A weights file of the network ``tiny``."""
    model = create_model(tiny)
    path = tmp_path / "tiny.safetensors"
    save_weights(recipe.fill(model.state_dict(), 0), {"normalization": "person", "unit": "m"}, path)
    return path


@pytest.fixture
def short_sequence() -> Sequence2D:
    """Nine frames of the sample clip, by its own reader."""
    whole = exactness.sample_sequence()
    return Sequence2D(whole.keypoints[:9], whole.timestamps_s[:9], whole.width, whole.height)


def cells(table) -> list[list[str]]:
    return [[str(cell) for cell in column.cells] for column in table.columns]


def run_everything(device: torch.device, tiny: str, sequence: Sequence2D, weights) -> list:
    plan = gpu.Plan(
        lifters=(tiny,), batches=(1, 3), trained=str(weights), training=(Shape(2, 4), Shape(3, 2, False)),
        training_lifter=tiny, copy_bytes=1 << 20,
    )  # fmt: skip
    lines = []
    tables = list(gpu.tables(plan, sequence, Stopwatch(device, lines.append, budget_s=0.05)))
    assert lines[0] == machine(device)
    assert not [line for line in lines if "failed" in line]
    return tables


def check_everything(tables, device):
    forward, memory, steps, precisions = tables
    assert {name.split()[0] for name in cells(forward)[0]} == set(backends(device))
    assert all(float(difference) < 1e-4 for difference in cells(forward)[2])  # all agree with the definition
    assert all(float(row) > 0 for row in cells(forward)[3])  # ms at batch 1, even of the definition
    assert cells(memory)[0] == ["1", "3"]
    assert all(float(number) > 0 for column in cells(memory)[2:] for number in column)
    assert "left out" in cells(steps)[3]
    assert cells(precisions)[0] == ["fp32", "tf32", "bf16"]
    exact, _, coarse = map(float, cells(precisions)[1])
    assert exact < 1 < coarse  # mm: float32 rounding, and 8 bits of mantissa through a network that amplifies


def test_the_gpu_run_works_from_end_to_end_on_the_cpu(tiny, short_sequence, short_weights):
    check_everything(run_everything(CPU, tiny, short_sequence, short_weights), CPU)


@pytest.mark.requires_cuda
def test_the_gpu_run_works_on_a_gpu(tiny, short_sequence, short_weights):
    device = torch.device("cuda")
    tables = run_everything(device, tiny, short_sequence, short_weights)
    check_everything(tables, device)
    assert "graph" in cells(tables[0])[1]


def test_the_cpu_run_keeps_its_threads_to_itself(tiny, threads, monkeypatch):
    threads(2)
    monkeypatch.setattr(cpu, "TRAINING", Shape(1, 3))  # the tiny network holds no 81 frames
    forward, steps = cpu.tables([tiny], 1, True, lambda line: None)
    assert torch.get_num_threads() == 2
    assert set(cells(forward)[1]) == {str(WINDOW)}
    assert {name.split()[0] for name in cells(forward)[2]} <= {"reference", "torch", "cpu"}
    assert cells(forward)[6][0] == "1.0"  # the plain loop against itself
    assert set(cells(steps)[0]) == {"3"}


# ---------------------------------------------------------------------------------------------- measuring


def test_the_median_is_taken_of_what_the_budget_allows():
    calls, seconds = [], iter([3.0, 1.0, 2.0, 9.0])

    def clock(work):
        work()
        return next(seconds)

    assert median_seconds(lambda: calls.append(1), clock, repeats=3, budget_s=100) == 2.0
    assert len(calls) == 4  # one to warm up
    assert median_seconds(lambda: calls.append(1), clock, repeats=9, budget_s=5) == 9.0  # enough after one
    with pytest.raises(StopIteration):
        median_seconds(lambda: None, clock, repeats=1, budget_s=1)


def test_what_needs_too_much_memory_is_no_failure():
    def greedy():
        raise torch.OutOfMemoryError("no room")

    lines = []
    watch = Stopwatch(CPU, lines.append)
    assert watch.seconds("a", lambda: greedy) == "out of memory"
    assert lines == ["a: out of memory"]
    assert not watch.failures


def test_what_breaks_is_named_at_the_end_and_costs_nothing_else(tiny, short_sequence, short_weights, monkeypatch):
    broken = types.ModuleType("broken_scan")
    broken.why_not = lambda device: None

    def breaks(*_):
        raise RuntimeError("illegal\n memory access")

    broken.cross_scan = breaks
    monkeypatch.setitem(BACKENDS, "broken", broken)
    plan = gpu.Plan((tiny,), (1,), str(short_weights), (Shape(1, 2),), tiny, 1 << 10)
    tables = gpu.tables(plan, short_sequence, Stopwatch(CPU, budget_s=0.01))
    forward, _, steps, precisions = (next(tables) for _ in range(4))
    assert "failed" in cells(forward)[3]
    assert "failed" in cells(steps)[3]
    assert len(cells(precisions)[0]) == 3
    with pytest.raises(RuntimeError, match=r"not everything .*: tiny, broken, eager, batch 1: illegal memory access;"):
        next(tables)


def test_words_pass_through_where_numbers_are_missing():
    assert rate(8, "out of memory") == milliseconds("out of memory") == "out of memory"
    assert ratio("failed", 1.0) == ratio(1.0, "-") == "-"
    assert (rate(8, 0.002), milliseconds(0.002), ratio(3.0, 2.0)) == ("4000", "2", "1.5")


# ---------------------------------------------------------------------------------------------- tables from figures


def figures(lifter: str) -> Throughput:
    seconds = {
        ("reference", "eager", 1): 3.0,
        ("triton", "eager", 1): 0.008,
        ("triton", "eager", 64): 0.064,
        ("triton", "graph", 1): 0.002,
        ("triton", "graph", 64): 0.05,
        ("mamba_ssm", "graph", 1): 0.007,
        ("mamba_ssm", "graph", 64): "out of memory",
    }
    return Throughput(lifter, seconds, {("reference", "eager"): 0.0, ("triton", "graph"): 2e-6})


def test_figures_stand_beside_the_aims():
    assert throughput.targets(figures("posemamba-s"), (1, 64)) == [
        "one window: 2 ms (triton, graph); aim: 5 ms",
        "triton over mamba_ssm, windows/s, graph, batch 1, 64: 3.5, -",
    ]
    assert throughput.targets(figures("posemamba-l"), (1, 64)) == [
        "triton over mamba_ssm, windows/s, graph, batch 1, 64: 3.5, -; aim: 3"
    ]


def test_what_was_not_measured_says_why():
    table = throughput.table(figures("posemamba-s"), (1, 64), {"triton": None, "cpu": "runs on the CPU only"}, "a GPU")
    rows = list(zip(*cells(table), strict=True))
    assert rows[0] == ("reference", "eager", "0.0e+00", "3000", "-", "0.3333", "-")
    assert rows[3] == ("mamba_ssm", "graph", "-", "7", "out of memory", "142.9", "out of memory")
    assert str(table.caption).splitlines()[-1] == "cpu: runs on the CPU only"


def test_the_least_traffic_is_that_of_the_tensors():
    # PoseMamba-S per token: sources 2 x 128, projections 4 x (4 + 32), output 128 floats
    tokens = 243 * NUM_JOINTS
    assert floor.scan_bytes(SMALL, tokens) == 4 * tokens * (256 + 144 + 128)
    for config in (SMALL, LARGE):
        parameters = sum(p.numel() for p in PoseMamba(config).parameters())
        d = config.width
        rows = [d + 4 * d, 6 * d, 4 * d + 4 * (d // 16 + 32), 6 * d + 4 * (d // 16 + 32), 6 * d, 3 * d, 4 * d]
        expected = 4 * (2 * config.depth * tokens * sum(rows) + parameters)
        assert floor.network_bytes(config, tokens, parameters) == expected


def test_a_training_step_reaches_every_weight_that_learns(tiny):
    gradients = training.training_step(tiny, "torch", Shape(2, 3), CPU)()
    assert len(gradients) == len([k for k, _ in posemamba.build(PoseMambaConfig(16, 1)).named_parameters()]) - 2
    assert all(bool(g.isfinite().all()) for g in gradients)


# ---------------------------------------------------------------------------------------------- all lifters


@pytest.fixture
def small_attention(monkeypatch) -> str:
    """The name of a registered network without a scan, for windows of exactly 4 frames."""
    config = motionagformer.MotionAGFormerConfig(width=16, depth=1, window=WINDOW)
    monkeypatch.setattr(motionagformer, "TINY", config, raising=False)
    spec = LifterSpec("lifter.models.motionagformer", "TINY", WINDOW, "for tests", 3)
    monkeypatch.setitem(LIFTERS, "tiny-attention", spec)
    return "tiny-attention"


def test_all_lifters_stand_in_one_table(tiny, small_attention):
    lines = []
    names, windows, parameters, macs, times, rates, gains, errors, jitters = cells(
        comparison.table([tiny, small_attention], "torch", Stopwatch(CPU, lines.append, budget_s=0.01))
    )
    assert names == [tiny, small_attention]
    assert windows == ["4", "4"]
    assert parameters[0] == f"{sum(p.numel() for p in create_model(tiny).parameters()):,}"
    assert all(float(number) > 0 for number in (*macs, *times, *rates, gains[0]))
    assert gains[1] == "-"  # nothing is scanned
    assert errors == jitters == ["-", "-"]  # nothing is trained
    assert lines[0].startswith(f"{tiny}, 60 windows: ")  # about 243 frames at once, whatever the window


def test_products_and_scans_are_counted_by_their_definition():
    # PoseMamba, per token and block: in_proj, convolution, projections, scans, out_proj and two linear layers
    for config in (PoseMambaConfig(16, 1), SMALL):
        d, inner, rank = config.width, 2 * config.width, math.ceil(config.width / 16)
        scans = 4 * inner * (rank + 4 * 16 + 2)
        block = d * 2 * inner + 9 * inner + 4 * inner * (rank + 32) + scans + inner * d + 2 * d * 2 * d
        expected = NUM_JOINTS * (2 * d + 2 * config.depth * block + d * 3)
        assert macs_per_frame_of(config) == expected
    assert complexity.macs_per_frame("posemamba-s") == expected


def macs_per_frame_of(config: PoseMambaConfig) -> float:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posemamba, "COUNTED", config, raising=False)
        patch.setitem(LIFTERS, "counted", LifterSpec("lifter.models.posemamba", "COUNTED", config.window, "for tests"))
        return complexity.macs_per_frame("counted")


def test_attention_and_graphs_are_counted_by_their_definition(small_attention):
    d, frames, joints = 16, WINDOW, NUM_JOINTS
    mlp = 2 * d * 4 * d
    attention = 3 * d * d + d * d
    graph = 2 * d * d
    tokens = frames * joints
    products = 2 * d * (tokens * joints + tokens * frames)  # scores and their use, over joints and over frames
    adjacency = d * (tokens * joints + tokens * frames)
    similarity = d * tokens * frames
    block = tokens * (4 * mlp + 2 * attention + 2 * graph + 2 * 2 * d) + products + adjacency + similarity
    expected = tokens * (3 * d + d * 512 + 512 * 3) + block
    assert complexity.macs_per_frame(small_attention) * frames == expected


def test_counting_leaves_no_backend_behind():
    before = dict(BACKENDS)
    complexity.macs_per_frame("posemamba-s")
    assert before == BACKENDS


def test_in_a_model_for_timing_a_wrong_scan_would_show():
    model, inputs = measure.random_model("hgmamba-xs"), measure.random_inputs("hgmamba-xs", 1)
    assert float(inputs[..., 2].min()) >= 0
    right = model(inputs)
    for layer in model.layers:
        layer.mamba_spatial.mixer.forward_backward_mamba.D.zero_()
    assert float((model(inputs) - right).abs().max()) > 1e-3  # backends that agree differ by less than 1e-5


@pytest.mark.parametrize("name", ["hgmamba-xs", "posemamba-s"])
def test_training_is_timed_on_windows_that_the_network_takes(name):
    shape = training.fitted(name, Shape(1, 81))
    assert shape == {"hgmamba-xs": Shape(3, 27), "posemamba-s": Shape(1, 81)}[name]


def test_a_training_step_of_a_graph_network_reaches_every_weight_that_learns():
    gradients = training.training_step("hgmamba-xs", "cpu", Shape(1, 27), CPU)()
    assert len(gradients) > 500
    assert all(bool(g.isfinite().all()) for g in gradients)


# ---------------------------------------------------------------------------------------------- the command


def test_a_gpu_that_is_not_there_is_wrong_usage():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    answer = CliRunner().invoke(cli, ["bench", "lifter", "--device", "cuda"])
    assert answer.exit_code == 2
    assert answer.stderr == "error: device 'cuda' was asked for, but torch sees no CUDA device\n"
    assert answer.stdout == ""


def test_the_table_of_all_lifters_is_a_command(tiny, small_attention, threads):
    threads(2)
    answer = CliRunner().invoke(cli, ["bench", "lifter", tiny, small_attention, "--all", "--no-reference"])
    assert answer.exit_code == 0, answer.output
    assert "x plain scan (torch)" in " ".join(answer.stdout.split())
    assert tiny in answer.stdout
    assert small_attention in answer.stdout
    assert "posemamba-s" not in answer.stdout  # names choose rows
    assert torch.get_num_threads() == 2  # measured with one
