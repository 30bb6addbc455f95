"""Random draws from one generator on one device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Rng:
    """Random draws on one device from one generator."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = torch.device(device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return draws from [low, high)."""
        return low + (high - low) * torch.rand(*shape, device=self.device, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal draws."""
        return torch.randn(*shape, device=self.device, generator=self.generator)

    def bernoulli(self, p: float, *shape: int) -> Tensor:
        """Return True with probability ``p``."""
        return torch.rand(*shape, device=self.device, generator=self.generator) < p

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return draws from low to high - 1."""
        return torch.randint(low, high, shape, device=self.device, generator=self.generator)

    def smooth(self, count: int, frames: int, *shape: int, knots_every: int = 20) -> Tensor:
        """Return (count, frames, *shape) curves of unit variance at their knots, which lie about 0.4 s apart."""
        knots = self.normal(count, frames // knots_every + 3, *shape)
        place = torch.arange(frames, device=self.device) / knots_every + self.uniform(0, 1, count, 1)
        floor = place.long()
        weight = (1 - torch.cos((place - floor) * math.pi)) / 2
        rows = torch.arange(count, device=self.device)[:, None]
        return torch.lerp(knots[rows, floor], knots[rows, floor + 1], weight.view(*weight.shape, *[1] * len(shape)))
