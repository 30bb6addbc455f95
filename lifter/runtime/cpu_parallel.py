"""Parallel work on a CPU, one part per core: operations of these small networks are too short to split."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
_SETTING_THREADS = threading.Lock()


def num_parts(items: int, device: torch.device) -> int:
    """Return into how many parts a batch of ``items`` is best cut: one per torch thread on a CPU, else one."""
    return max(1, min(torch.get_num_threads(), items)) if device.type == "cpu" else 1


def map_parts(function: Callable[..., Result], *parts: Sequence[Any]) -> list[Result]:
    """Return ``function`` of every part, on as many threads as torch may use, which do not split operations further.

    Measured on 2 cores, training step of the small network: 1.4 times faster than one batch on two torch threads.
    """
    count = len(parts[0])
    if count == 1:
        return [function(*(part[0] for part in parts))]
    threads = torch.get_num_threads()
    with _SETTING_THREADS, ThreadPoolExecutor(min(count, threads)) as pool:  # one caller at a time: it is the process's
        torch.set_num_threads(1)
        try:
            return list(pool.map(function, *parts))
        finally:
            torch.set_num_threads(threads)
