"""MotionAGFormer: attention and graph convolutions side by side, over joints and over frames; no scan.

The baseline that the state-space networks compare themselves with. Keys, shapes and numbers are those of the published
network, so that its checkpoints load as they are.

Source: Mehraban et al., "MotionAGFormer: Enhancing 3D Human Pose Estimation with a Transformer-GCNFormer Network",
WACV 2024 / TaatiTeam/MotionAGFormer@4756fd1. Different from it: near-ties between frames, see
``lifter.models.layers.graph_mixers``.

Symbols: B windows, T frames, J = 17 joints, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lifter.models.layers.attention import NUM_HEADS, attention
from lifter.models.layers.block_stack import BlockStack
from lifter.models.layers.graph_mixers import FrameGraph, JointGraph
from lifter.models.layers.residual import Fusion, ScaledResidual, rising


@dataclass(frozen=True)
class MotionAGFormerConfig:
    """Size of a MotionAGFormer.

    Attributes:
        width: d, channels per token; a multiple of 8.
        depth: Blocks.
        window: Frames per window.
        drop_path: Largest stochastic depth, reached in the last block.
    """

    width: int
    depth: int
    window: int
    drop_path: float = 0.0
    channels: ClassVar[int] = 3
    fixed_length: ClassVar[bool] = True


XS = MotionAGFormerConfig(width=64, depth=12, window=27)
SMALL = MotionAGFormerConfig(width=64, depth=26, window=81)
BASE = MotionAGFormerConfig(width=128, depth=16, window=243)
LARGE = MotionAGFormerConfig(width=128, depth=26, window=243)


class Attention(nn.Module):
    """Every token attends to all joints of its frame, or to its joint in all frames."""

    def __init__(self, d: int, *, is_temporal: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.proj = nn.Linear(d, d)
        self.is_temporal = is_temporal

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        if self.is_temporal:
            x = x.transpose(1, 2)
        y = attention(self.qkv(x).unflatten(-1, (3, -1)))
        return self.proj(y.transpose(1, 2) if self.is_temporal else y)


class Block(nn.Module):
    """Two streams, each over joints and then over frames, and their weighted mean."""

    def __init__(self, config: MotionAGFormerConfig, drop_path: float) -> None:
        super().__init__()
        d = config.width
        self.att_spatial = ScaledResidual(d, Attention(d, is_temporal=False), drop_path)
        self.att_temporal = ScaledResidual(d, Attention(d, is_temporal=True), drop_path)
        self.graph_spatial = ScaledResidual(d, JointGraph(d), drop_path)
        self.graph_temporal = ScaledResidual(d, FrameGraph(d, config.window), drop_path)
        self.fusion = Fusion(d)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        return self.fusion(self.att_temporal(self.att_spatial(x)), self.graph_temporal(self.graph_spatial(x)))


class MotionAGFormer(BlockStack):
    """The whole network; ``forward`` maps (B, window, 17, 3) to (B, window, 17, 3)."""

    def __init__(self, config: MotionAGFormerConfig) -> None:
        super().__init__(config, (Block(config, rate) for rate in rising(config.drop_path, config.depth)))


def config_of(state_dict: dict[str, Tensor]) -> MotionAGFormerConfig:
    """Return the configuration that a MotionAGFormer state dict was saved from.

    Raises:
        ValueError: The keys are not those of a MotionAGFormer.
    """
    first = "layers.0.att_spatial.mixer.qkv.weight"
    try:
        _, d = state_dict[first].shape
        (window,) = state_dict["layers.0.graph_temporal.mixer.batch_norm.weight"].shape
        depth = len({int(key.split(".")[1]) for key in state_dict if key.startswith("layers.")})
        if d % NUM_HEADS:
            raise ValueError(f"width {d} is no multiple of {NUM_HEADS}")
    except (KeyError, ValueError) as error:
        raise ValueError(f"no MotionAGFormer weights: expected keys such as {first}") from error
    return MotionAGFormerConfig(width=d, depth=depth, window=window)


def build(config: MotionAGFormerConfig) -> MotionAGFormer:
    """Return an untrained network."""
    return MotionAGFormer(config)
