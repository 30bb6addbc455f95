"""The definition of the selective scan: sequential, one line per equation, differentiable. Never changed for speed.

Symbols: B batch, D channels, L scan length, N states, G groups of channels sharing input and output gates.
Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, equations 2 and 4, with
the Euler step ``delta * B`` that all Mamba code uses instead of the exact zero-order hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def why_not(device: torch.device) -> str | None:
    """Return None: the reference runs everywhere."""
    return None


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return y (B, D, L) of the scan of one sequence, laid out as in mamba-ssm.

    Args:
        u: (B, D, L) input.
        delta: (B, D, L) step sizes, positive.
        A: (D, N) real, negative.
        B: (B, G, N, L) input gates; D / G neighboring channels share one.
        C: (B, G, N, L) output gates.
        D: (D,) skip weights.
    """
    B, C = (gate.repeat_interleave(u.shape[1] // gate.shape[1], dim=1) for gate in (B, C))  # (B, D, N, L)
    h = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])  # (B, D, N)
    y = []
    for t in range(u.shape[2]):
        decay = torch.exp(delta[:, :, t, None] * A)  # (B, D, N)
        h = decay * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[..., t]
        y.append((h * C[..., t]).sum(-1) + D * u[:, :, t])
    return torch.stack(y, dim=2)  # (B, D, L)


def cross_scan(
    sources: Sequence[Tensor],
    projections: Sequence[Tensor],
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    order: Tensor,
    scan: Callable[..., Tensor] = selective_scan,
) -> Tensor:
    """Return y (B, L, E): K walks over the same tokens, each one a ``selective_scan``, summed at the tokens.

    Shapes as in ``lifter.scan.cross_scan``; ``scan`` is the one-dimensional scan that carries all walks at once, as K
    groups of E channels.
    """
    (K, E, R), N = dt_weight.shape, A.shape[2]
    num_sources = len(sources)
    u, delta, B, C = [], [], [], []
    for k in range(K):
        rows = projections[k % num_sources].unflatten(-1, (-1, R + 2 * N))[:, order[k], k // num_sources]
        step, gate_in, gate_out = rows.split([R, N, N], dim=-1)  # each (B, L, .)
        u.append(sources[k % num_sources][:, order[k]].transpose(1, 2))  # (B, E, L)
        delta.append((step @ dt_weight[k].T).transpose(1, 2))
        B.append(gate_in.transpose(1, 2))  # (B, N, L)
        C.append(gate_out.transpose(1, 2))
    steps = F.softplus(torch.cat(delta, 1) + dt_bias.reshape(-1, 1))  # the identity above 20, torch's own threshold
    y = scan(torch.cat(u, 1), steps, A.reshape(K * E, N), torch.stack(B, 1), torch.stack(C, 1), D.reshape(-1))
    y = y.transpose(1, 2).unflatten(-1, (K, E))  # (B, L, K, E)
    total = torch.zeros_like(sources[0])
    for k in range(K):
        total = total.index_add(1, order[k], y[:, :, k])
    return total
