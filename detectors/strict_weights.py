"""Strict check of a file's tensors against a network, with a one-line error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def require_fit(tensors: Mapping[str, Tensor], network: nn.Module, path: Path, name: str) -> None:
    """Raise ValueError unless ``tensors`` of ``path`` have the keys and shapes of ``network`` and are finite.

    Counters of batch norms may be missing: inference has no use for them.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    unknown = [key for key in tensors if key not in expected]
    wrong = [key for key, x in tensors.items() if key in expected and x.shape != expected[key].shape]
    problems = [f"{len(keys)} {what} (such as {keys[0]})" for what, keys in
                (("missing", missing), ("unknown", unknown), ("of another shape", wrong)) if keys]  # fmt: skip
    if problems:
        raise ValueError(f"{path} does not fit {name}: tensors {', '.join(problems)}")
    broken = [key for key, x in tensors.items() if x.is_floating_point() and not torch.isfinite(x).all()]
    if broken:
        raise ValueError(f"{path} has numbers that are not finite, such as in {broken[0]}; download it again")
