"""The CUDA kernel of the ``mamba_ssm`` package: the same scan over sequences, for which every walk is copied out."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType

import torch
from torch import Tensor

from lifter.scan import reference

INSTALL = "pip install mamba-ssm --no-build-isolation"
MAX_STATES = 256


def why_not(device: torch.device) -> str | None:
    """Return None if the kernel can run on ``device``, else the reason."""
    if importlib.util.find_spec("mamba_ssm") is None:
        return f"mamba_ssm is not installed: {INSTALL} (builds against the installed PyTorch, needs the CUDA toolkit)"
    if device.type != "cuda":
        return f"needs a CUDA device, not {device.type}"
    interface = _interface()
    if isinstance(interface, str):
        return interface
    return None if torch.cuda.is_available() else "needs a CUDA device: PyTorch finds none"


@functools.cache
def _interface() -> ModuleType | str:
    """Return the package's module with the scan, or the reason why it cannot be imported.

    Importing is the probe: the module loads the compiled extension, which fits one build of PyTorch and CUDA only. The
    package's own ``__init__`` pulls in more than the scan needs, so the text may name something else that is missing.
    """
    try:
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except (ImportError, OSError) as error:
        return (
            f"mamba_ssm is installed but cannot be imported ({type(error).__name__}: {error}): {INSTALL} --no-deps -U"
        )


def selective_scan(u, delta, A, B, C, D) -> Tensor:
    """Return y (B, D, L), of u's type; shapes as in ``reference.selective_scan``. At most 256 states.

    The kernel wants u, delta, B and C of one type and the rest in float32; here all of it is float32.
    """
    if A.shape[1] > MAX_STATES:
        raise ValueError(f"mamba_ssm holds at most {MAX_STATES} states, got {A.shape[1]}; use backend='torch'")
    interface = _interface()
    if isinstance(interface, str):
        raise RuntimeError(interface)
    y = interface.selective_scan_fn(u.float(), delta.float(), A.float(), B.float(), C.float(), D.float())
    return y.to(u.dtype)


def cross_scan(sources, projections, dt_weight, dt_bias, A, D, order) -> Tensor:
    """Return y (B, L, E); shapes as in ``lifter.scan.cross_scan``."""
    return reference.cross_scan(sources, projections, dt_weight, dt_bias, A, D, order, scan=selective_scan)
