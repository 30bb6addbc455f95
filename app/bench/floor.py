"""How far a network is from what memory allows: the scan's share of the time, and the least traffic it can do.

Symbols as in ``lifter.models.posemamba``: d model width, E = 2 d, R = ceil(d / 16), N = 16, K = 4 walks, and here P =
K (R + 2 N) projection columns per token. All in float32, 4 bytes; a window of T frames has T * 17 tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from rich.table import Table
from torch import Tensor

import lifter as lifters
from app.bench.measure import Stopwatch, milliseconds, ratio
from app.bench.throughput import Throughput
from lifter.models.posemamba import NUM_JOINTS, CrossScan, PoseMamba, PoseMambaConfig
from lifter.runtime.cuda_graphs import capture
from lifter.scan import cross_scan, grid_orders

BYTES = 4


def scan_bytes(config: PoseMambaConfig, tokens: int) -> int:
    """Return the bytes that one block's fused scan must move: 4 (2 E + P + E) per token.

    Both sources u (2 E) and the step and gate projections (P: the inputs of delta, and B and C, of all walks) are read
    once, y (E) is written once; step sizes, states and the four walks never leave the chip. Weights are left out.
    """
    _, inner, columns = _widths(config)
    return BYTES * tokens * (3 * inner + columns)


def network_bytes(config: PoseMambaConfig, tokens: int, num_parameters: int) -> int:
    """Return the bytes that a forward pass must move: 4 (10 d + 12 E + 2 P) per token and block, weights once.

    Every matrix product, convolution and scan reads its inputs and writes its output once; norms, gates, activations
    and sums ride along for free. Floats per token:

        norm, in_proj: d -> 2 E                                  d + 2 E
        convolution, SiLU, limb sum: E -> 2 E                        3 E
        step and gate projections: 2 E -> P                          2 E +   P
        scan: 2 E + P -> E                                           3 E +   P
        norm, gate, out_proj, residual: E + E + d -> d         2 d + 2 E
        norm, fc1, GELU: d -> 2 d                              3 d
        fc2, residual, shared norm: 2 d + d -> d               4 d
    """
    width, inner, columns = _widths(config)
    return BYTES * (2 * config.depth * tokens * (10 * width + 12 * inner + 2 * columns) + num_parameters)


def _widths(config: PoseMambaConfig) -> tuple[int, int, int]:
    """Return (d, E, P)."""
    num_walks, columns, inner = CrossScan(config.width).x_proj_weight.shape
    return config.width, inner, num_walks * columns


def copy_bandwidth(watch: Stopwatch, num_bytes: int) -> float | str:
    """Return the bytes per second, read and written together, of a copy of ``num_bytes`` within the device."""

    def prepare() -> Callable[[], object]:
        source = torch.zeros(num_bytes // BYTES, device=watch.device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    seconds = watch.seconds(f"copy of {num_bytes / 1e6:.0f} MB", prepare)
    return seconds if isinstance(seconds, str) else 2 * num_bytes / seconds


def all_scans(
    config: PoseMambaConfig, backend: str, mode: str, batch: int, device: torch.device
) -> Callable[[], object]:
    """Return work that runs as many scans as a forward pass does, back to back, on random inputs of the same shapes.

    Small batches find their inputs in the cache, as they do inside of the network.
    """
    op = CrossScan(config.width).requires_grad_(False).to(device)
    num_walks, columns, inner = op.x_proj_weight.shape
    tokens = config.window * NUM_JOINTS
    sources = [torch.randn(batch, tokens, inner, device=device) for _ in range(2)]
    projections = [torch.randn(batch, tokens, num_walks // 2 * columns, device=device) for _ in range(2)]
    decays = -torch.exp(op.A_logs).view(num_walks, inner, -1)
    skips = op.Ds.view(num_walks, inner)
    order = grid_orders(config.window, NUM_JOINTS, str(device))

    @torch.inference_mode()
    def work() -> Tensor:
        for _ in range(2 * config.depth):
            y = cross_scan(
                sources, projections, op.dt_projs_weight, op.dt_projs_bias, decays, skips, order, backend=backend
            )
        return y

    return capture(work).replay if mode == "graph" else work


def table(result: Throughput, batches: Sequence[int], bandwidth: float | str, watch: Stopwatch) -> Table:
    """Return the scan's share of a forward pass and the distance of both to the memory floor, per batch size.

    Share: time of all scans of a pass alone (``all_scans``) over the time of the whole pass, launched the same way, for
    the fastest backend of ``result``. Floor: the bytes above at the measured bandwidth.
    """
    model = lifters.create_model(result.lifter)
    if not isinstance(model, PoseMamba):
        raise ValueError(f"the memory floor is known for PoseMamba only, {result.lifter} is {type(model).__name__}")
    config, parameters = model.config, sum(p.numel() for p in model.parameters())
    speed = bandwidth if isinstance(bandwidth, str) else f"{bandwidth / 1e9:.0f} GB/s"
    drawn = Table(title=f"{result.lifter}: scan and memory floor; copy within the device {speed}, read plus written")
    for column in ("batch", "scan", "network ms", "scans ms", "share %", "scans floor ms", "x floor",
                   "network floor ms", "x floor"):  # fmt: skip
        drawn.add_column(column, justify="right")
    for batch in batches:
        best = result.best(batch)
        if best is None:
            continue
        backend, mode = best
        whole = result.seconds[backend, mode, batch]
        scans = watch.seconds(
            f"{result.lifter}, scans alone, {backend}, {mode}, batch {batch}",
            functools.partial(all_scans, config, backend, mode, batch, watch.device),
        )
        tokens = batch * config.window * NUM_JOINTS
        moved = (2 * config.depth * scan_bytes(config, tokens), network_bytes(config, tokens, parameters))
        floors = [bandwidth if isinstance(bandwidth, str) else m / bandwidth for m in moved]
        share = "-" if isinstance(scans, str) or isinstance(whole, str) else f"{100 * scans / whole:.0f}"
        drawn.add_row(
            str(batch), f"{backend}, {mode}", milliseconds(whole), milliseconds(scans), share,
            milliseconds(floors[0]), ratio(scans, floors[0]), milliseconds(floors[1]), ratio(whole, floors[1]),
        )  # fmt: skip
    return drawn
