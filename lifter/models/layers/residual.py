"""The residual sub-blocks of these networks: a mixer of tokens, then a two-layer perceptron."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_SCALE = 1e-5  # at the start of training a block is almost the identity


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them; ``ratio`` times as wide inside."""

    def __init__(self, d: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(d, ratio * d)
        self.fc2 = nn.Linear(ratio * d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., d) for x (..., d)."""
        return self.fc2(F.gelu(self.fc1(x)))


class ScaledResidual(nn.Module):
    """Mixer and perceptron, each behind a norm, with a learned scale per channel and stochastic depth per sample."""

    def __init__(self, d: int, mixer: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((d,), LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((d,), LAYER_SCALE))
        self.norm1 = nn.LayerNorm(d)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(d)
        self.mlp = MLP(d, ratio=4)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        x = x + dropped(self.layer_scale_1 * self.mixer(self.norm1(x)), self.drop_path, self.training)
        return x + dropped(self.layer_scale_2 * self.mlp(self.norm2(x)), self.drop_path, self.training)


class Fusion(nn.Module):
    """Mean of two streams with weights that are read from both, token by token; at first a plain mean."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2 * d))
        self.bias = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (..., d) for two tensors (..., d)."""
        first, second = F.linear(torch.cat([a, b], dim=-1), self.weight, self.bias).softmax(-1).split(1, dim=-1)
        return first * a + second * b


def dropped(branch: Tensor, rate: float, is_training: bool) -> Tensor:
    """Return a branch (B, ...) after stochastic depth: whole samples become 0, the others are scaled up."""
    if not is_training or rate == 0:
        return branch
    keep = 1 - rate
    mask = branch.new_empty(len(branch), *[1] * (branch.ndim - 1)).bernoulli_(keep)
    return branch * (mask / keep)


def rising(highest: float, depth: int) -> list[float]:
    """Return ``depth`` rates that rise evenly from 0 to ``highest``; 0 for a single block."""
    return [highest * i / max(depth - 1, 1) for i in range(depth)]
