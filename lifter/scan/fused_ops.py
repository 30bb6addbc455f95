"""The fused operations of a PoseMamba block: ``grid_conv`` before the scans, ``gated_norm`` behind them.

Where the scans run in Triton or compiled for the CPU, these are single kernels there, too: a pass over the tokens
instead of one per operation. Anywhere else they are PyTorch's operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lifter.scan import cpu

PARTS = 64  # of the rows whose sums a thread keeps; fixed, so that results do not depend on the number of threads


def grid_conv(x: Tensor, weight: Tensor, bias: Tensor, backend: str) -> Tensor:
    """Return SiLU of the 3x3 depthwise convolution of x, (B, T, J, E) contiguous.

    Args:
        x: (B, T, J, E); channels next to each other and tokens at a constant distance, or it is copied.
        weight: (E, 1, 3, 3), axes time and joint, as ``nn.Conv2d(E, E, 3, padding=1, groups=E)`` has it.
        bias: (E,).
        backend: The scan's, resolved; "triton" and "cpu" have kernels of their own.
    """
    if backend == "triton":
        return _TritonConv.apply(_evenly_spaced(x), weight, bias)
    if _is_compiled(backend, x):
        return _CompiledConv.apply(_evenly_spaced(x), weight, bias)
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1, groups=len(bias)).permute(0, 2, 3, 1)
    return F.silu(y).contiguous()


def gated_norm(y: Tensor, z: Tensor, weight: Tensor, bias: Tensor, eps: float, backend: str) -> Tensor:
    """Return LayerNorm(y) * SiLU(z), (B, T, J, E) contiguous.

    Args:
        y: (B, T, J, E).
        z: (B, T, J, E); channels next to each other and tokens at a constant distance, or it is copied.
        weight: (E,) of the norm.
        bias: (E,) of the norm.
        eps: Of the norm.
        backend: The scan's, resolved; "cpu" has a kernel of its own.
    """
    if _is_compiled(backend, y) and z.dtype == torch.float32:
        return _CompiledNorm.apply(y.contiguous(), _evenly_spaced(z), weight, bias, eps)
    return F.layer_norm(y, y.shape[-1:], weight, bias, eps) * F.silu(z)


def _is_compiled(backend: str, x: Tensor) -> bool:
    return backend == "cpu" and x.dtype == torch.float32 and x.shape[-1] % cpu.CHANNEL_MULTIPLE == 0


def _evenly_spaced(x: Tensor) -> Tensor:
    """Return x (B, T, J, E), copied unless its tokens lie at one distance from each other."""
    is_even = x.stride()[:3] == (x.shape[1] * x.shape[2] * x.stride(2), x.shape[2] * x.stride(2), x.stride(2))
    return x if x.stride(3) == 1 and is_even else x.contiguous()


class _CompiledConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        taps = weight.flatten(1).T.contiguous()  # (9, E)
        y = torch.empty(x.shape)
        ctx.library = cpu.library()
        ctx.library.grid_conv_forward(
            x.data_ptr(), x.stride(2), taps.data_ptr(), bias.data_ptr(), y.data_ptr(), *x.shape, torch.get_num_threads()
        )
        ctx.save_for_backward(x, taps, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, taps, bias = ctx.saved_tensors
        dy, dx, scratch = dy.contiguous(), torch.empty(x.shape), torch.empty(x.shape)
        dtaps, dbias = torch.empty(len(x), *taps.shape), torch.empty(len(x), *bias.shape)
        outputs = [tensor.data_ptr() for tensor in (dx, dtaps, dbias, scratch)]
        ctx.library.grid_conv_backward(
            x.data_ptr(), x.stride(2), taps.data_ptr(), bias.data_ptr(), dy.data_ptr(), *outputs, *x.shape,
            torch.get_num_threads(),
        )  # fmt: skip
        return dx, dtaps.sum(0).T.reshape(-1, 1, 3, 3), dbias.sum(0)


class _CompiledNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        out = torch.empty(y.shape)
        ctx.library, ctx.eps = cpu.library(), eps
        ctx.library.gated_norm_forward(
            y.data_ptr(), z.data_ptr(), z.stride(2), weight.data_ptr(), bias.data_ptr(), eps, out.data_ptr(),
            y.shape[:3].numel(), y.shape[3], torch.get_num_threads(),
        )  # fmt: skip
        ctx.save_for_backward(y, z, weight, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        y, z, weight, bias = ctx.saved_tensors
        dout, dy, dz = dout.contiguous(), torch.empty(y.shape), torch.empty(y.shape)
        rows, E = y.shape[:3].numel(), y.shape[3]
        parts = min(PARTS, rows)
        dweight, dbias = torch.empty(parts, E), torch.empty(parts, E)
        outputs = [tensor.data_ptr() for tensor in (dy, dz, dweight, dbias)]
        ctx.library.gated_norm_backward(
            y.data_ptr(), z.data_ptr(), z.stride(2), weight.data_ptr(), bias.data_ptr(), ctx.eps, dout.data_ptr(),
            *outputs, rows, E, parts, torch.get_num_threads(),
        )  # fmt: skip
        return dy, dz, dweight.sum(0), dbias.sum(0), None


class _TritonConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from lifter.scan import triton_depthwise as kernels

        B, T, J, E = x.shape
        taps = weight.view(E, 9).T.contiguous()
        y = torch.empty(B * T * J, E, device=x.device, dtype=torch.float32)
        kernels.launch_forward(x, taps, bias, y, T, J, x.stride(2))
        ctx.save_for_backward(x, taps, bias)
        return y.view(B, T, J, E)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from lifter.scan import triton_depthwise as kernels

        x, taps, bias = ctx.saved_tensors
        B, T, J, E = x.shape
        dpre = torch.empty(B * T * J, E, device=x.device, dtype=torch.float32)
        dtaps, dbias = kernels.launch_backward(x, taps, bias, dy.contiguous().view(-1, E), dpre, T, J, x.stride(2))
        dx = torch.empty_like(dpre)
        kernels.launch_forward(dpre, taps.flip(0), None, dx, T, J, E)
        return dx.view(B, T, J, E).to(x.dtype), dtaps.T.reshape(E, 1, 3, 3), dbias
