"""The compiled CPU scan: ``kernel.cpp`` at the widest instruction set of this machine, wrapped for autograd."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SOURCES = [Path(__file__).with_name(name) for name in ("kernel.cpp", "fused_ops.cpp", "vectors.h")]  # as in setup.py
LANES = {"portable": 4, "avx2": 8, "avx512": 16}
CHANNEL_MULTIPLE = 16  # channels are padded to a multiple of the widest vector
FUNCTIONS = (
    "scan_forward", "scan_backward", "grid_conv_forward", "grid_conv_backward",
    "gated_norm_forward", "gated_norm_backward",
)  # fmt: skip
_POINTERS = (
    "source", "proj", "delta", "order", "A2", "dt_weight", "dt_bias", "D", "y", "checkpoints",
    "dy", "dsource", "dproj", "ddelta", "dA2", "ddt_weight", "ddt_bias", "dD",
)  # fmt: skip


class _Direction(ctypes.Structure):
    """Mirror of ``struct Direction`` in kernel.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in _POINTERS] + [
        ("proj_stride", ctypes.c_int64),
        ("rank", ctypes.c_int32),
        ("softplus", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("adds_y", ctypes.c_int32),
        ("adds_dsource", ctypes.c_int32),
    ]


@functools.cache
def kernel(name: str) -> ctypes.CDLL | str:
    """Return the compiled kernel ``name`` ("portable", "avx2", "avx512"), or the reason why it cannot run here."""
    spec = importlib.util.find_spec(f"lifter.scan._kernel_{name}")
    if spec is None or spec.origin is None:
        return f"no compiled {name} kernel: install with a C++ compiler at hand (g++ or clang++) and install again"
    portable = importlib.util.find_spec("lifter.scan._kernel_portable")
    if portable is None or portable.origin is None:
        return "no compiled portable kernel: install again with a C++ compiler at hand"
    if LANES[name] > ctypes.CDLL(portable.origin).scan_supported_lanes():
        return f"this processor has no {name}"
    library = ctypes.CDLL(spec.origin)
    library.scan_source_sha256.restype = ctypes.c_char_p
    if library.scan_source_sha256().decode() != hashlib.sha256(b"".join(x.read_bytes() for x in SOURCES)).hexdigest():
        return f"the compiled {name} kernel is older than its sources: install again (make clean; make demo)"
    pointer, long, integer = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.scan_forward.argtypes = [pointer, integer, long, long, long, integer]
    library.scan_backward.argtypes = [pointer, integer, integer, long, long, long, integer]
    library.grid_conv_forward.argtypes = [pointer, long, *[pointer] * 3, *[long] * 4, integer]
    library.grid_conv_backward.argtypes = [pointer, long, *[pointer] * 7, *[long] * 4, integer]
    library.gated_norm_forward.argtypes = [
        *[pointer] * 2, long, *[pointer] * 2, ctypes.c_float, pointer, *[long] * 2, integer,
    ]  # fmt: skip
    library.gated_norm_backward.argtypes = [
        *[pointer] * 2, long, *[pointer] * 2, ctypes.c_float, *[pointer] * 5, *[long] * 3, integer,
    ]  # fmt: skip
    for function in FUNCTIONS:
        getattr(library, function).restype = None
    return library


@functools.cache
def best_kernel() -> str | None:
    """Return the name of the widest kernel that runs here, None if none was compiled."""
    usable = [name for name in LANES if not isinstance(kernel(name), str)]
    return usable[-1] if usable else None


def library(name: str | None = None) -> ctypes.CDLL:
    """Return the compiled kernel ``name``, by default the widest that runs here.

    Raises:
        RuntimeError: It was not compiled, or cannot run here.
    """
    compiled = kernel(name or best_kernel() or "portable")
    if isinstance(compiled, str):
        raise RuntimeError(f"compiled CPU scan: {compiled}")
    return compiled


def why_not(device: torch.device) -> str | None:
    """Return None if the kernel can run on ``device``, else the reason."""
    if device.type != "cpu":
        return f"runs on the CPU only, not on {device.type}"
    return None if best_kernel() else str(kernel("portable"))


def cross_scan(sources, projections, dt_weight, dt_bias, A, D, order, *, instructions=None) -> Tensor:
    """Return y (B, L, E); shapes as in ``lifter.scan.cross_scan``. At most 16 states."""
    (K, _, R), N = dt_weight.shape, A.shape[2]
    if N > 16:
        raise ValueError(f"the compiled CPU scan holds at most 16 states, got {N}; use backend='torch'")
    inputs = (dt_weight, dt_bias, A, D, *sources, *projections)
    keeps_states = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    layout = _Layout(K, len(sources), R, N, keeps_states, library(instructions))
    return _Scan.apply(layout, order.to(torch.int32), *inputs)


@dataclass(frozen=True)
class _Layout:
    """How the flat tensor list of ``_Scan`` is to be read, and what to run it on."""

    K: int
    num_sources: int
    R: int
    N: int
    keeps_states: bool
    library: ctypes.CDLL


class _Scan(torch.autograd.Function):
    """K walks over token-major arrays; the tensors after D are sources and projections."""

    @staticmethod
    def forward(ctx, layout: _Layout, order, dt_weight, dt_bias, A, D, *tensors):
        n, K, R = layout.num_sources, layout.K, layout.R
        E = tensors[0].shape[2]
        # padded channels get a zero source and zero parameters: they add nothing to any output or gradient
        pad = -E % CHANNEL_MULTIPLE
        sources = [_padded(x, pad) for x in tensors[:n]]
        projections = [_padded_gates(x, R, layout.N) for x in tensors[n:]]
        A2 = torch.nn.functional.pad(A, (0, 16 - layout.N)).transpose(1, 2) * math.log2(math.e)  # (K, 16, E)
        weights = [
            _padded(dt_weight.transpose(1, 2), pad),  # (K, R, E)
            _padded(dt_bias, pad),
            _padded(A2, pad),
            _padded(D, pad),
        ]
        B, L, padded = sources[0].shape
        y = torch.empty_like(sources[0])
        chunks = -(-L // layout.library.scan_chunk())
        checkpoints = torch.empty(K, B, chunks, 16, padded) if layout.keeps_states else None
        directions = _directions(layout, order, sources, projections, weights)
        for k, direction in enumerate(directions):
            direction.y, direction.adds_y = y.data_ptr(), int(k > 0)
            direction.checkpoints = 0 if checkpoints is None else checkpoints[k].data_ptr()
        layout.library.scan_forward(ctypes.byref(directions), K, B, L, padded, torch.get_num_threads())
        ctx.layout, ctx.E = layout, E
        ctx.save_for_backward(order, checkpoints, *weights, *sources, *projections)
        return y[..., :E]

    @staticmethod
    def backward(ctx, dy):
        layout, E = ctx.layout, ctx.E
        order, checkpoints, *saved = ctx.saved_tensors
        n = layout.num_sources
        weights, sources, projections = saved[:4], saved[4 : 4 + n], saved[4 + n :]
        B, L, padded = sources[0].shape
        dy = _padded(dy, padded - E)
        dsources = [torch.empty_like(x) for x in sources]
        dprojections = [torch.empty_like(x) for x in projections]
        dweights = [torch.empty(layout.K, B, *w.shape[1:]) for w in weights]  # one row per sample, summed below
        directions = _directions(layout, order, sources, projections, weights)
        for k, direction in enumerate(directions):
            source, slot = k % n, k // n
            direction.checkpoints = checkpoints[k].data_ptr()
            direction.dy = dy.data_ptr()
            direction.dsource, direction.adds_dsource = dsources[source].data_ptr(), int(k >= n)
            direction.dproj = dprojections[source].data_ptr() + 4 * slot * (layout.R + 32)
            for name, gradient in zip(("ddt_weight", "ddt_bias", "dA2", "dD"), dweights, strict=True):
                setattr(direction, name, gradient[k].data_ptr())
            if not ctx.needs_input_grad[4]:
                direction.dA2 = 0
        layout.library.scan_backward(ctypes.byref(directions), layout.K, n, B, L, padded, torch.get_num_threads())
        ddt_weight, ddt_bias, dA, dD = (gradient.sum(1)[..., :E] for gradient in dweights)
        return (
            None, None, ddt_weight.transpose(1, 2), ddt_bias,
            dA[:, : layout.N].transpose(1, 2) if ctx.needs_input_grad[4] else None, dD,
            *(x[..., :E] for x in dsources),
            *(_unpadded_gates(x, layout.R, layout.N) for x in dprojections),
        )  # fmt: skip


def _padded(x: Tensor, pad: int) -> Tensor:
    """Return float32 contiguous ``x`` with ``pad`` zeros behind the last axis."""
    return torch.nn.functional.pad(x.float(), (0, pad)).contiguous() if pad else x.float().contiguous()


def _padded_gates(x: Tensor, R: int, N: int) -> Tensor:
    """Return projections (B, L, S * (R + 2 N)) with both gates padded to 16 states."""
    if N == 16:
        return x.float().contiguous()
    step, gate_in, gate_out = x.float().unflatten(-1, (-1, R + 2 * N)).split([R, N, N], dim=-1)
    gates = [torch.nn.functional.pad(gate, (0, 16 - N)) for gate in (gate_in, gate_out)]
    return torch.cat([step, *gates], dim=-1).flatten(-2).contiguous()


def _unpadded_gates(x: Tensor, R: int, N: int) -> Tensor:
    """Return the inverse of ``_padded_gates``."""
    if N == 16:
        return x
    step, gate_in, gate_out = x.unflatten(-1, (-1, R + 32)).split([R, 16, 16], dim=-1)
    return torch.cat([step, gate_in[..., :N], gate_out[..., :N]], dim=-1).flatten(-2)


def _directions(
    layout: _Layout,
    order: Tensor,
    sources: Sequence[Tensor],
    projections: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> ctypes.Array:
    """Return the C descriptions of all K walks; the tensors must outlive the call that uses them."""
    directions = (_Direction * layout.K)()
    for k, direction in enumerate(directions):
        source, slot = k % layout.num_sources, k // layout.num_sources
        direction.source = sources[source].data_ptr()
        direction.proj = projections[source].data_ptr() + 4 * slot * (layout.R + 32)
        direction.order = order[k].data_ptr()
        for name, weight in zip(("dt_weight", "dt_bias", "A2", "D"), weights, strict=True):
            setattr(direction, name, weight[k].data_ptr())
        direction.proj_stride = projections[source].shape[-1]
        direction.rank, direction.softplus, direction.group = layout.R, 1, source
    return directions
