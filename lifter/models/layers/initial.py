"""Initial values that need arithmetic; skipped on the meta device, where only shapes count.

There, arithmetic would import the compiler of PyTorch, which takes longer than loading weights and network together;
what ``torch.nn`` itself initializes does not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHORTEST_STEP, LONGEST_STEP = 1e-3, 1e-1


def decay_logs(rows: int, num_states: int) -> Tensor:
    """Return (rows, num_states): ln 1, ln 2, ... in every row, so that the decays of a scan start at -1, -2, ..."""
    logs = torch.empty(rows, num_states)
    return logs if logs.is_meta else logs.copy_(torch.arange(1, num_states + 1).log())


def step_biases(*shape: int) -> Tensor:
    """Return numbers whose softplus is a step size, log-uniform between the shortest and the longest."""
    logs = torch.empty(shape).uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP))
    if logs.is_meta:
        return logs
    step = logs.exp().clamp(min=1e-4)
    return step + torch.log(-torch.expm1(-step))


def normal_(tensor: Tensor, std: float) -> Tensor:
    """Fill ``tensor`` with a normal distribution around 0 and return it."""
    with torch.no_grad():
        return tensor if tensor.is_meta else tensor.normal_(std=std)
