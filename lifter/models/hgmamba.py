"""HGMamba: bidirectional Mamba and hypergraph convolutions side by side, over joints and over frames.

Keys, shapes and numbers are those of the released network. The paper describes hyperedges on two scales, parts of
limbs and the whole body; the released code, and every parameter count in the paper, has the parts only. So has this one
unless ``use_bodyscale`` is set, for which no weights exist.

Source: Cui et al., "HGMamba: Enhancing 3D Human Pose Estimation with a HyperGCN-Mamba Network", IJCNN 2025 /
HuCui2022/HGMamba@ee219c3. Different from it: both scan directions run over tokens that stay where they are (see
``lifter.models.layers.bimamba``); near-ties between frames (see ``lifter.models.layers.graph_mixers``); parameters
that the released code carries along without using them do not learn.

Symbols: B windows, T frames, J = 17 joints, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifter.models.layers.bimamba import BiMamba
from lifter.models.layers.block_stack import BlockStack
from lifter.models.layers.graph_mixers import FrameGraph, GraphMixer, joint_adjacency, over_joints
from lifter.models.layers.inputs import NUM_JOINTS
from lifter.models.layers.residual import Fusion, ScaledResidual, rising

# Joints of H36M17 that a hyperedge ties together.
PARTS = ((0, 7, 8), (8, 9, 10), (0, 1, 2), (2, 3), (0, 4, 5), (5, 6), (8, 14, 15), (8, 11, 12), (15, 16), (12, 13))
BODY = ((0, 1, 4, 7, 8, 9, 10, 11, 14), (14, 15, 16), (11, 12, 13), (1, 2, 3), (4, 5, 6))


@dataclass(frozen=True)
class HGMambaConfig:
    """Size of an HGMamba.

    Attributes:
        width: d, channels per token.
        depth: Blocks.
        window: Frames per window.
        use_bodyscale: Whether hyperedges of the whole body are added, as in the paper but not in the released code.
        shuffle: Probability that the joints are shuffled before the scans in training; rises from 0 in the first block
            to this in the last.
        drop_path: Largest stochastic depth, reached in the last block.
    """

    width: int
    depth: int
    window: int
    use_bodyscale: bool = False
    shuffle: float = 0.5
    drop_path: float = 0.0
    channels: ClassVar[int] = 3
    fixed_length: ClassVar[bool] = True


XS = HGMambaConfig(width=64, depth=12, window=27)
SMALL = HGMambaConfig(width=64, depth=26, window=81)
BASE = HGMambaConfig(width=128, depth=16, window=243)


class GridMamba(nn.Module):
    """One bidirectional scan through all tokens: frame by frame, or joint by joint."""

    def __init__(self, d: int, *, is_joint_major: bool) -> None:
        super().__init__()
        self.forward_backward_mamba = BiMamba(d, expand=2, is_mean=False)
        self.is_joint_major = is_joint_major

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        if self.is_joint_major:
            x = x.transpose(1, 2)
        y = self.forward_backward_mamba(x.flatten(1, 2)).view(x.shape)
        return y.transpose(1, 2) if self.is_joint_major else y


class HyperGraph(GraphMixer):
    """Every joint gathers along hyperedges, whose weights are learned."""

    adjacency: Tensor

    def __init__(self, d: int, *, use_bodyscale: bool) -> None:
        super().__init__(d, nn.BatchNorm1d(NUM_JOINTS))
        self.alpha1 = nn.Parameter(torch.ones(1))
        self.alpha2 = nn.Parameter(torch.ones(1))
        self.p_adj = nn.Parameter(hypergraph(PARTS))
        self.conv_part = nn.Conv2d(d, d, 1)  # a linear layer; the shape is that of the published weights
        self.use_bodyscale = use_bodyscale
        if use_bodyscale:
            self.b_adj = nn.Parameter(hypergraph(BODY))
            self.conv_body = nn.Conv2d(d, d, 1)
            self.alpha3 = nn.Parameter(torch.ones(1))
            self.register_buffer("adjacency", joint_adjacency(), persistent=False)
        else:  # part of the published weights, but of no use
            for unused in (self.alpha1, self.alpha2, self.V.weight, self.V.bias):
                unused.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        gathered = gather(self.p_adj, self.conv_part, x)
        if self.use_bodyscale:
            body = gather(self.b_adj, self.conv_body, x)
            bones = self.adjacency @ self.V(x)
            gathered = self.alpha1 * gathered + self.alpha2 * body + self.alpha3 * bones
        return F.relu(x + over_joints(self.batch_norm, gathered + self.U(x)))


def gather(weights: Tensor, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Return (B, T, J, d): what the joints of x (B, T, J, d) gather with weights (J, J), through a 1x1 convolution."""
    normalized = weights / (weights.sum(0) + 0.001)  # columns add up to 1
    return F.linear(normalized.mT @ x, convolution.weight[:, :, 0, 0], convolution.bias)


def hypergraph(edges: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return (17, 17): Dv^-1/2 H De^-1 H^T Dv^-1/2, H the incidence of joints and hyperedges, Dv and De its sums.

    Source: Feng et al., "Hypergraph Neural Networks", AAAI 2019, equation 10, with edges of weight 1.
    """
    incidence = np.zeros((NUM_JOINTS, len(edges)))
    for column, joints in enumerate(edges):
        incidence[list(joints), column] = 1
    scaled = incidence / np.sqrt(incidence.sum(1, keepdims=True))
    return torch.tensor(scaled / incidence.sum(0) @ scaled.T, dtype=torch.float32)


class Block(nn.Module):
    """Two streams, scans and graphs, and their weighted mean. The scans see joints in shuffled order now and then."""

    def __init__(self, config: HGMambaConfig, shuffle: float, drop_path: float) -> None:
        super().__init__()
        d = config.width
        self.mamba_spatial = ScaledResidual(d, GridMamba(d, is_joint_major=False), drop_path)
        self.mamba_temporal = ScaledResidual(d, GridMamba(d, is_joint_major=True), drop_path)
        self.graph_spatial = ScaledResidual(d, HyperGraph(d, use_bodyscale=config.use_bodyscale), drop_path)
        self.graph_temporal = ScaledResidual(d, FrameGraph(d, config.window), drop_path)
        self.fusion = Fusion(d)
        self.shuffle = shuffle

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        scanned = self._scanned_in_any_order(x) if self.training and self.shuffle else self._scanned(x)
        return self.fusion(scanned, self.graph_temporal(self.graph_spatial(x)))

    def _scanned(self, x: Tensor) -> Tensor:
        return self.mamba_spatial(x) + self.mamba_temporal(x)  # both with their identity, as published

    def _scanned_in_any_order(self, x: Tensor) -> Tensor:
        """Return ``_scanned`` with the joints shuffled, at the block's rate; one draw for the whole batch."""
        order = torch.rand(NUM_JOINTS, device=x.device).argsort()
        is_shuffled = torch.rand((), device=x.device) < self.shuffle  # no branch: the device must not wait for us
        order = torch.where(is_shuffled, order, torch.arange(NUM_JOINTS, device=x.device))
        return self._scanned(x.index_select(2, order)).index_select(2, order.argsort())


class HGMamba(BlockStack):
    """The whole network; ``forward`` maps (B, window, 17, 3) to (B, window, 17, 3)."""

    def __init__(self, config: HGMambaConfig) -> None:
        rates = zip(rising(config.shuffle, config.depth), rising(config.drop_path, config.depth), strict=True)
        super().__init__(config, (Block(config, shuffle, drop) for shuffle, drop in rates))

    def embed(self, keypoints: Tensor) -> Tensor:
        """Return what the first block gets, (B, T, J, d): after the norm of the end, as published."""
        return self.norm(self.joints_embed(keypoints)) + self.pos_embed


def config_of(state_dict: dict[str, Tensor]) -> HGMambaConfig:
    """Return the configuration that an HGMamba state dict was saved from.

    Raises:
        ValueError: The keys are not those of an HGMamba.
    """
    first = "layers.0.mamba_spatial.mixer.forward_backward_mamba.in_proj.weight"
    try:
        _, d = state_dict[first].shape
        (window,) = state_dict["layers.0.graph_temporal.mixer.batch_norm.weight"].shape
        depth = len({int(key.split(".")[1]) for key in state_dict if key.startswith("layers.")})
    except (KeyError, ValueError) as error:
        raise ValueError(f"no HGMamba weights: expected keys such as {first}") from error
    return HGMambaConfig(d, depth, window, use_bodyscale="layers.0.graph_spatial.mixer.b_adj" in state_dict)


def build(config: HGMambaConfig) -> HGMamba:
    """Return an untrained network."""
    return HGMamba(config)
