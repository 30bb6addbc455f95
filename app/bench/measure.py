"""How long work takes: clocks for CPU and GPU, medians in bounded time, and the machine in words."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

import lifter as lifters
from lifter import scan
from lifter.runtime.devices import GPU_BACKENDS
from lifter.training.train import DECAY

Clock = Callable[[Callable[[], object]], float]
Result = TypeVar("Result")
REPEATS = 20


def wall_clock(work: Callable[[], object]) -> float:
    """Return the seconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cuda_clock(work: Callable[[], object]) -> float:
    """Return the seconds between the GPU's reaching and leaving what ``work`` launches, gaps between kernels included.

    The GPU must be idle before: it is after every call of this function.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


@dataclass(frozen=True, eq=False)
class Stopwatch:
    """Measures on one device and goes on where a measurement fails.

    Attributes:
        device: Where the work runs.
        report: Gets a line per measurement as it is made.
        budget_s: No repeats are begun after this time.
        failures: Lines about what failed, filled on the way; running out of memory is no failure.
    """

    device: torch.device
    report: Callable[[str], None] = lambda line: None
    budget_s: float = 2.0
    failures: list[str] = field(default_factory=list)

    def seconds(self, what: str, prepare: Callable[[], Callable[[], object]], repeats: int = REPEATS) -> float | str:
        """Return the median seconds of the work that ``prepare`` returns, or in two words why there are none.

        The first of several calls warms up and is not counted; with ``repeats=1`` there is only the one that counts.
        """
        clock = cuda_clock if self.device.type == "cuda" else wall_clock
        result = self.attempt(what, lambda: median_seconds(prepare(), clock, repeats, self.budget_s))
        if not isinstance(result, str):
            self.report(f"{what}: {1e3 * result:.3f} ms")
        return result

    def attempt(self, what: str, work: Callable[[], Result]) -> Result | str:
        """Return what ``work`` returns, or in two words why there is nothing.

        A kernel that breaks must not cost the measurements behind it; whoever owns the stopwatch looks at ``failures``.
        """
        try:
            return work()
        except torch.OutOfMemoryError:
            reason = "out of memory"
        except RuntimeError as error:
            reason = "failed"
            self.failures.append(f"{what}: {' '.join(str(error).split())}")
        self.report(f"{what}: {self.failures[-1] if reason == 'failed' else reason}")
        torch.cuda.empty_cache()
        return reason


def median_seconds(work: Callable[[], object], clock: Clock, repeats: int, budget_s: float) -> float:
    """Return the median of up to ``repeats`` measurements, fewer if they take longer than ``budget_s`` together."""
    if repeats > 1:
        work()
    times = [clock(work)]
    while len(times) < repeats and sum(times) < budget_s:
        times.append(clock(work))
    return statistics.median(times)


def rate(count: int, seconds: float | str) -> str:
    """Return ``count`` per second for a table, or the words that stand for it."""
    return seconds if isinstance(seconds, str) else f"{count / seconds:.4g}"


def milliseconds(seconds: float | str) -> str:
    """Return milliseconds for a table, or the words that stand for them."""
    return seconds if isinstance(seconds, str) else f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def ratio(a: float | str, b: float | str) -> str:
    """Return a / b for a table, "-" where one of them was not measured."""
    return "-" if isinstance(a, str) or isinstance(b, str) else f"{a / b:.3g}"


def machine(device: torch.device | str = "cpu") -> str:
    """Return the processor and the versions that matter, in a few words."""
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        triton = importlib.metadata.version("triton") if importlib.util.find_spec("triton") else "absent"
        return (
            f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, torch {torch.__version__}, "
            f"CUDA {torch.version.cuda}, triton {triton}"
        )
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def backends(device: torch.device) -> list[str]:
    """Return the scan backends that are timed on ``device``, the definition first; no GPU kernels in an interpreter."""
    usable = [name for name, reason in scan.usable_backends(device).items() if reason is None]
    usable = [name for name in usable if device.type == "cuda" or name not in GPU_BACKENDS]
    return sorted(usable, key=lambda name: name != "reference")


def random_model(name: str) -> nn.Module:
    """Return lifter ``name`` with random weights, decays and layer scales in general position, as trained ones have."""
    torch.manual_seed(0)
    model = lifters.create_model(name).eval().requires_grad_(False)
    for key, parameter in model.named_parameters():
        if DECAY.search(key):  # fresh ones are exact powers, for which the compiled scan has a shortcut
            parameter.add_(0.05 * torch.randn_like(parameter))
        if "layer_scale" in key:  # fresh ones all but switch the blocks off, and a wrong scan would not show
            parameter.fill_(0.3)
    return model


def random_inputs(name: str, windows: int) -> Tensor:
    """Return keypoints (windows, T, 17, C) for lifter ``name``: x and y in [-1, 1], scores in [0, 1]."""
    spec = lifters.lifter_spec(name)
    keypoints = torch.rand(windows, spec.window, 17, spec.channels)
    keypoints[..., :2] = keypoints[..., :2] * 2 - 1
    return keypoints
