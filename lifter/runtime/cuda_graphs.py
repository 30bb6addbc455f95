"""CUDA graphs: a network of many short kernels replayed with a single launch.

One window of the small network is some 600 kernels of microseconds each; launching them one by one takes the processor
longer than the GPU takes to run them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WARM_UPS = 3  # as torch.cuda.make_graphed_callables: kernels are compiled and tuned, libraries make their workspaces
_ONE_AT_A_TIME = threading.RLock()  # torch allows one capture per process; replays share buffers


@dataclass(frozen=True, eq=False)
class Graph:
    """Recorded work.

    Attributes:
        graph: What the GPU is to do.
        outputs: What the work returned; overwritten by every replay.
        work: The work; held because a graph holds none of the tensors that it reads.
    """

    graph: torch.cuda.CUDAGraph
    outputs: Tensor
    work: Callable[[], Tensor]

    def replay(self) -> None:
        """Run the work again, on what its inputs hold now."""
        self.graph.replay()


def capture(work: Callable[[], Tensor], shared: Graph | None = None) -> Graph:
    """Return ``work`` as a graph for the current CUDA device.

    Args:
        work: Launches kernels on the current stream; the tensors it reads must not move.
        shared: Use the memory pool of this graph. Then the two must never run at the same time, and the outputs of one
            must be copied before the other is replayed.

    Raises:
        torch.OutOfMemoryError: The graph's memory does not fit.
        RuntimeError: ``work`` does something that cannot be recorded, such as waiting for the GPU.
    """
    with _ONE_AT_A_TIME:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph, pool = torch.cuda.CUDAGraph(), shared.graph.pool() if shared else None
        try:
            # another thread of the program may use the GPU at the same time: only our own calls can spoil the capture
            with torch.cuda.graph(graph, pool, stream=side, capture_error_mode="thread_local"):
                outputs = work()
        except RuntimeError as error:
            spoilt = error.__context__  # ending a capture that something spoilt raises once more
            cause = spoilt if isinstance(spoilt, RuntimeError) else error
            if isinstance(cause, torch.OutOfMemoryError):
                raise torch.OutOfMemoryError(str(cause)) from error
            first_line, *_ = str(cause).splitlines() or [type(cause).__name__]  # PyTorch appends hints and stacks
            raise RuntimeError(
                f"the network could not be recorded as a CUDA graph: {first_line}; please report this, and use "
                f"--backend torch (slower, without graphs) or --device cpu until it is solved"
            ) from error
        return Graph(graph, outputs, work)


class GraphedModel:
    """A model whose forward pass is replayed from CUDA graphs, one per batch size; inference only.

    Sizes are powers of two up to ``most_rows``; other batches are padded, so that at most a handful of graphs exists.
    All share one memory pool: outputs are copied out before anything else is replayed. The parameters must stay where
    they are in memory; their values may change.

    Attributes:
        model: Maps (rows, *row_shape) to (rows, ...), every row by itself.
        row_shape: Shape of one row of the input.
        device: A CUDA device, where the model lives.
        most_rows: Most rows in one call.
    """

    def __init__(self, model: nn.Module, row_shape: tuple[int, ...], device: torch.device, most_rows: int) -> None:
        self.model, self.row_shape, self.device, self.most_rows = model, row_shape, device, most_rows
        self._graphs: dict[int, tuple[Tensor, Graph]] = {}

    @torch.inference_mode()
    def __call__(self, rows: Tensor) -> Tensor:
        """Return ``model(rows)`` for ``rows`` on any device.

        Raises:
            ValueError: Rows of another shape, or too many.
            torch.OutOfMemoryError: The batch does not fit; all graphs are given up.
            RuntimeError: The model cannot be captured.
        """
        size = padded_size(len(rows), self.most_rows)
        if tuple(rows.shape[1:]) != self.row_shape:
            raise ValueError(f"rows must have shape {self.row_shape}, got {tuple(rows.shape[1:])}")
        with _ONE_AT_A_TIME, torch.cuda.device(self.device):
            if size not in self._graphs:
                self._graphs[size] = self._captured(size)
            inputs, recorded = self._graphs[size]
            inputs[: len(rows)].copy_(rows)  # what lies behind them is computed, too, and left
            recorded.replay()
            return recorded.outputs[: len(rows)].clone()

    def _captured(self, size: int) -> tuple[Tensor, Graph]:
        """Return the input buffer and the graph for ``size`` rows."""
        try:
            inputs = torch.zeros(size, *self.row_shape, device=self.device)
            shared = next((graph for _, graph in self._graphs.values()), None)
            return inputs, capture(functools.partial(self.model, inputs), shared)  # no cycle through self
        except torch.OutOfMemoryError:
            self._graphs.clear()  # a pool that took what there was would starve everything else
            raise


def padded_size(rows: int, most_rows: int) -> int:
    """Return the batch size that ``rows`` are padded to: the next power of two, at most ``most_rows``.

    Raises:
        ValueError: No rows, or more than ``most_rows``.
    """
    if not 1 <= rows <= most_rows:
        raise ValueError(f"a batch holds 1 to {most_rows} rows, got {rows}; split it")
    return min(1 << (rows - 1).bit_length(), most_rows)
