"""The Triton kernels under ``triton_scan``: K walks over token-major arrays, each cut into spans that run side by side.

    h_l = a_l h_(l-1) + delta_l u_l B_l,   a_l = exp(delta_l A),   y_l = <C_l, h_l> + D u_l
    backwards:  g_l = dy_l C_l + a_(l+1) g_(l+1),   g being the gradient of h and a_(l+1) g_(l+1) the carry

Spans. One sequence has too few channels to fill a GPU, so its tokens are cut into spans and run in three passes: every
span from a zero state, keeping only its last state and the sum of its steps (``span_ends``); from those the true start
of every span, one short sequence (``chain_spans``: A is constant in time, so that a span as a whole decays a state by
exp(A * sum of steps)); every span again from its true start, writing the output (``forward``). The gradient does the
same backwards (``adjoint_ends``, ``chain_spans``, ``backward``). The price is to take all exponentials twice; a batch
that fills the GPU by itself has one span per sequence and skips the first two passes.

Inside a span. A program is one warp over P * Q channels with all their states in registers. It takes ``tile`` tokens
at once: loads, steps and decays of a tile are independent work, only one multiply-add per state and token is
sequential. ``tl.associative_scan`` would share one sequence among lanes and pay with log-depth work and shuffles; but
lanes have enough to do with channels and spans, and the exponentials are the limit (a multiprocessor takes 16 per
clock; a token of a warp, 16 states, has 576 with its steps and about 150 ... 190 other instructions for 4 schedulers).
Loads of later tiles are in flight meanwhile, through shared memory (``num_stages``).

Lanes. Tiles are (tile, P, states, Q), and Triton deals lanes from the last axis on:

- P = 1, Q = 32 (forward): a lane owns a channel with all its states; the sum over states needs no shuffle.
- P = 4, Q = 8 (backward): 8 lanes of channels by 4 of states. The gradients of both gates are sums over channels, and
  part of such a sum is inside a lane: 12 shuffles per token and gate instead of 80.

Symbols: B batch, L tokens, E channels per walk, N states, R rank of the step projection, K walks, S sources; walk k
reads source ``k % S`` and slot ``k // S`` of its projections. A2 is A log2(e), for ``exp2``. u, delta, B, C, D and y
are those of the equations; dx is the gradient of x. Sizes with a trailing underscore are the next power of two, what
they add is masked. Offsets inside one sample are 32 bits, all others 64. All is float32, and sums have a fixed order:
no atomics.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


class Walks(NamedTuple):
    """What the walks read.

    Attributes:
        sources: S tensors (B, L, E).
        projections: S tensors (B, L, slots * (R + 2 N)).
        order: (K, L) int64.
        dt_weight: (K, E, R).
        dt_bias: (K, E).
        A: (K, E, N).
        D: (K, E).
    """

    sources: tuple[Tensor, ...]
    projections: tuple[Tensor, ...]
    order: Tensor
    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor


class Sizes(NamedTuple):
    """What the kernels are compiled for.

    Attributes:
        K: Walks.
        S: Sources.
        E: Channels of a walk.
        N: States.
        R: Rank of the step projection.
        N_: N, padded.
        R_: R, padded.
        chunk: Tokens between two kept states.
        tile: Tokens taken at once.
        P: Channels of a program, outer factor.
        Q: Channels of a program, inner factor: neighboring lanes.
        stages: Tiles whose loads are in flight at once, through shared memory.
    """

    K: int
    S: int
    E: int
    N: int
    R: int
    N_: int
    R_: int
    chunk: int
    tile: int
    P: int
    Q: int
    stages: int


# ------------------------------------------------------------------------------------------------ places and parameters


@triton.jit
def _place(first_span, num_spans, s: tl.constexpr):
    """Return sample, span, walk and channel block of this program; neighbors share their tokens."""
    program = tl.program_id(0)
    blocks: tl.constexpr = (s.E + s.P * s.Q - 1) // (s.P * s.Q)
    block = program % blocks
    k = program // blocks % s.K
    span = program // (blocks * s.K) % num_spans + first_span
    sample = program // (blocks * s.K) // num_spans
    return sample.to(tl.int64), span, k, block


@triton.jit
def _num_samples(num_spans, s: tl.constexpr):
    """Return B as int64, from a grid of one program per sample, span, walk and channel block."""
    return tl.num_programs(0).to(tl.int64) // (num_spans * s.K * tl.cdiv(s.E, s.P * s.Q))


@triton.jit
def _channels(block, s: tl.constexpr):
    """Return the channel numbers (P, Q) of a block; those from E on are padding.

    The hint that no two are neighbors keeps Triton from loading four at a time: it would then pass every tile through
    shared memory to bring it into the lanes that compute, with far more registers (180 instead of 104 in ``forward``).
    """
    e = (block * s.P + tl.arange(0, s.P)[:, None]) * s.Q + tl.arange(0, s.Q)[None, :]
    return tl.max_contiguous(e, (1, 1))


@triton.jit
def _per_state(pointer, k, e, width: tl.constexpr, padded: tl.constexpr, s: tl.constexpr):
    """Return (P, padded, Q) of a parameter (K, E, width), zero in the padding."""
    n = tl.arange(0, padded)[None, :, None]
    mask = (e[:, None, :] < s.E) & (n < width)
    return tl.load(pointer + (k * s.E + e[:, None, :]) * width + n, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _per_channel(pointer, k, e, s: tl.constexpr):
    """Return (P, Q) of a parameter (K, E), zero in the padding."""
    return tl.load(pointer + k * s.E + e, mask=e < s.E, other=0.0).to(tl.float32)


@triton.jit
def _pick(options, i):
    """Return ``options[i]`` of a tuple of pointers."""
    chosen = options[0]
    for other in tl.static_range(1, len(options)):
        if i == other:
            chosen = options[other]
    return chosen


@triton.jit
def _state_offsets(row, k, e, s: tl.constexpr):
    """Return offsets (P, N_, Q) of row ``row`` in states (rows, K, N, E), and their mask; row is int64."""
    n = tl.arange(0, s.N_)[None, :, None]
    return (row * s.K + k) * (s.N * s.E) + (n * s.E + e[:, None, :]), (n < s.N) & (e[:, None, :] < s.E)


@triton.jit
def _load_state(pointer, row, k, e, s: tl.constexpr):
    at, mask = _state_offsets(row, k, e, s)
    return tl.load(pointer + at, mask=mask, other=0.0)


@triton.jit
def _store_state(pointer, row, k, e, value, s: tl.constexpr):
    at, mask = _state_offsets(row, k, e, s)
    tl.store(pointer + at, value, mask=mask)


# ------------------------------------------------------------------------------------------------ one tile of tokens


@triton.jit
def _tokens(w, k, first, L, s: tl.constexpr):
    """Return the tokens (tile,) int32 that walk k visits from step ``first`` on, and which of them exist."""
    step = first + tl.arange(0, s.tile)
    live = step < L
    return tl.load(w.order + k.to(tl.int64) * L + step, mask=live, other=0).to(tl.int32), live


@triton.jit
def _per_token(pointer, origin, token, live, e, s: tl.constexpr):
    """Return (tile, P, Q) of the given rows of an array (rows, E), zero in the padding."""
    mask = live[:, None, None] & (e < s.E)[None]
    at = origin * s.E + (token[:, None, None] * s.E + e[None])
    return tl.load(pointer + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store_per_token(pointer, origin, token, live, e, value, s: tl.constexpr):
    """Write (tile, P, Q) to the given tokens of an array (rows, E)."""
    mask = live[:, None, None] & (e < s.E)[None]
    tl.store(pointer + origin * s.E + (token[:, None, None] * s.E + e[None]), value, mask=mask)


@triton.jit
def _projected(w, k, origin, token, live, first, count: tl.constexpr, padded: tl.constexpr, s: tl.constexpr):
    """Return (tile, padded) of ``count`` neighboring projections of walk k, zero in the padding."""
    width: tl.constexpr = s.R + 2 * s.N
    n = tl.arange(0, padded)[None, :]
    row_width: tl.constexpr = width * (s.K // s.S)
    at = origin * row_width + (token[:, None] * row_width + k // s.S * width + first + n)
    return tl.load(_pick(w.projections, k % s.S) + at, mask=live[:, None] & (n < count), other=0.0).to(tl.float32)


@triton.jit
def _source(w, k, origin, token, live, e, s: tl.constexpr):
    """Return u (tile, P, Q)."""
    return _per_token(_pick(w.sources, k % s.S), origin, token, live, e, s)


@triton.jit
def _softplus(x):
    """Return log(1 + exp(x)), to float32 precision also where it is tiny as steps often are, and its derivative.

    log1p(z) = 2 artanh(z / (2 + z)) for z = exp(-|x|) in (0, 1]: the series is relative to z, where log(1 + z) would
    lose the digits of a small z. Above 20 both round to torch's own x and 1.
    """
    z = tl.exp2(-tl.abs(x) * LOG2E)
    q = z / (2 + z)
    q2 = q * q  # at most 1/9: eight terms leave 2e-9
    series = 1 / 9 + q2 * (1 / 11 + q2 * (1 / 13 + q2 / 15))
    series = 1 + q2 * (1 / 3 + q2 * (1 / 5 + q2 * (1 / 7 + q2 * series)))
    return tl.maximum(x, 0.0) + 2 * q * series, tl.where(x >= 0, 1.0, z) / (1 + z)


@triton.jit
def _steps(w, k, origin, token, live, e, dt_weight, dt_bias, s: tl.constexpr):
    """Return delta and its derivative by the raw steps (tile, P, Q), and the step inputs (tile, R_).

    Both are zero where there is no token, so that states pass unchanged and nothing is added to a gradient.
    """
    is_live = live[:, None, None]
    inputs = _projected(w, k, origin, token, live, 0, s.R, s.R_, s)
    raw = tl.where(is_live, dt_bias[None], 0.0) + tl.sum(inputs[:, None, :, None] * dt_weight[None], 2)
    delta, slope = _softplus(raw)
    return tl.where(is_live, delta, 0.0), tl.where(is_live, slope, 0.0), inputs


@triton.jit
def _is_row(x, i):
    """Return a mask of row i that broadcasts with x (rows, ...)."""
    rows = tl.arange(0, x.shape[0]) == i
    for axis in tl.static_range(1, len(x.shape)):
        rows = tl.expand_dims(rows, axis)
    return rows


@triton.jit
def _row(x, i):
    """Return x[i] of a tile without arithmetic: integer sums with zeros fold to a choice of registers."""
    bits = tl.where(_is_row(x, i), x.to(tl.int32, bitcast=True), 0)
    return tl.sum(bits, 0).to(tl.float32, bitcast=True)


@triton.jit
def _recur(decay, gained, h):
    """Return the states before every step of a tile (tile, ...) and the state after the last (...)."""
    before = decay
    for i in tl.static_range(decay.shape[0]):
        before = tl.where(_is_row(before, i), h[None], before)
        h = _row(decay, i) * h + _row(gained, i)
    return before, h


@triton.jit
def _recur_back(decay, gained, carry):
    """Return the adjoints g_l = gained_l + carry_l (tile, P, N_, Q) and the carry a_l g_l out of the first."""
    g = gained
    for i in tl.static_range(decay.shape[0] - 1, -1, -1):
        row = _row(gained, i) + carry
        g = tl.where(_is_row(g, i), row[None], g)
        carry = _row(decay, i) * row
    return g, carry


@triton.jit
def _parameters(w, k, e, s: tl.constexpr):
    """Return A2 = A log2(e) (P, N_, Q), dt_weight (P, R_, Q), dt_bias (P, Q) and D (P, Q)."""
    A2 = _per_state(w.A, k, e, s.N, s.N_, s) * LOG2E
    dt_weight = _per_state(w.dt_weight, k, e, s.R, s.R_, s)
    return A2, dt_weight, _per_channel(w.dt_bias, k, e, s), _per_channel(w.D, k, e, s)


@triton.jit
def _decays(delta, A2):
    """Return a (tile, P, N_, Q)."""
    return tl.exp2(delta[:, :, None, :] * A2[None])


@triton.jit
def _gains(w, k, origin, token, live, e, delta, s: tl.constexpr):
    """Return u (tile, P, Q), B (tile, 1, N_, 1) and what the state gains, delta u B (tile, P, N_, Q)."""
    u = _source(w, k, origin, token, live, e, s)
    gate = _projected(w, k, origin, token, live, s.R, s.N, s.N_, s)[:, None, :, None]
    return u, gate, (delta * u)[:, :, None, :] * gate


@triton.jit
def _gate_out(w, k, origin, token, live, s: tl.constexpr):
    """Return C (tile, 1, N_, 1)."""
    return _projected(w, k, origin, token, live, s.R + s.N, s.N, s.N_, s)[:, None, :, None]


# ------------------------------------------------------------------------------------------------ forward


@triton.jit(do_not_specialize=["L", "span_length", "num_spans"])
def span_ends(w, states, sums, L, span_length, num_spans, s: tl.constexpr):
    """First pass: write the last state of every span but the last, run from zero, as the next one's start.

    states (B * num_spans, K, N, E), sums of steps (B * num_spans, K, E).
    """
    sample, span, k, block = _place(0, num_spans - 1, s)
    origin = sample * L
    e = _channels(block, s)
    A2, dt_weight, dt_bias, _D = _parameters(w, k, e, s)
    h = tl.zeros_like(A2)
    total = tl.zeros_like(dt_bias)
    for first in tl.range(span * span_length, (span + 1) * span_length, s.tile, num_stages=s.stages):
        token, live = _tokens(w, k, first, L, s)
        delta = _steps(w, k, origin, token, live, e, dt_weight, dt_bias, s)[0]
        gained = _gains(w, k, origin, token, live, e, delta, s)[2]
        h = _recur(_decays(delta, A2), gained, h)[1]
        total += tl.sum(delta, 0)
    place = sample * num_spans + span
    _store_state(states, place + 1, k, e, h, s)
    tl.store(sums + (place * s.K + k) * s.E + e, total, mask=e < s.E)


@triton.jit(do_not_specialize=["num_spans"])
def chain_spans(
    A, states, sums, num_spans, is_reverse: tl.constexpr, rows: tl.constexpr, lanes: tl.constexpr, s: tl.constexpr
):
    """Second pass, in place: from what every span adds to the next one's start to that start; backwards likewise.

    A program holds ``lanes`` neighbors of the flattened (N, E) and takes ``rows`` spans at once, so that their loads
    are in flight together.
    """
    blocks: tl.constexpr = (s.N * s.E + lanes - 1) // lanes
    program = tl.program_id(0)
    k = program // blocks % s.K
    sample = (program // blocks // s.K).to(tl.int64)
    i = program % blocks * lanes + tl.arange(0, lanes)
    n, e, is_state = i // s.E, i % s.E, i < s.N * s.E
    A2 = tl.load(A + (k * s.E + e) * s.N + n, mask=is_state, other=0.0).to(tl.float32) * LOG2E
    h = tl.zeros([lanes], tl.float32)
    for first in range(0, num_spans, rows):
        step = first + tl.arange(0, rows)
        span, crossed = step, step - 1  # the span that starts, the one whose steps lie between it and the start before
        if is_reverse:
            span = num_spans - 1 - step
            crossed = span + 1
        mask = (step < num_spans)[:, None] & is_state[None]
        has_past = mask & (step >= 1)[:, None]
        at = ((sample * num_spans + span)[:, None] * s.K + k) * (s.N * s.E) + i[None]
        total_at = ((sample * num_spans + crossed)[:, None] * s.K + k) * s.E + e[None]
        gained = tl.load(states + at, mask=has_past, other=0.0)
        decay = tl.exp2(tl.load(sums + total_at, mask=has_past, other=0.0) * A2[None])
        starts = gained
        for j in tl.static_range(rows):
            h = _row(decay, j) * h + _row(gained, j)
            starts = tl.where(_is_row(starts, j), h[None], starts)
        tl.store(states + at, starts, mask=mask)


@triton.jit(do_not_specialize=["L", "span_length", "num_spans"])
def forward(
    w, y, states, kept, L, span_length, num_spans, keeps: tl.constexpr, is_split: tl.constexpr, s: tl.constexpr
):
    """Third pass: run every span from its start and write y (K, B, L, E), at the tokens' places.

    With ``keeps``, the state before every chunk goes to kept (B * chunks, K, N, E).
    """
    sample, span, k, block = _place(0, num_spans, s)
    origin = sample * L
    y_origin = k * (_num_samples(num_spans, s) * L) + origin
    e = _channels(block, s)
    A2, dt_weight, dt_bias, D = _parameters(w, k, e, s)
    h = tl.zeros_like(A2)
    if is_split:
        h = _load_state(states, sample * num_spans + span, k, e, s)
    span_end = tl.minimum((span + 1) * span_length, L)
    for chunk in range(span * span_length // s.chunk, tl.cdiv(span_end, s.chunk)):
        if keeps:
            _store_state(kept, sample * tl.cdiv(L, s.chunk) + chunk, k, e, h, s)
        chunk_end = tl.minimum((chunk + 1) * s.chunk, span_end)
        for first in tl.range(chunk * s.chunk, chunk_end, s.tile, num_stages=s.stages):
            token, live = _tokens(w, k, first, L, s)
            delta = _steps(w, k, origin, token, live, e, dt_weight, dt_bias, s)[0]
            u, _gate, gained = _gains(w, k, origin, token, live, e, delta, s)
            decay = _decays(delta, A2)
            before, h = _recur(decay, gained, h)
            after = decay * before + gained
            out = tl.sum(after * _gate_out(w, k, origin, token, live, s), 2) + D[None] * u
            _store_per_token(y, y_origin, token, live, e, out, s)


# ------------------------------------------------------------------------------------------------ backward


@triton.jit(do_not_specialize=["L", "span_length", "num_spans"])
def adjoint_ends(w, dy, carries, sums, L, span_length, num_spans, s: tl.constexpr):
    """First pass backwards: write the carry out of every span but the first, run from zero, for the one before it."""
    sample, span, k, block = _place(1, num_spans - 1, s)
    origin = sample * L
    e = _channels(block, s)
    A2, dt_weight, dt_bias, _D = _parameters(w, k, e, s)
    carry = tl.zeros_like(A2)
    total = tl.zeros_like(dt_bias)
    num_tiles = tl.cdiv(tl.minimum(span_length, L - span * span_length), s.tile)
    for tile in tl.range(num_tiles, num_stages=s.stages):
        token, live = _tokens(w, k, span * span_length + (num_tiles - 1 - tile) * s.tile, L, s)
        delta = _steps(w, k, origin, token, live, e, dt_weight, dt_bias, s)[0]
        dout = _per_token(dy, origin, token, live, e, s)
        gained = dout[:, :, None, :] * _gate_out(w, k, origin, token, live, s)
        carry = _recur_back(_decays(delta, A2), gained, carry)[1]
        total += tl.sum(delta, 0)
    place = sample * num_spans + span
    _store_state(carries, place - 1, k, e, carry, s)
    tl.store(sums + (place * s.K + k) * s.E + e, total, mask=e < s.E)


@triton.jit
def _scratch(tile, s: tl.constexpr):
    """Return offsets (P, N_, Q) of a tile in the scratch (programs, chunk / tile, P * N_ * Q), hinted as channels."""
    place = tl.program_id(0).to(tl.int64) * (s.chunk // s.tile) + tile
    p, n, q = tl.arange(0, s.P)[:, None, None], tl.arange(0, s.N_)[None, :, None], tl.arange(0, s.Q)[None, None, :]
    return place * (s.P * s.N_ * s.Q) + tl.max_contiguous((p * s.N_ + n) * s.Q + q, (1, 1, 1))


@triton.jit
def _keep_tile_starts(w, scratch, h, k, origin, begin, end, L, e, A2, dt_weight, dt_bias, s: tl.constexpr):
    """Run steps begin ... end - 1 from state h and write the state before every tile to this program's scratch."""
    for first in range(begin, end, s.tile):
        tl.store(scratch + _scratch((first - begin) // s.tile, s), h)
        token, live = _tokens(w, k, first, L, s)
        delta = _steps(w, k, origin, token, live, e, dt_weight, dt_bias, s)[0]
        gained = _gains(w, k, origin, token, live, e, delta, s)[2]
        h = _recur(_decays(delta, A2), gained, h)[1]


@triton.jit
def _over_channels(x):
    """Return the sum (tile, N_) of a tile (tile, P, N_, Q): inside lanes first, then across."""
    return tl.sum(tl.sum(x, 1), 2)


@triton.jit
def _tile_gradients(w, dout, h, carry, k, origin, token, live, e, A2, dt_weight, dt_bias, D, s: tl.constexpr):
    """Return all that one tile adds to the gradients, from the state h before it and the carry behind it.

    In order: u and raw steps (tile, P, Q), step inputs (tile, R_), both gates (tile, N_), A (P, N_, Q), dt_weight
    (P, R_, Q), D (P, Q); last the carry out of the tile.
    """
    delta, slope, inputs = _steps(w, k, origin, token, live, e, dt_weight, dt_bias, s)
    u, gate, gained = _gains(w, k, origin, token, live, e, delta, s)
    decay = _decays(delta, A2)
    left = decay * _recur(decay, gained, h)[0]  # a_l h_(l-1)
    dgate_out = _over_channels((left + gained) * dout[:, :, None, :])
    g, carry = _recur_back(decay, dout[:, :, None, :] * _gate_out(w, k, origin, token, live, s), carry)
    dgate_in = _over_channels(g * (delta * u)[:, :, None, :])
    dgained = tl.sum(g * gate, 2)  # gradient of delta * u
    dexponent = g * left  # gradient of delta * A
    draw = (tl.sum(dexponent * A2[None], 2) * LN2 + u * dgained) * slope
    dA = tl.sum(dexponent * delta[:, :, None, :], 0)
    ddt_weight = tl.sum(draw[:, :, None, :] * inputs[:, None, :, None], 0)
    dinputs = _over_channels(draw[:, :, None, :] * dt_weight[None])
    du = D[None] * dout + delta * dgained
    return du, draw, dinputs, dgate_in, dgate_out, dA, ddt_weight, tl.sum(u * dout, 0), carry


@triton.jit
def _store_projected(
    dprojections, k, block, origin, token, live, num_rows, first, count: tl.constexpr, value, s: tl.constexpr
):
    """Write a gradient (tile, padded) of ``count`` neighboring projections of walk k to this block's partial sums."""
    width: tl.constexpr = s.R + 2 * s.N
    row_width: tl.constexpr = width * (s.K // s.S)
    n = tl.arange(0, value.shape[1])[None, :]
    at = ((block * s.S + k % s.S) * num_rows + origin) * row_width
    at += token[:, None] * row_width + k // s.S * width + first + n
    tl.store(dprojections + at, value, mask=live[:, None] & (n < count))


@triton.jit
def _store_weights(dweights, row, k, e, dA, ddt_weight, ddt_bias, dD, s: tl.constexpr):
    """Write the parameters' gradients of this program."""
    at = dweights + (row * s.K + k) * (s.N + s.R + 2) * s.E
    is_channel = (e < s.E)[:, None, :]
    n, r = tl.arange(0, s.N_)[None, :, None], tl.arange(0, s.R_)[None, :, None]
    tl.store(at + n * s.E + e[:, None, :], dA, mask=(n < s.N) & is_channel)
    tl.store(at + (s.N + r) * s.E + e[:, None, :], ddt_weight, mask=(r < s.R) & is_channel)
    tl.store(at + (s.N + s.R) * s.E + e, ddt_bias, mask=e < s.E)
    tl.store(at + (s.N + s.R + 1) * s.E + e, dD, mask=e < s.E)


@triton.jit(do_not_specialize=["L", "span_length", "num_spans"])
def backward(
    w, dy, kept, carries, scratch, dsource, dprojections, dweights, L, span_length, num_spans,
    is_split: tl.constexpr, s: tl.constexpr,
):  # fmt: skip
    """Third pass backwards: all gradients, chunk by chunk from the kept states.

    dsource is (K, B, L, E), dprojections (blocks, S, B, L, slots * (R + 2 N)), dweights
    (B * num_spans, K, N + R + 2, E): rows of A, dt_weight, dt_bias and D.
    """
    sample, span, k, block = _place(0, num_spans, s)
    origin = sample * L
    num_rows = _num_samples(num_spans, s) * L
    e = _channels(block, s)
    A2, dt_weight, dt_bias, D = _parameters(w, k, e, s)
    carry = tl.zeros_like(A2)
    if is_split:
        carry = _load_state(carries, sample * num_spans + span, k, e, s)
    dA, ddt_weight = tl.zeros_like(A2), tl.zeros_like(dt_weight)
    ddt_bias, dD = tl.zeros_like(dt_bias), tl.zeros_like(D)
    num_chunks = tl.cdiv(tl.minimum(span_length, L - span * span_length), s.chunk)
    for c in range(num_chunks):
        chunk = span * span_length // s.chunk + num_chunks - 1 - c
        begin = chunk * s.chunk
        end = tl.minimum(begin + s.chunk, L)
        h = _load_state(kept, sample * tl.cdiv(L, s.chunk) + chunk, k, e, s)
        tl.debug_barrier()  # the scratch of the chunk before has been read
        _keep_tile_starts(w, scratch, h, k, origin, begin, end, L, e, A2, dt_weight, dt_bias, s)
        tl.debug_barrier()  # a lane may read what another one wrote
        num_tiles = tl.cdiv(end - begin, s.tile)
        for t in range(num_tiles):
            tile = num_tiles - 1 - t
            token, live = _tokens(w, k, begin + tile * s.tile, L, s)
            dout = _per_token(dy, origin, token, live, e, s)
            h = tl.load(scratch + _scratch(tile, s))
            du, draw, dinputs, dgate_in, dgate_out, tile_dA, tile_ddt_weight, tile_dD, carry = _tile_gradients(
                w, dout, h, carry, k, origin, token, live, e, A2, dt_weight, dt_bias, D, s
            )
            dA += tile_dA
            ddt_weight += tile_ddt_weight
            ddt_bias += tl.sum(draw, 0)
            dD += tile_dD
            _store_per_token(dsource, k * num_rows + origin, token, live, e, du, s)
            _store_projected(dprojections, k, block, origin, token, live, num_rows, 0, s.R, dinputs, s)
            _store_projected(dprojections, k, block, origin, token, live, num_rows, s.R, s.N, dgate_in, s)
            _store_projected(dprojections, k, block, origin, token, live, num_rows, s.R + s.N, s.N, dgate_out, s)
    _store_weights(dweights, sample * num_spans + span, k, e, dA, ddt_weight, ddt_bias, dD, s)
