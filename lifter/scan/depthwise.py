"""``grid_conv``: the 3x3 depthwise convolution with SiLU before the scans of a PoseMamba block.

On a CUDA GPU whose scans run in Triton it is one kernel there, too; anywhere else PyTorch's convolution.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def grid_conv(x: Tensor, weight: Tensor, bias: Tensor, backend: str) -> Tensor:
    """Return SiLU of the convolution of x, (B, T, J, E) contiguous.

    Args:
        x: (B, T, J, E); channels next to each other and tokens at a constant distance, or it is copied.
        weight: (E, 1, 3, 3), axes time and joint, as ``nn.Conv2d(E, E, 3, padding=1, groups=E)`` has it.
        bias: (E,).
        backend: The scan's, resolved; "triton" has kernels of its own.
    """
    if backend != "triton":
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1, groups=len(bias)).permute(0, 2, 3, 1)
        return F.silu(y).contiguous()
    is_even = x.stride()[:3] == (x.shape[1] * x.shape[2] * x.stride(2), x.shape[2] * x.stride(2), x.stride(2))
    if x.stride(3) != 1 or not is_even:
        x = x.contiguous()
    return _GridConv.apply(x, weight, bias)


class _GridConv(torch.autograd.Function):
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
