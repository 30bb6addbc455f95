"""Progress of long work: what wraps the items of a stage, and how long stages take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

# progress(items, stage, number of items or None) -> the same items; cancelling is raising from it
Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]


def silent(items: Iterable[Any], stage: str, total: int | None) -> Iterable[Any]:
    """Report nothing."""
    return items


class Clock:
    """Wall seconds between laps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap to ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
