"""Selective scan in plain PyTorch, time-major: what runs where nothing could be compiled.

The same equations as the reference, several times faster on a CPU: decays and inputs of all steps are computed in two
large operations with time as the first axis, so that every step of the loop is one contiguous multiply-add.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lifter.scan import reference


def why_not(device: torch.device) -> str | None:
    """Return None: PyTorch alone is enough."""
    return None


def selective_scan(u, delta, A, B, C, D, delta_bias=None, delta_softplus=False) -> Tensor:
    """Return y (B, D, L); shapes as in ``lifter.scan.selective_scan``. Holds 2 * B * D * L * N numbers in memory."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = torch.nn.functional.softplus(delta)
    groups = B.shape[1]
    delta = delta.permute(2, 0, 1)  # (L, B, D)
    decay = torch.exp(delta[..., None] * A)  # (L, B, D, N)
    u_t = u.permute(2, 0, 1)
    inputs = (delta * u_t).unflatten(2, (groups, -1))[..., None] * B.permute(3, 0, 1, 2)[:, :, :, None]  # (L,B,G,D/G,N)
    inputs = inputs.flatten(2, 3)  # (L, B, D, N)
    states = _recur(decay, inputs).unflatten(2, (groups, -1))  # (L, B, G, D/G, N)
    y = (states @ C.permute(3, 0, 1, 2)[..., None]).squeeze(-1).flatten(2)  # (L, B, D)
    return (y + D * u_t).permute(1, 2, 0)


def _recur(decay: Tensor, inputs: Tensor) -> Tensor:
    """Return all states h_l = decay_l * h_(l-1) + inputs_l, shape (L, ...); in place unless gradients are wanted."""
    if torch.is_grad_enabled() and (decay.requires_grad or inputs.requires_grad):
        states = [inputs[0]]
        for step in range(1, len(inputs)):
            states.append(torch.addcmul(inputs[step], decay[step], states[-1]))
        return torch.stack(states)
    for step in range(1, len(inputs)):
        inputs[step].addcmul_(decay[step], inputs[step - 1])
    return inputs


def cross_scan(sources, projections, dt_weight, dt_bias, A, D, order) -> Tensor:
    """Return y (B, L, E); shapes as in ``lifter.scan.cross_scan``."""
    return reference.cross_scan(sources, projections, dt_weight, dt_bias, A, D, order, scan=selective_scan)
