"""Muon: momentum whose update of every weight matrix is made orthogonal. Learns far more per step than AdamW here.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, with the step size of Liu et
al., "Muon is scalable for LLM training", 2025, equation 4. ``torch.optim.Muon`` takes single matrices only, in
bfloat16; here parameters may be stacks of matrices (the four scan directions), and matrices of one shape are made
orthogonal together, in float32: 3 % of a training step on a CPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration in the first source
ITERATIONS = 5
RMS = 0.2  # of an update's entries, like AdamW's


class Muon(torch.optim.Optimizer):
    """Optimizer for parameters that are matrices (m, n) or stacks of matrices (k, m, n).

    Args:
        params: As for every torch optimizer.
        lr: Root mean square of one update's entries is 0.2 times this.
        momentum: Of the averaged gradient; Nesterov's.
        weight_decay: Decoupled, times ``lr``.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim not in (2, 3):
                    raise ValueError(f"Muon takes matrices or stacks of them, got shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        by_shape = defaultdict(list)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._averaged(parameter, group["momentum"])
                    by_shape[tuple(sorted(update.shape[1:]))].append((group, parameter, update))
        for items in by_shape.values():
            wide = [update if update.shape[1] <= update.shape[2] else update.mT for _, _, update in items]
            updates = orthogonal(torch.cat(wide)).split([len(x) for x in wide])
            for (group, parameter, update), result in zip(items, updates, strict=True):
                turned = result if update.shape[1] <= update.shape[2] else result.mT
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * RMS * max(update.shape[1:]) ** 0.5
                parameter.add_(turned.reshape(parameter.shape), alpha=-rate)

    def _averaged(self, parameter: Tensor, momentum: float) -> Tensor:
        """Return the Nesterov momentum of a parameter as a stack (k, m, n)."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None  # step() asks for those that have one
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return torch.lerp(gradient, state["momentum"], momentum).reshape(-1, *parameter.shape[-2:])


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the nearly orthogonal factor of each matrix (k, m, n), m <= n: singular values about 0.7 to 1.2.

    A matrix of zeros stays zero.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices / matrices.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x
