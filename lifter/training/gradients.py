"""Gradients of one training step: parts on the cores of a CPU, one recorded CUDA graph on a GPU.

On a GPU a step of the small network is 20 000 kernels of microseconds each; replayed from a graph they follow each
other without waiting for the processor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lifter.runtime.cpu_parallel import map_parts, num_parts
from lifter.runtime.cuda_graphs import Graph, capture
from lifter.training.augmentation.batches import Batch

# (inputs (B, T, 17, C), joints (B, T, 17, 3), first frame (1,) int64) -> mean loss
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Portion:
    """Windows of one length and the row of the temporal embedding, (1,) int64, at which they start."""

    batch: Batch
    first: Tensor


def gradients_on(
    device: torch.device, loss: Loss, parameters: list[nn.Parameter], *, is_divisible: bool
) -> Gradients | RecordedGradients:
    """Return what sets the gradients of ``loss`` with respect to ``parameters`` on ``device``.

    ``is_divisible`` says whether windows of a batch may be evaluated apart from each other.
    """
    if device.type == "cuda":
        return RecordedGradients(loss, parameters)
    return Gradients(loss, parameters, is_divisible=is_divisible)


class Gradients:
    """Sets gradients and returns the loss, a mean over the frames of all portions.

    Every core takes some windows if they are divisible; else one portion follows the other, each on all cores.
    """

    def __init__(self, loss: Loss, parameters: list[nn.Parameter], *, is_divisible: bool) -> None:
        self._loss, self._parameters, self._is_divisible = loss, parameters, is_divisible

    def __call__(self, portions: Sequence[Portion]) -> Tensor:
        """Return the loss, a scalar without gradient."""
        frames = num_frames(portions)
        parts = []
        for portion in portions:
            inputs, joints = portion.batch.inputs, portion.batch.joints
            count = -(-num_parts(len(inputs), inputs.device) // len(portions)) if self._is_divisible else 1
            pieces = zip(inputs.tensor_split(count), joints.tensor_split(count), strict=True)
            parts += [(*piece, portion.first) for piece in pieces]

        def work(inputs: Tensor, joints: Tensor, first: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            loss = self._loss(inputs, joints, first) * (joints.shape[:2].numel() / frames)
            return loss.detach(), torch.autograd.grad(loss, self._parameters)

        results = map_parts(work, *zip(*parts, strict=True)) if self._is_divisible else [work(*part) for part in parts]
        for parameter, *gradients in zip(self._parameters, *(grads for _, grads in results), strict=True):
            parameter.grad = functools.reduce(torch.add, gradients)
        return torch.stack([loss for loss, _ in results]).sum()


class RecordedGradients:
    """The same on a CUDA GPU; recorded with the shapes of the first call, which must stay."""

    def __init__(self, loss: Loss, parameters: list[nn.Parameter]) -> None:
        self._loss, self._parameters = loss, parameters
        self._buffers: list[Portion] = []
        self._graph: Graph | None = None
        self._gradients: tuple[Tensor, ...] = ()

    def __call__(self, portions: Sequence[Portion]) -> Tensor:
        """Return the loss, a scalar without gradient.

        Raises:
            torch.OutOfMemoryError: The step does not fit.
            RuntimeError: The network cannot be recorded.
        """
        if self._graph is None:
            self._buffers = [
                Portion(Batch(p.batch.inputs.clone(), p.batch.joints.clone()), p.first.clone()) for p in portions
            ]
            self._graph = capture(self._work)
        for buffer, portion in zip(self._buffers, portions, strict=True):
            buffer.batch.inputs.copy_(portion.batch.inputs)
            buffer.batch.joints.copy_(portion.batch.joints)
            buffer.first.copy_(portion.first)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient  # the graph's own memory: the next replay overwrites it
        return self._graph.outputs.clone()

    def _work(self) -> Tensor:
        frames = num_frames(self._buffers)
        losses = [
            self._loss(p.batch.inputs, p.batch.joints, p.first) * (p.batch.joints.shape[:2].numel() / frames)
            for p in self._buffers
        ]
        loss = torch.stack(losses).sum()
        # fused optimizers want gradients that lie in memory as their parameters do
        self._gradients = tuple(g.contiguous() for g in torch.autograd.grad(loss, self._parameters))
        return loss.detach()


def num_frames(portions: Sequence[Portion]) -> int:
    """Return the frames of all portions together."""
    return sum(portion.batch.joints.shape[:2].numel() for portion in portions)
