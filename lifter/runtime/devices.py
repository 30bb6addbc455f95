"""Devices: what ``auto`` resolves to, and why a GPU cannot be used."""

from __future__ import annotations

import re

import torch

from lifter import scan

GPU_BACKENDS = ("triton", "mamba_ssm")  # scans that are one kernel or a few; the loops launch thousands per block


def resolve_device(device: str, backend: str = "auto") -> torch.device:
    """Return the device that a name means; "auto" is a CUDA GPU if the scan has a kernel for it, else the CPU.

    A GPU without such a kernel is slower than the compiled scan on the CPU. Apple's MPS is never chosen: no scan kernel
    exists for it, and the loop would launch thousands of tiny operations per block.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...
        backend: Scan backend that will be used, see ``lifter.scan``.

    Raises:
        RuntimeError: No such device; the text says why.
    """
    if device == "auto":
        return torch.device("cpu" if why_auto_is_cpu(backend) else "cuda")
    on = torch.device(device)
    if on.type == "cuda" and (reason := why_not_cuda(on)):
        raise RuntimeError(f"device {device!r} was asked for, but {reason}; use --device cpu")
    return on


def why_auto_is_cpu(backend: str = "auto") -> str | None:
    """Return why "auto" means the CPU, None if it means the GPU."""
    if reason := why_not_cuda():
        return reason
    if backend not in ("auto", *GPU_BACKENDS):
        return f"the scan backend {backend!r} is no GPU kernel"
    reasons = scan.usable_backends("cuda")
    candidates = [name for name in GPU_BACKENDS if name in reasons and backend in ("auto", name)]
    if any(reasons[name] is None for name in candidates):
        return None
    return "no GPU kernel of the scan can run: " + "; ".join(f"{name}: {reasons[name]}" for name in candidates)


def why_not_cuda(device: torch.device | str = "cuda") -> str | None:
    """Return why torch cannot compute on a CUDA device, None if it can."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        return f"torch sees only {torch.cuda.device_count()} of them"
    capability, built = torch.cuda.get_device_capability(index), torch.cuda.get_arch_list()
    if torch.version.hip is None and not is_built_for(capability, built):
        name = torch.cuda.get_device_name(index)
        return f"this torch was built for {', '.join(built)} and {name} is sm_{capability[0]}{capability[1]}"
    return None


def is_built_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Return whether code built for ``architectures`` ("sm_90", "compute_120", ...) runs on a GPU of ``capability``.

    Machine code (sm) runs on the same major version from its minor version on, portable code (compute) on anything
    later.
    """
    for architecture in architectures:
        kind, major, minor = re.fullmatch(r"(\w+)_(\d+)(\d)[a-z]?", architecture).groups()  # type: ignore[union-attr]
        built = (int(major), int(minor))
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False
