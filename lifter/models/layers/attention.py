"""Attention of tokens to the others of their row, as MotionAGFormer and SSR-STF use it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

NUM_HEADS = 8


def attention(qkv: Tensor) -> Tensor:
    """Return (B, P, Q, c) for queries, keys and values (B, P, Q, 3, c): tokens attend to the Q tokens of their row.

    With one batch axis: PyTorch's fused attention for CPUs takes no more of them.
    """
    q, k, v = qkv.flatten(0, 1).unflatten(-1, (NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)  # (B P, heads, Q, c / heads)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).view(*qkv.shape[:3], -1)
