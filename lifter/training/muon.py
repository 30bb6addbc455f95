"""Muon: an optimizer with orthogonalized momentum for weight matrices; learns far more per step than AdamW here.

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
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            averages = self._averaged(parameters, group["momentum"])
            by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for index, average in enumerate(averages):
                by_shape[tuple(sorted(average.shape[1:]))].append(index)
            updates: list[Tensor] = [torch.empty(0)] * len(averages)
            for indices in by_shape.values():
                stacks = [averages[i] if averages[i].shape[1] <= averages[i].shape[2] else averages[i].mT
                          for i in indices]  # fmt: skip
                results = orthogonal(torch.cat(stacks)).split([len(stack) for stack in stacks])
                for i, stack, result in zip(indices, stacks, results, strict=True):
                    turned = result if stack.shape == averages[i].shape else result.mT
                    updates[i] = turned.reshape(parameters[i].shape)
            sizes = [-group["lr"] * RMS * max(average.shape[1:]) ** 0.5 for average in averages]
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, torch._foreach_mul(updates, sizes))

    def _averaged(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Return the Nesterov momentum of every parameter as a stack (k, m, n)."""
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        averages = torch._foreach_lerp(gradients, momenta, momentum)
        return [x.reshape(-1, *x.shape[-2:]) for x in averages]


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
