"""The selective scan over tokens in several orders at once: ``cross_scan`` with a choice of backends.

Backends: ``cpu`` (compiled C++: AVX-512, AVX2 or portable), ``triton`` (fused kernels for CUDA GPUs), ``mamba_ssm``
(the CUDA kernel of that package, an optional extra), ``torch`` (a time-major loop, needs nothing), ``reference`` (the
definition; never chosen by itself). ``backend="auto"`` takes the first usable one of ``AUTO_ORDER`` for the device.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from lifter.scan import cpu, mamba_ssm, reference, torch_loop, triton_scan

BACKENDS: dict[str, ModuleType] = {
    "cpu": cpu,
    "triton": triton_scan,
    "mamba_ssm": mamba_ssm,
    "torch": torch_loop,
    "reference": reference,
}
# By type of device; any other gets the loop. On a CPU, Triton is its interpreter: for tests, thousands of times slower.
AUTO_ORDER = {"cpu": ("cpu", "torch"), "cuda": ("triton", "mamba_ssm", "torch")}
log = logging.getLogger(__name__)


def usable_backends(device: torch.device | str) -> dict[str, str | None]:
    """Return every backend with None if it can run on ``device``, else the reason why not."""
    return {name: module.why_not(torch.device(device)) for name, module in BACKENDS.items()}


def resolve_backend(backend: str, device: torch.device | str) -> str:
    """Return the name of the backend that will run on ``device``.

    Raises:
        ValueError: Unknown backend.
        RuntimeError: An explicitly chosen backend cannot run; the text says why.
    """
    if backend == "auto":
        return _first_usable(str(device))
    if backend not in BACKENDS:
        raise ValueError(f"unknown scan backend {backend!r}; choose one of auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[backend].why_not(torch.device(device))
    if reason:
        raise RuntimeError(f"scan backend {backend!r} cannot run on {device}: {reason}; use backend='auto'")
    return backend


@functools.cache
def _first_usable(device: str) -> str:
    reasons = usable_backends(device)
    order = AUTO_ORDER.get(torch.device(device).type, ("torch",))
    name = next(name for name in order if reasons[name] is None)
    skipped = "; ".join(f"{other}: {reason}" for other, reason in reasons.items() if reason)
    log.info("scan backend on %s: %s%s", device, describe(name), f" ({skipped})" if skipped else "")
    if torch.device(device).type == "cpu" and name != "cpu":
        log.warning("the compiled scan is not used, %s takes its place, many times slower: %s", name, reasons["cpu"])
    return name


def use_backend(model: nn.Module, backend: str) -> None:
    """Let every scan inside ``model`` run on ``backend``."""
    for module in model.modules():
        if hasattr(module, "scan_backend"):
            module.scan_backend = backend  # type: ignore[assignment]


def has_scan(model: nn.Module) -> bool:
    """Return whether there is any scan inside ``model``."""
    return any(hasattr(module, "scan_backend") for module in model.modules())


def describe(backend: str) -> str:
    """Return the backend's name with what it runs as, e.g. ``cpu (avx512)`` or ``triton (interpreted)``."""
    if backend == "cpu":
        return f"cpu ({cpu.best_kernel()})"
    return "triton (interpreted)" if backend == "triton" and triton_scan.is_interpreted() else backend


def cross_scan(
    sources: Sequence[Tensor],
    projections: Sequence[Tensor],
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    order: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Return y (B, L, E): K selective scans along different orders of the same L tokens, summed token by token.

    Along every order, with steps delta_l = softplus(projected step inputs + bias):

        h_l = exp(delta_l A) h_(l-1) + delta_l u_l B_l,   y_l = <C_l, h_l> + D u_l,   h_(-1) = 0

    Differentiable in every tensor. Token-major: no walk is copied, reversed or materialised by the compiled backends.
    Walk k reads source ``k % S`` and block ``k // S`` of that source's projections.

    Args:
        sources: S tensors (B, L, E).
        projections: S tensors (B, L, K / S * (R + 2 N)): per block R step inputs, N input gates, N output gates.
        dt_weight: (K, E, R) from step inputs to step sizes, before bias and softplus.
        dt_bias: (K, E).
        A: (K, E, N) real, negative.
        D: (K, E) skip weights.
        order: (K, L) int64, the token that each walk visits at each step: a permutation per row.
        backend: One of ``BACKENDS`` or "auto".

    Raises:
        ValueError: Shapes that do not fit, or an unknown backend.
        RuntimeError: The chosen backend cannot run here.
    """
    K, E, R = dt_weight.shape
    batch, L, _ = sources[0].shape
    width = K // len(sources) * (R + 2 * A.shape[2])
    shapes = [tuple(x.shape) for x in (*sources, *projections)]
    expected = [(batch, L, E)] * len(sources) + [(batch, L, width)] * len(sources)
    if K % len(sources) or shapes != expected:
        raise ValueError(f"sources and projections must have shapes {expected} for {K} walks, got {shapes}")
    weights = {"dt_bias": dt_bias, "A": A, "D": D, "order": order}  # the compiled scan reads past what is too short
    expected_weights = {"dt_bias": (K, E), "A": (K, E, A.shape[2]), "D": (K, E), "order": (K, L)}
    for name, tensor in weights.items():
        if tuple(tensor.shape) != expected_weights[name]:
            raise ValueError(f"{name} must have shape {expected_weights[name]}, got {tuple(tensor.shape)}")
    module = BACKENDS[resolve_backend(backend, sources[0].device)]
    return module.cross_scan(sources, projections, dt_weight, dt_bias, A, D, order)


@functools.lru_cache(maxsize=64)
def grid_orders(T: int, J: int, device: str = "cpu") -> Tensor:
    """Return (4, T * J) int64: frame-major, joint-major, and both run backwards, over token index ``t * J + j``."""
    with torch.inference_mode(False):  # cached: made during inference, it could not be used in training later
        frame_major = torch.arange(T * J, device=device)
        joint_major = frame_major.view(T, J).T.reshape(-1)
        return torch.stack([frame_major, joint_major, frame_major.flip(0), joint_major.flip(0)])
