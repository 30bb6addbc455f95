"""Graph convolutions over joints and over frames, as MotionAGFormer and HGMamba use them.

Symbols: B windows, T frames, J = 17 joints, d width. Every mixer maps (B, T, J, d) to the same shape by
``ReLU(x + BN(aggregate + U x))``; the batch norm takes the joint or the frame for its channel, so that the number of
frames is part of the weights.

Source: Mehraban et al., "MotionAGFormer: Enhancing 3D Human Pose Estimation with a Transformer-GCNFormer Network",
WACV 2024 / TaatiTeam/MotionAGFormer@4756fd1. Different from it: how near-ties between frames are broken, see
``nearest_frames``.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifter.models.layers.initial import normal_
from lifter.models.layers.inputs import NUM_JOINTS
from lifter.runtime.precision import precision

# Row: a joint; entries: the joints it gathers from. As in the published code the list is one-sided where the limbs
# branch off: the pelvis does not see the left hip, the thorax neither shoulder. Published weights fit only this.
JOINT_NEIGHBOURS = (
    (1, 7), (0, 2), (1, 3), (2,), (0, 5), (4, 6), (5,), (0, 8), (7, 9), (8, 10), (9,),
    (8, 12), (11, 13), (12,), (8, 15), (14, 16), (15,),
)  # fmt: skip
NUM_NEAREST = 2  # frames that a frame gathers from
TIE = 2e-6  # similarities this close, relative to the row's largest, are in the hands of float32 rounding


class GraphMixer(nn.Module):
    """What the mixers share: weights U of the token itself, V of what it gathers, and a batch norm."""

    def __init__(self, d: int, batch_norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.U = nn.Linear(d, d)
        self.V = nn.Linear(d, d)
        self.batch_norm = batch_norm
        for linear in (self.U, self.V):
            normal_(linear.weight, math.sqrt(2 / d))


class JointGraph(GraphMixer):
    """Every joint gathers from its neighbors along the skeleton."""

    adjacency: Tensor

    def __init__(self, d: int) -> None:
        super().__init__(d, nn.BatchNorm1d(NUM_JOINTS))
        self.register_buffer("adjacency", joint_adjacency(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        return F.relu(x + over_joints(self.batch_norm, self.adjacency @ self.V(x) + self.U(x)))


class FrameGraph(GraphMixer):
    """Every frame of a joint gathers from the frames in which the joint's features are most like its own."""

    def __init__(self, d: int, window: int) -> None:
        super().__init__(d, nn.BatchNorm1d(window))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d), T the window."""
        B, T, J, d = x.shape
        x = x.transpose(1, 2).reshape(B * J, T, d)
        y = F.relu(x + self.batch_norm(nearest_frames(x) @ self.V(x) + self.U(x)))
        return y.view(B, J, T, d).transpose(1, 2)


def over_joints(batch_norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Return x (B, T, J, d) after a batch norm whose channel is the joint."""
    return batch_norm(x.flatten(0, 1)).view(x.shape)


def joint_adjacency(gathers_from: Sequence[Sequence[int]] = JOINT_NEIGHBOURS) -> Tensor:
    """Return (17, 17) float32: 1 / sqrt(degree_i degree_j) where joint i gathers from joint j."""
    adjacency = np.zeros((NUM_JOINTS, NUM_JOINTS), np.float32)
    for row, neighbors in enumerate(gathers_from):
        adjacency[row, list(neighbors)] = 1
    degree = adjacency.sum(1)
    return torch.tensor(adjacency / np.sqrt(degree[:, None] * degree))


@torch.no_grad()
def nearest_frames(x: Tensor) -> Tensor:
    """Return weights (N, T, T) that average, for every frame of x (N, T, d), the two frames most like it.

    Alike is what has a large dot product; a frame itself is nearly always one of its two.

    The published rule: a frame gathers from all whose product reaches the second largest of its row, divided by the
    square root of both degrees. Where that leaves no doubt the weights here are the same to the bit, 1/2 each. It
    leaves all to rounding for somebody who stands still, and where a clip ends inside a window and its last frame is
    repeated: hundreds of products are equal but for the last bit, so that one frame gathers from two and the next from
    all, and the number of threads, the batch or the processor decides which.

    Here products that differ by less than ``TIE`` of the row's largest are a tie, which goes to the frame nearer in
    time, the earlier of two. Every frame gathers from exactly two, and whoever rounds differently gathers at worst from
    another frame that looks as much alike. Measured with random weights, XS, float32 against float64, somebody still
    but for 1e-3 px: outputs differ by 0.001, with the published rule by 0.2 (medians over 24 poses; in motion 0.001 and
    0.01). That rest is a jump which belongs to the network: two frames equally like a third, but not like each other.
    """
    T = x.shape[1]
    k = min(NUM_NEAREST, T)
    with exactly(x.device):
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        products = exact @ exact.mT  # (N, T, T)
    largest = products.topk(k, dim=-1).values
    threshold, margin = largest[..., -1:], TIE * largest[..., :1].abs()
    rank = torch.where(products > threshold + margin, 3.0 * T, nearness(T, str(x.device)))  # beyond doubt, or a tie ...
    rank = torch.where(products < threshold - margin, 0.0, rank)  # ... or out of the question
    return (rank >= rank.topk(k, dim=-1).values[..., -1:]).to(x.dtype) / k


def exactly(device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context of full float32: in bfloat16 or TF32 hundreds of frames would be equally near."""
    if device.type == "cuda":
        return precision("fp32", device)
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


@functools.lru_cache(maxsize=16)
def nearness(T: int, device: str) -> Tensor:
    """Return (T, T) float32: the larger the nearer two frames, of two equally near the earlier; distinct in a row."""
    with torch.inference_mode(False):  # cached: made during inference, it could not be used in training later
        steps = torch.arange(T, device=device) - torch.arange(T, device=device)[:, None]
        return 2.0 * T - 2 * steps.abs() - (steps > 0).float()
