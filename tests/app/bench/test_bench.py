"""The benchmark of networks on tiny ones and on the CPU: what a rented GPU runs is run here first."""

import types

import pytest
import torch
from typer.testing import CliRunner

from app.bench.lifter import PLANS, Plan, forward_table, time_lifters
from app.bench.measure import (
    Stopwatch,
    backends,
    median_seconds,
    milliseconds,
    random_inputs,
    random_model,
    rate,
    ratio,
)
from app.cli.main import cli
from lifter import LIFTERS, LifterSpec
from lifter.models import posemamba
from lifter.models.posemamba import PoseMambaConfig
from lifter.scan import BACKENDS

CPU = torch.device("cpu")
WINDOW = 4


@pytest.fixture
def tiny(monkeypatch) -> str:
    """The name of a registered network of width 16 and one pair of blocks for windows of 4 frames."""
    monkeypatch.setattr(posemamba, "TINY", PoseMambaConfig(width=16, depth=1, window=WINDOW), raising=False)
    monkeypatch.setitem(LIFTERS, "tiny", LifterSpec("lifter.models.posemamba", "TINY", WINDOW, "for tests"))
    return "tiny"


PLAN = Plan((), (1, 3))


def columns_of(table) -> dict[str, list[str]]:
    return {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}


def check_tables(device: torch.device, tiny: str) -> None:
    lines = []
    (forward,) = map(columns_of, time_lifters([tiny], PLAN, Stopwatch(device, lines.append, budget_s=0.05)))
    assert not [line for line in lines if "failed" in line]
    assert {name.split()[0] for name in forward["scan"]} == set(backends(device))
    assert all(float(difference) < 1e-4 for difference in forward["max difference"])  # all agree with the definition
    assert all(float(milliseconds) > 0 for milliseconds in forward["ms, batch 1"])  # even of the definition
    assert forward["windows/s, batch 3"][0] == "-"
    assert forward["x reference scan"][0] == "1"
    assert ("graph" in forward["launch"]) == (device.type == "cuda")


def test_every_backend_is_timed(tiny):
    check_tables(CPU, tiny)


@pytest.mark.requires_cuda
def test_every_backend_is_timed_on_a_gpu(tiny):
    check_tables(torch.device("cuda"), tiny)


def test_the_command_keeps_its_threads_to_itself(tiny, threads, monkeypatch):
    threads(2)
    monkeypatch.setitem(PLANS, "cpu", Plan((tiny,), (1,)))
    answer = CliRunner().invoke(cli, ["bench", "lifter", "--no-reference"])
    assert answer.exit_code == 0, answer.output
    assert tiny in answer.stdout
    assert torch.get_num_threads() == 2  # measured with one


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


def test_what_breaks_is_named_at_the_end_and_costs_nothing_else(tiny, monkeypatch):
    broken = types.ModuleType("broken_scan")
    broken.why_not = lambda device: None

    def breaks(*_):
        raise RuntimeError("illegal\n memory access")

    broken.cross_scan = breaks
    monkeypatch.setitem(BACKENDS, "broken", broken)
    tables = time_lifters([tiny], PLAN, Stopwatch(CPU, budget_s=0.01))
    assert "failed" in columns_of(next(tables))["ms, batch 1"]
    with pytest.raises(RuntimeError, match=r"not everything .*: tiny, broken, eager, batch 1: illegal memory access;"):
        next(tables)


def test_words_pass_through_where_numbers_are_missing():
    assert rate(8, "out of memory") == milliseconds("out of memory") == "out of memory"
    assert ratio("failed", 1.0) == ratio(1.0, "-") == "-"
    assert (rate(8, 0.002), milliseconds(0.002), ratio(3.0, 2.0)) == ("4000", "2", "1.5")


def test_what_cannot_run_says_why(tiny):
    table = forward_table([tiny], (1,), Stopwatch(CPU, budget_s=0.01), has_reference=False)
    assert "mamba_ssm: " in str(table.caption)
    assert set(columns_of(table)["x reference scan"]) == {"-"}


def test_in_a_model_for_timing_a_wrong_scan_would_show():
    model, inputs = random_model("hgmamba-xs"), random_inputs("hgmamba-xs", 1)
    assert float(inputs[..., 2].min()) >= 0
    right = model(inputs)
    for layer in model.layers:
        layer.mamba_spatial.mixer.forward_backward_mamba.D.zero_()
    assert float((model(inputs) - right).abs().max()) > 1e-3  # backends that agree differ by less than 1e-5


def test_a_gpu_that_is_not_there_is_wrong_usage():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    answer = CliRunner().invoke(cli, ["bench", "lifter", "--device", "cuda"])
    assert answer.exit_code == 2
    assert answer.stderr == "error: device 'cuda' was asked for, but torch sees no CUDA device\n"
    assert answer.stdout == ""
