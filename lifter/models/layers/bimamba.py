"""Mamba along a sequence in both directions, the scan of HGMamba and MDTF.

Keys and shapes are those of the "v2" block that both published networks use. Different from it: no sequence is
reversed. The backward direction's causal convolution of the reversed sequence is an anti-causal one of the sequence
itself, and both directions are walks of one ``cross_scan`` over tokens that stay where they are.

Symbols: B sequences, L tokens, d width, E = expand * d inner width, R = ceil(d / 16) rank of the step projection,
N = 16 states.

Source: Zhu et al., "Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model", 2024,
algorithm 1; the scan is that of Gu and Dao, "Mamba", 2023.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifter.models.layers.initial import decay_logs, step_biases
from lifter.scan import cross_scan

NUM_STATES = 16
TAPS = 4  # of the causal convolution: a token and the three before it


@functools.lru_cache(maxsize=64)
def both_ways(L: int, device: str = "cpu") -> Tensor:
    """Return (2, L) int64: the tokens from the first to the last, and from the last to the first."""
    with torch.inference_mode(False):  # cached: made during inference, it could not be used in training later
        upwards = torch.arange(L, device=device)
        return torch.stack([upwards, upwards.flip(0)])


class BiMamba(nn.Module):
    """Two selective scans over the same tokens, one from either end, behind one gate."""

    def __init__(self, d: int, expand: int, *, is_mean: bool) -> None:
        """Make a block of width ``d``; ``is_mean``: the directions are averaged (MDTF), else added (HGMamba)."""
        super().__init__()
        E, R, N = expand * d, math.ceil(d / 16), NUM_STATES
        self.is_mean = is_mean
        self.A_log = nn.Parameter(decay_logs(E, N))
        self.D = nn.Parameter(torch.ones(E))
        self.A_b_log = nn.Parameter(decay_logs(E, N))
        self.D_b = nn.Parameter(torch.ones(E))
        self.in_proj = nn.Linear(d, 2 * E, bias=False)
        self.conv1d = nn.Conv1d(E, E, TAPS, groups=E)
        self.x_proj = nn.Linear(E, R + 2 * N, bias=False)
        self.dt_proj = nn.Linear(R, E)
        self.conv1d_b = nn.Conv1d(E, E, TAPS, groups=E)
        self.x_proj_b = nn.Linear(E, R + 2 * N, bias=False)
        self.dt_proj_b = nn.Linear(R, E)  # starts as any linear layer, in the published code too
        self.out_proj = nn.Linear(E, d, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(R**-0.5), R**-0.5)
        self.dt_proj.bias = nn.Parameter(step_biases(E))
        self.scan_backend = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, d) for x (B, L, d)."""
        # as two products, each half lies by itself in memory: norms and convolutions take slices several times slower
        inner, z = (F.linear(x, weight) for weight in self.in_proj.weight.chunk(2))  # (B, L, E) each
        ahead, behind = self.before_convolutions(inner)
        sources = [causal(ahead, self.conv1d), causal(behind, self.conv1d_b, is_reversed=True)]
        projections = [self.x_proj(sources[0]), self.x_proj_b(sources[1])]
        dtype = self.D.dtype  # in the weights' precision under autocast, too: thousands of decays are multiplied
        y = cross_scan(
            [source.to(dtype) for source in sources],
            [projection.to(dtype) for projection in projections],
            torch.stack([self.dt_proj.weight, self.dt_proj_b.weight]),
            torch.stack([self.dt_proj.bias, self.dt_proj_b.bias]),
            -torch.exp(torch.stack([self.A_log, self.A_b_log])),
            torch.stack([self.D, self.D_b]),
            both_ways(x.shape[1], str(x.device)),
            backend=self.scan_backend,
        )
        # a half is exact in floating point, so it may as well be in the small factor
        weight = self.out_proj.weight / 2 if self.is_mean else self.out_proj.weight
        return F.linear(y * F.silu(z), weight)

    def before_convolutions(self, inner: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the forward and the backward convolution get, in token order, for the inner half (B, L, E)."""
        return inner, inner


def causal(x: Tensor, convolution: nn.Conv1d, *, is_reversed: bool = False) -> Tensor:
    """Return SiLU(convolution) of a token and the three before it, or after it if ``is_reversed``; (B, L, E) both.

    As a picture of height 1, for which channels may come last: 2 to 10 times faster on a CPU than conv1d (measured).
    """
    L = x.shape[1]
    weight = convolution.weight.flip(-1) if is_reversed else convolution.weight
    picture = x.transpose(1, 2).unsqueeze(2)  # (B, E, 1, L)
    y = F.conv2d(picture, weight.unsqueeze(2), convolution.bias, padding=(0, TAPS - 1), groups=len(weight))
    y = y[..., TAPS - 1 :] if is_reversed else y[..., :L]  # padding is on both sides: L + 3 outputs
    return F.silu(y).squeeze(2).transpose(1, 2).contiguous()
