"""Triton kernels of ``fused_ops.grid_conv``: 3x3 depthwise convolution of the (frame, joint) grid and SiLU.

PyTorch's own convolutions want channels first, or fall back to slow ones; these read every token where it lies, and
the gradient recomputes what comes before SiLU instead of keeping it. Sums have a fixed order: no atomics.

Symbols: T frames, J joints, E channels; ``row`` numbers lie between two tokens of x. Taps are (dt, dj) row by row:
weight (9, E).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

ROWS, COLUMNS = 8, 64  # tokens and channels of a block; at 16 x 64 the gradient's kernel spills registers
BLOCKS = 32  # that one program sums weight gradients over


@triton.jit
def shifted(x, token, t, j, channel, is_there, T, J, row, tap):
    """Return x at the token that ``tap`` looks at, 0 beyond the grid: (rows, channels)."""
    dt, dj = tap // 3 - 1, tap % 3 - 1
    inside = is_there & (t + dt >= 0) & (t + dt < T) & (j + dj >= 0) & (j + dj < J)
    return tl.load(x + (token + dt * J + dj)[:, None] * row + channel[None], mask=inside[:, None], other=0.0)


@triton.jit
def convolve(
    x, weight, bias, y, num_tokens, T, J, row, E, has_silu: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr
):
    """Write y (tokens, E): the convolution of x, with bias and SiLU if ``has_silu``."""
    token = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * columns + tl.arange(0, columns)
    is_channel = channel < E
    channel = tl.where(is_channel, channel, 0)
    t, j = (token // J) % T, token % J
    total = tl.zeros((rows, columns), tl.float32)
    if has_silu:
        total += tl.load(bias + channel)[None]
    for tap in tl.static_range(9):
        seen = shifted(x, token, t, j, channel, token < num_tokens, T, J, row, tap)
        total += seen * tl.load(weight + tap * E + channel)[None]
    if has_silu:
        total = total * tl.sigmoid(total)
    tl.store(y + token[:, None] * E + channel[None], total, mask=(token < num_tokens)[:, None] & is_channel[None])


@triton.jit
def gradients(
    x,
    weight,
    bias,
    dy,
    dpre,
    partial,
    num_tokens,
    T,
    J,
    row,
    E,
    blocks: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    """Write the gradient before SiLU, dpre (tokens, E), and this program's sums for weight and bias (16, E)."""
    program = tl.program_id(0)
    channel = tl.program_id(1) * columns + tl.arange(0, columns)
    is_channel = channel < E
    channel = tl.where(is_channel, channel, 0)
    kind = tl.arange(0, 16)[:, None]  # 9 taps, the bias, and padding
    sums = tl.zeros((16, columns), tl.float32)
    for block in range(blocks):
        token = (program.to(tl.int64) * blocks + block) * rows + tl.arange(0, rows)
        is_there = token < num_tokens
        t, j = (token // J) % T, token % J
        total = tl.zeros((rows, columns), tl.float32) + tl.load(bias + channel)[None]
        for tap in tl.static_range(9):
            seen = shifted(x, token, t, j, channel, is_there, T, J, row, tap)
            total += seen * tl.load(weight + tap * E + channel)[None]
        gate = tl.sigmoid(total)
        here = token[:, None] * E + channel[None]
        mask = is_there[:, None] & is_channel[None]
        g = tl.load(dy + here, mask=mask, other=0.0) * gate * (1 + total * (1 - gate))
        tl.store(dpre + here, g, mask=mask)
        for tap in tl.static_range(9):
            product = tl.sum(shifted(x, token, t, j, channel, is_there, T, J, row, tap) * g, axis=0)
            sums += tl.where(kind == tap, product[None], 0.0)
        sums += tl.where(kind == 9, tl.sum(g, axis=0)[None], 0.0)
    place = partial + program.to(tl.int64) * 16 * E + kind * E + channel[None]
    tl.store(place, sums, mask=is_channel[None] & (kind < 10))


def launch_forward(x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, T: int, J: int, row: int) -> None:
    """Write y (tokens, E) float32: the convolution of x with weight (9, E), and with a bias (E,) also SiLU."""
    tokens, E = y.shape
    grid = (triton.cdiv(tokens, ROWS), triton.cdiv(E, COLUMNS))
    convolve[grid](
        x, weight, weight if bias is None else bias, y, tokens, T, J, row, E, bias is not None, ROWS, COLUMNS
    )


def launch_backward(
    x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor, dpre: Tensor, T: int, J: int, row: int
) -> tuple[Tensor, Tensor]:
    """Write dpre (tokens, E) and return the gradients of weight (9, E) and bias (E,)."""
    tokens, E = dy.shape
    programs = triton.cdiv(tokens, ROWS * BLOCKS)
    partial = dy.new_empty(programs, 16, E)
    grid = (programs, triton.cdiv(E, COLUMNS))
    gradients[grid](x, weight, bias, dy, dpre, partial, tokens, T, J, row, E, BLOCKS, ROWS, COLUMNS)
    sums = partial[:, :10].sum(dim=0)
    return sums[:9], sums[9]
