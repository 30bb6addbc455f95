"""Selective scan in plain PyTorch, time-major: what runs where nothing could be compiled.

The same equations as the reference, several times faster on a CPU: decays and inputs of a few dozen steps are computed
at once, small enough to stay in the cache, with time as the first axis, so that every step of the loop is one
contiguous multiply-add.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lifter.scan import reference

CHUNK = 64  # steps whose decays are held at once: 2 MB for the small network


def why_not(device: torch.device) -> str | None:
    """Return None: PyTorch alone is enough."""
    return None


def selective_scan(u, delta, A, B, C, D) -> Tensor:
    """Return y (B, D, L); shapes as in ``lifter.scan.reference.selective_scan``."""
    delta, u = delta.permute(2, 0, 1), u.permute(2, 0, 1)  # (L, B, D)
    scaled = (delta * u).unflatten(2, (B.shape[1], -1))  # (L, B, G, D/G)
    B, C = B.permute(3, 0, 1, 2), C.permute(3, 0, 1, 2)  # (L, B, G, N)
    state, y = None, []
    for steps in (slice(start, start + CHUNK) for start in range(0, len(u), CHUNK)):
        decay = torch.exp(delta[steps, :, :, None] * A)  # (chunk, B, D, N)
        inputs = (scaled[steps, ..., None] * B[steps, :, :, None]).flatten(2, 3)  # (chunk, B, D, N)
        states = _recur(decay, inputs, state)
        state = states[-1]
        y.append((states.unflatten(2, (B.shape[2], -1)) @ C[steps, ..., None]).squeeze(-1).flatten(2))
    return (torch.cat(y) + D * u).permute(1, 2, 0)


def _recur(decay: Tensor, inputs: Tensor, state: Tensor | None) -> Tensor:
    """Return all states h_l = decay_l * h_(l-1) + inputs_l, (chunk, ...); in place unless gradients are wanted."""
    if torch.is_grad_enabled() and (decay.requires_grad or inputs.requires_grad):
        states = []
        for a, b in zip(decay, inputs, strict=True):
            state = b if state is None else torch.addcmul(b, a, state)
            states.append(state)
        return torch.stack(states)
    for a, b in zip(decay, inputs, strict=True):
        if state is not None:
            b.addcmul_(a, state)
        state = b
    return inputs


def cross_scan(sources, projections, dt_weight, dt_bias, A, D, order) -> Tensor:
    """Return y (B, L, E); shapes as in ``lifter.scan.cross_scan``."""
    return reference.cross_scan(sources, projections, dt_weight, dt_bias, A, D, order, scan=selective_scan)
