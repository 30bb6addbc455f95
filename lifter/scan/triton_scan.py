"""The scan on a CUDA GPU: the kernels of ``triton_kernels.py``, launched and wrapped for autograd.

State, steps and sums are float32 whatever the inputs are. The output has the sources' type, but float32 under
autocast, as that of any operation that autocast keeps in float32: what follows here is a LayerNorm, which autocast
runs in float32 too, so that rounding to half precision in between would only lose digits.

Nothing here looks at a tensor's values or waits for the GPU, and all memory comes from PyTorch: a call can be captured
in a CUDA graph once the same call has run (and compiled its kernels) outside of one.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from lifter.scan.triton_kernels import Sizes, Walks

FORWARD_SPLIT = (1, 32)  # P, Q of the forward kernels, see triton_kernels
BACKWARD_SPLIT = (4, 8)
CHANNELS = 32  # of one program: P * Q
STAGES = 3  # tiles in flight: the token numbers of one, the rows of the next, the arithmetic of a third
SPAN_ROWS, SPAN_LANES = 16, 128  # spans and states that a program of the second pass takes at once
# Programs (single warps) meant to be on a multiprocessor at the same time. It has 65536 registers; a lane takes 71 ...
# 105 of them in the forward kernels (sm_90; up to 158 on sm_80) and 226 ... 255 in the backward one.
FORWARD_PROGRAMS, BACKWARD_PROGRAMS = 16, 8
FEWEST_SPANS = 4  # below, repeating the scan for the starts of the spans costs more than idle multiprocessors


@dataclass(frozen=True)
class Cut:
    """How sequences are cut up; other numbers round differently, no more.

    Attributes:
        chunk: Tokens between two states kept for the gradient, a multiple of ``tile``. At 64, those of four walks with
            16 states take as much memory as one source.
        tile: Tokens taken at once. At 4 the backward kernel spills registers, at 1 its scratch holds every state.
        span_chunks: Chunks that one program runs through; None for what fills the GPU.
    """

    chunk: int = 64
    tile: int = 2
    span_chunks: int | None = None

    def __post_init__(self) -> None:
        if self.chunk % self.tile or self.tile & (self.tile - 1):
            raise ValueError(f"a chunk must be a multiple of a power of two, got {self.chunk} tokens by {self.tile}")


DEFAULT_CUT = Cut()


def why_not(device: torch.device) -> str | None:
    """Return None if the kernels can run on ``device``, else the reason."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install triton (Linux; PyTorch's CUDA wheels bring it along)"
    if device.type == "cpu" and is_interpreted():
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, not {device.type} (set TRITON_INTERPRET=1 to interpret the kernels, for tests)"
    return _why_not_cuda(device)


@functools.cache
def _why_not_cuda(device: torch.device) -> str | None:
    if not torch.cuda.is_available():
        return "needs a CUDA device: PyTorch finds none"
    if torch.version.hip is not None:
        return "needs a CUDA device: written for warps of 32 lanes, never tried on ROCm"
    if torch.cuda.get_device_capability(device) < (7, 5):
        return "needs a CUDA device of compute capability 7.5 or newer"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "triton needs a C compiler to start kernels: install gcc or clang, or set CC"
    return None


def is_interpreted() -> bool:
    """Return whether Triton runs kernels in its interpreter, which takes CPU tensors; settled when it is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def cross_scan(sources, projections, dt_weight, dt_bias, A, D, order, *, cut: Cut = DEFAULT_CUT) -> Tensor:
    """Return y (B, L, E); shapes as in ``lifter.scan.cross_scan``."""
    (K, E, R), N = dt_weight.shape, A.shape[2]
    batch, L, _ = sources[0].shape
    inputs = (dt_weight, dt_bias, A, D, *sources, *projections)
    keeps_states = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    plan = _Plan(_Shape(K, len(sources), E, N, R, batch, L), cut, keeps_states)
    return _Scan.apply(plan, order, *inputs)


@dataclass(frozen=True)
class _Shape:
    """K walks over B x L tokens of S sources with E channels; N states, step sizes of rank R."""

    K: int
    S: int
    E: int
    N: int
    R: int
    B: int
    L: int

    def __post_init__(self) -> None:
        width = max(self.E, self.row_width)
        if self.L * width >= 2**31:  # offsets inside one sample are 32 bits
            raise ValueError(f"the Triton scan takes samples of less than 2^31 numbers, got {self.L} tokens of {width}")

    @property
    def row_width(self) -> int:
        """Projections of a token, from one source."""
        return self.K // self.S * (self.R + 2 * self.N)

    @property
    def blocks(self) -> int:
        """Programs that share the channels of a walk."""
        return -(-self.E // CHANNELS)


@dataclass(frozen=True)
class _Plan:
    """How one call is cut up, and whether it keeps what the gradient needs."""

    shape: _Shape
    cut: Cut
    keeps_states: bool

    @property
    def num_chunks(self) -> int:
        """Chunks of a sequence."""
        return -(-self.shape.L // self.cut.chunk)

    def spans(self, device: torch.device, programs_each: int) -> tuple[int, int]:
        """Return the length of a span in tokens and the number of spans, for as many programs per multiprocessor."""
        chunks = self.cut.span_chunks
        if chunks is None:
            places = programs_each * _num_multiprocessors(device)
            wanted = places // max(1, self.shape.B * self.shape.K * self.shape.blocks)
            chunks = -(-self.num_chunks // wanted) if wanted >= FEWEST_SPANS else self.num_chunks
        chunks = max(1, min(chunks, self.num_chunks))
        return chunks * self.cut.chunk, max(1, -(-self.num_chunks // chunks))

    def sizes(self, split: tuple[int, int]) -> Sizes:
        """Return what the kernels are compiled for."""
        from lifter.scan.triton_kernels import Sizes

        s = self.shape
        return Sizes(
            K=s.K, S=s.S, E=s.E, N=s.N, R=s.R, N_=_power_of_two(s.N), R_=_power_of_two(s.R),
            chunk=self.cut.chunk, tile=self.cut.tile, P=split[0], Q=split[1], stages=STAGES,
        )  # fmt: skip


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


@functools.cache
def _num_multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _launch(kernel: Any, programs: int, *arguments: object, **constants: object) -> None:
    """Run ``kernel`` with one warp per program; half of its arithmetic is fused multiply-adds, so ask for them."""
    if programs:
        kernel[(programs,)](*arguments, **constants, num_warps=1, num_stages=1, enable_fp_fusion=True)


class _Scan(torch.autograd.Function):
    """K walks over token-major arrays; the tensors after D are sources and projections."""

    @staticmethod
    def forward(ctx, plan: _Plan, order, dt_weight, dt_bias, A, D, *tensors):
        s = plan.shape
        dtype = torch.float32 if torch.is_autocast_enabled(tensors[0].device.type) else tensors[0].dtype
        parameters = [x.contiguous() for x in (dt_weight, dt_bias, A, D)]
        tensors = tuple(x.contiguous() for x in tensors)
        order = order.contiguous()
        with torch.cuda.device_of(tensors[0]):
            y, kept = _run_forward(plan, _walks(s.S, order, parameters, tensors))
        ctx.plan = plan
        ctx.save_for_backward(order, kept, *parameters, *tensors)
        return y.sum(0).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        plan, s = ctx.plan, ctx.plan.shape
        order, kept, *saved = ctx.saved_tensors
        with torch.cuda.device_of(dy):
            dsource, dprojections, dweights = _run_backward(
                plan, _walks(s.S, order, saved[:4], saved[4:]), dy.contiguous(), kept
            )
        dA, ddt_weight, ddt_bias, dD = dweights.sum(0).split([s.N, s.R, 1, 1], dim=1)  # each (K, rows, E)
        gradients = [
            ddt_weight.transpose(1, 2), ddt_bias.squeeze(1), dA.transpose(1, 2), dD.squeeze(1),
            *dsource.unflatten(0, (-1, s.S)).sum(0), *dprojections.sum(0),
        ]  # fmt: skip
        return None, None, *(g.to(x.dtype) for g, x in zip(gradients, saved, strict=True))


def _walks(num_sources: int, order: Tensor, parameters: Sequence[Tensor], tensors: Sequence[Tensor]) -> Walks:
    from lifter.scan.triton_kernels import Walks

    return Walks(tuple(tensors[:num_sources]), tuple(tensors[num_sources:]), order, *parameters)


def _run_forward(plan: _Plan, walks: Walks) -> tuple[Tensor, Tensor | None]:
    """Return y (K, B, L, E) and, if wanted, the state before every chunk (B * chunks, K, N, E)."""
    from lifter.scan import triton_kernels as kernels

    s, sizes = plan.shape, plan.sizes(FORWARD_SPLIT)
    new = functools.partial(torch.empty, dtype=torch.float32, device=walks.A.device)
    length, num_spans = plan.spans(walks.A.device, FORWARD_PROGRAMS)
    programs = s.B * s.K * s.blocks
    states = None
    if num_spans > 1:
        states = new(s.B * num_spans, s.K, s.N, s.E)
        sums = new(s.B * num_spans, s.K, s.E)
        _launch(kernels.span_ends, programs * (num_spans - 1), walks, states, sums, s.L, length, num_spans, s=sizes)
        _chain(plan, walks.A, states, sums, num_spans, is_reverse=False)
    kept = new(s.B * plan.num_chunks, s.K, s.N, s.E) if plan.keeps_states else None
    y = new(s.K, s.B, s.L, s.E)
    _launch(
        kernels.forward, programs * num_spans, walks, y, states, kept, s.L, length, num_spans,
        keeps=plan.keeps_states, is_split=num_spans > 1, s=sizes,
    )  # fmt: skip
    return y, kept


def _chain(plan: _Plan, A: Tensor, states: Tensor, sums: Tensor, num_spans: int, *, is_reverse: bool) -> None:
    """Turn what every span adds to its neighbor's start into that start, in place."""
    from lifter.scan import triton_kernels as kernels

    s = plan.shape
    programs = s.B * s.K * -(-s.N * s.E // SPAN_LANES)
    _launch(
        kernels.chain_spans, programs, A, states, sums, num_spans,
        is_reverse=is_reverse, rows=SPAN_ROWS, lanes=SPAN_LANES, s=plan.sizes(FORWARD_SPLIT),
    )  # fmt: skip


def _run_backward(plan: _Plan, walks: Walks, dy: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients per walk, channel block and program, laid out as in ``triton_kernels.backward``."""
    from lifter.scan import triton_kernels as kernels

    s = plan.shape
    new: Callable[..., Tensor] = functools.partial(torch.empty, dtype=torch.float32, device=dy.device)
    length, num_spans = plan.spans(dy.device, BACKWARD_PROGRAMS)
    programs = s.B * s.K * s.blocks
    carries = None
    if num_spans > 1:
        carries = new(s.B * num_spans, s.K, s.N, s.E)
        sums = new(s.B * num_spans, s.K, s.E)
        _launch(
            kernels.adjoint_ends, programs * (num_spans - 1), walks, dy, carries, sums, s.L, length, num_spans,
            s=plan.sizes(FORWARD_SPLIT),
        )  # fmt: skip
        _chain(plan, walks.A, carries, sums, num_spans, is_reverse=True)
    sizes = plan.sizes(BACKWARD_SPLIT)
    scratch = new(programs * num_spans, plan.cut.chunk // plan.cut.tile, CHANNELS * sizes.N_)
    dsource = new(s.K, s.B, s.L, s.E)
    dprojections = new(s.blocks, s.S, s.B, s.L, s.row_width)
    dweights = new(s.B * num_spans, s.K, s.N + s.R + 2, s.E)
    _launch(
        kernels.backward, programs * num_spans, walks, dy, kept, carries, scratch, dsource, dprojections, dweights, s.L,
        length, num_spans, is_split=num_spans > 1, s=sizes,
    )  # fmt: skip
    return dsource, dprojections, dweights
