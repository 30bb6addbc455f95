"""Multiply-accumulates of a network, counted on the meta device: only shapes are computed.

Counted: matrix products, linear layers, convolutions and attention, by PyTorch's own counter (half of its operations),
and scans by formula. Not counted: norms, activations, gates, sums, softmax, exponentials, sorting. Published counts
come from other tools and do not compare: 48.3 G per window for MotionAGFormer-B there, 56.6 G here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lifter import scan
from lifter.registry import create_model, lifter_spec

COUNTING = "counting"


def macs_per_frame(name: str) -> float:
    """Return the multiply-accumulates of lifter ``name`` per frame of a full window."""
    spec = lifter_spec(name)
    with torch.device("meta"), torch.inference_mode(), counting_scan() as scans:
        model = create_model(name).eval()
        scan.use_backend(model, COUNTING)
        with FlopCounterMode(display=False) as products:
            model(torch.empty(1, spec.window, 17, spec.channels))
    return (products.get_total_flops() / 2 + scans.macs) / spec.window


def scan_macs(num_walks: int, tokens: int, channels: int, rank: int, num_states: int) -> int:
    """Return the multiply-accumulates of ``cross_scan``: R + 4 N + 2 for every walk, token and channel.

    R: step size from its projection. 4 N: step times decay rate, state times decay, step times input times gate,
    output gate. 2: step times input, skip weight.
    """
    return num_walks * tokens * channels * (rank + 4 * num_states + 2)


@dataclass
class CountingScan:
    """A scan backend that adds up what a real one would do and returns shapes only."""

    macs: int = 0

    def why_not(self, device: torch.device) -> str | None:
        """Return None: shapes can be made anywhere."""
        return None

    def cross_scan(
        self, sources: list[Tensor], projections: list[Tensor], dt_weight: Tensor, dt_bias: Tensor, A: Tensor,
        D: Tensor, order: Tensor,
    ) -> Tensor:  # fmt: skip
        """Return a tensor of the shape of the answer; arguments as those of ``lifter.scan.cross_scan``."""
        batch, L, _ = sources[0].shape
        num_walks, E, R = dt_weight.shape
        self.macs += batch * scan_macs(num_walks, L, E, R, A.shape[2])
        return torch.empty_like(sources[0])


@contextlib.contextmanager
def counting_scan() -> Iterator[CountingScan]:
    """Offer a ``CountingScan`` as a scan backend for a while."""
    counter = CountingScan()
    scan.BACKENDS[COUNTING] = counter  # type: ignore[assignment]
    try:
        yield counter
    finally:
        del scan.BACKENDS[COUNTING]
