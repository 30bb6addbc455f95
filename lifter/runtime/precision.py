"""Floating-point precision on a GPU: float32 for results; TF32 and bfloat16 for measurements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

PRECISIONS = ("fp32", "tf32", "bf16")


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Run matrix products and convolutions on ``device`` in "fp32", "tf32" or "bf16" (autocast) for a while.

    PyTorch lets convolutions use TF32 by default, and a program around us may have allowed it for matrix
    products: 10 bits of mantissa instead of 23. The scan itself is float32 in all three.

    Raises:
        ValueError: Unknown name.
    """
    if name not in PRECISIONS:
        raise ValueError(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}")
    operations = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [operation.fp32_precision for operation in operations]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16", cache_enabled=False)
    try:
        for operation in operations:
            operation.fp32_precision = "tf32" if name == "tf32" else "ieee"
        with autocast:
            yield
    finally:
        for operation, value in zip(operations, before, strict=True):
            operation.fp32_precision = value
