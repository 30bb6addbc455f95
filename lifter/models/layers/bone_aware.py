"""The first stage of MDTF: which way every bone points along the viewing axis, as one of six classes, from 2D.

The second stage (``lifter.models.mdtf``) takes the answer as three more numbers per joint.
Source: Zheng et al., "Mamba-Driven Topology Fusion for Monocular 3D Human Pose Estimation", 2025, the Bone Aware Module
/ ZenghaoZheng/MDTF-3DHPE@8a9e945. Different from it: an angle of exactly 180 degrees is in the last class.

Symbols: B windows, T frames, J = 17 joints, d width of a block. Bones are named by the joint at their far end, so that
the pelvis has none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifter.models.layers.bimamba import BiMamba
from lifter.models.layers.inputs import index_on
from lifter.models.layers.residual import MLP, dropped, rising
from lifter.skeletons import H36M17

NUM_CLASSES = 6  # of 30 degrees each
WIDTHS = (64, 32, 16, 8)
PARENTS = H36M17.parents[1:]  # of joints 1 ... 16


class MambaBlock(nn.Module):
    """Pre-norm residual block over sequences: both ways of Mamba, then an MLP, with stochastic depth per sequence."""

    def __init__(self, d: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d, eps=1e-6)
        self.norm2 = nn.LayerNorm(d, eps=1e-6)
        self.mamba = BiMamba(d, 1, is_mean=True)
        self.mlp = MLP(d, ratio=2)
        self.drop_path = drop_path

    def forward(self, x: Tensor, drops: bool) -> Tensor:
        """Return (rows, L, d) for x (rows, L, d); ``drops``: whether branches may be left out, as in training."""
        x = x + dropped(self.mamba(self.norm1(x)), self.drop_path, drops)
        return x + dropped(self.mlp(self.norm2(x)), self.drop_path, drops)


class BoneAware(nn.Module):
    """Classes of bone directions: (B, T, 17, 3) keypoints to (B, T, 17, 6) logits, any T."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        blocks = list(zip(WIDTHS, rising(drop_path, len(WIDTHS)), strict=True))
        self.Spatial_patch_to_embedding = nn.Linear(channels, WIDTHS[0])
        self.STEblocks = nn.ModuleList(MambaBlock(d, rate) for d, rate in blocks)
        self.TTEblocks = nn.ModuleList(MambaBlock(d, rate) for d, rate in blocks)
        self.mlp = nn.ModuleList(nn.Linear(*sizes) for sizes in zip(WIDTHS, (*WIDTHS[1:], NUM_CLASSES), strict=True))
        self.Spatial_norm = nn.ModuleList(nn.LayerNorm(d, eps=1e-6) for d in WIDTHS)
        self.Temporal_norm = nn.ModuleList(nn.LayerNorm(d, eps=1e-6) for d in WIDTHS)

    def forward(self, keypoints: Tensor, drops: bool) -> Tensor:
        """Return logits (B, T, 17, 6) of the classes of ``bone_classes``; ``drops`` as in ``MambaBlock``."""
        B = len(keypoints)
        x = self.Spatial_patch_to_embedding(keypoints).flatten(0, 1)  # (B T, J, 64)
        for i, narrower in enumerate(self.mlp):
            x = self.Spatial_norm[i](self.STEblocks[i](x, drops))
            x = self.Temporal_norm[i](self.TTEblocks[i](turned(x, B), drops))
            x = turned(narrower(x), B)
        return x.unflatten(0, (B, -1))


def bone_classes(joints: Tensor) -> Tensor:
    """Return the class (..., 17) int64 of the bone that ends at each of the joints (..., 17, 3); 0 for the pelvis.

    Class c holds angles to the viewing axis (z, away from the camera) of 30 c to 30 (c + 1) degrees.
    """
    x, y, z = (joints[..., 1:, :] - joints[..., index_on(str(joints.device), PARENTS), :]).unbind(-1)
    angles = torch.atan2(torch.hypot(x, y), z)  # 0 ... pi
    classes = (angles * (NUM_CLASSES / math.pi)).floor().clamp(max=NUM_CLASSES - 1)
    return F.pad(classes.long(), (1, 0))


def bone_features(keypoints: Tensor, classes: Tensor) -> Tensor:
    """Return (azimuth, polar angle, length) of the bone that ends at each joint, (..., 17, 3); zeros for the pelvis.

    Azimuth and polar angle are in units of pi, the polar angle is the middle of its class, and the length that of the
    2D bone turned by it.

    Args:
        keypoints: (..., 17, 2 or more), x and y first, normalized.
        classes: (..., 17) int64, of ``bone_classes``.
    """
    points = keypoints[..., :2]
    x, y = (points[..., 1:, :] - points[..., index_on(str(points.device), PARENTS), :]).unbind(-1)
    polar = (2 * classes[..., 1:] + 1) / (2 * NUM_CLASSES)
    length = torch.hypot(x, y) / torch.sin(polar * math.pi)
    return F.pad(torch.stack([torch.atan2(y, x) / math.pi, polar, length], dim=-1), (0, 0, 1, 0))


def turned(x: Tensor, B: int) -> Tensor:
    """Return rows (B Q, P, d) for rows (B P, Q, d): frames of joints become joints of frames, and back."""
    return x.unflatten(0, (B, -1)).transpose(1, 2).flatten(0, 1)
