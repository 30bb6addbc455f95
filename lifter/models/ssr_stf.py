"""SSR-STF, a design after Xu et al. 2024: local convolutions and global attention side by side; not a reproduction.

The authors have published neither code nor weights, and no text with equations is at hand. What a reader should know:

From the paper (its abstract, figures and credits): N blocks of two streams, one of SSRFormers (skeleton selective
refine attention, built on large separable kernel attention, with a spatial and a temporal kind and a kernel of k1 x k2)
for what is local, one of STFormers for what is global; adaptive fusion of the two.

Told by others of the paper: STFormers are the criss-cross attention over joints and frames of STCFormer, which the
paper credits; the weights of the fusion are a softmax.

Ours: every number (width, depth, kernels, dilations, heads), how the selective gates are computed, that joints lie in
chains for the convolutions, the order of sub-blocks, layer scales, the scale of the attention, per head, and what is as
in MotionAGFormer: the linear embedding and the wide representation before the last layer. So the accuracy in the paper
says nothing about this network.

Sources: Xu et al., "Optimizing Local-Global Dependencies for Accurate 3D Human Pose Estimation", 2024; Lau et al.,
"Large Separable Kernel Attention", 2024; Tang et al., "3D Human Pose Estimation with Spatio-Temporal Criss-cross
Attention", CVPR 2023.

Symbols: B windows, T frames, J = 17 joints, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifter.models.layers.attention import NUM_HEADS, attention
from lifter.models.layers.block_stack import BlockStack
from lifter.models.layers.inputs import NUM_JOINTS, index_on
from lifter.models.layers.residual import Fusion, ScaledResidual, rising
from lifter.skeletons import H36M17

# Joints in chains along the limbs, so that most neighbors in this list are neighbors on the skeleton: foot to foot
# through the pelvis, the spine up to the head, hand to shoulder, shoulder to hand.
CHAINS = (
    "right_ankle", "right_knee", "right_hip", "pelvis", "left_hip", "left_knee", "left_ankle",
    "spine", "thorax", "nose", "head",
    "left_wrist", "left_elbow", "left_shoulder", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
IN_CHAINS = tuple(H36M17.index(name) for name in CHAINS)
IN_ORDER = tuple(IN_CHAINS.index(joint) for joint in range(NUM_JOINTS))


@dataclass(frozen=True)
class SSRSTFConfig:
    """Size of an SSR-STF.

    Attributes:
        width: d, channels per token; a multiple of 16.
        depth: Blocks.
        window: Most frames per window. No weight depends on it but for the length of the kernels.
        drop_path: Largest stochastic depth, reached in the last block.
    """

    width: int
    depth: int
    window: int
    drop_path: float = 0.0
    channels: ClassVar[int] = 3
    fixed_length: ClassVar[bool] = False

    @property
    def frame_taps(self) -> int:
        """Frames that a temporal convolution takes in."""
        return 3 if self.window < 81 else 5


XS = SSRSTFConfig(width=64, depth=12, window=27)
SMALL = SSRSTFConfig(width=64, depth=26, window=81)
BASE = SSRSTFConfig(width=128, depth=16, window=243)


class RefineAttention(nn.Module):
    """Skeleton selective refine attention, over joints or over frames: features times what lies around them.

    Two depthwise convolutions, one after the other and the second one dilated, make up a large kernel; a gate per token
    selects between the reach of the first and of both.
    """

    def __init__(self, d: int, kernel: tuple[int, int], dilation: tuple[int, int]) -> None:
        """Make a mixer with ``kernel`` and ``dilation`` over (frames, joints); one of the two axes has length 1."""
        super().__init__()
        self.lin_in = nn.Linear(d, d)
        self.near = centered(d, d, kernel, groups=d)
        self.far = centered(d, d, kernel, dilation, groups=d)
        self.sel = centered(2, 2, (1, 3) if kernel[0] == 1 else (3, 1))
        self.lin_att = nn.Linear(d, d)
        self.lin_out = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d), joints in chains."""
        v = F.gelu(self.lin_in(x))
        near = on_map(self.near, v)
        far = on_map(self.far, near)
        to_near, to_far = self.gates(near, far).split(1, dim=-1)
        return self.lin_out(v * self.lin_att(to_near * near + to_far * far))

    def gates(self, near: Tensor, far: Tensor) -> Tensor:
        """Return (B, T, J, 2), between 0 and 1: how much of either reach every token takes."""
        both = near + far
        return torch.sigmoid(on_map(self.sel, torch.stack([both.mean(-1), both.amax(-1)], dim=-1)))


class CrissCrossAttention(nn.Module):
    """Half of the channels attend over the joints of a frame, half over the frames of a joint; 3x3 around both."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(d, 3 * d)
        self.ps = centered(d // 2, d // 2, (3, 3), groups=d // 2)
        self.pt = centered(d // 2, d // 2, (3, 3), groups=d // 2)
        self.proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d), joints in chains."""
        over_joints, over_frames = self.qkv(x).unflatten(-1, (3, 2, -1)).unbind(-2)  # (B, T, J, 3, d / 2) each
        spatial = attention(over_joints) + on_map(self.ps, over_joints[..., 2, :])
        temporal = attention(over_frames.transpose(1, 2)).transpose(1, 2) + on_map(self.pt, over_frames[..., 2, :])
        return self.proj(torch.cat([spatial, temporal], dim=-1))


def centered(
    inputs: int, outputs: int, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1), groups: int = 1
) -> nn.Conv2d:
    """Return a convolution over (frames, joints) that keeps the size of the map, with zeros around it."""
    padding = (kernel[0] // 2 * dilation[0], kernel[1] // 2 * dilation[1])
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups)


def on_map(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Return the convolution over frames and joints of x (B, T, J, channels); channels stay last."""
    return convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Block(nn.Module):
    """A local stream, over joints and then over frames, a global one, and their weighted mean."""

    def __init__(self, config: SSRSTFConfig, drop_path: float) -> None:
        super().__init__()
        d = config.width
        over_joints = RefineAttention(d, kernel=(1, 3), dilation=(1, 2))
        over_frames = RefineAttention(d, kernel=(config.frame_taps, 1), dilation=(3, 1))
        self.ssr_spatial = ScaledResidual(d, over_joints, drop_path)
        self.ssr_temporal = ScaledResidual(d, over_frames, drop_path)
        self.stf = ScaledResidual(d, CrissCrossAttention(d), drop_path)
        self.fusion = Fusion(d)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d), joints in chains."""
        return self.fusion(self.ssr_temporal(self.ssr_spatial(x)), self.stf(x))


class SSRSTF(BlockStack):
    """The whole network; ``forward`` maps (B, T, 17, 3), x, y and score, to (B, T, 17, 3) for 1 <= T <= window."""

    def __init__(self, config: SSRSTFConfig) -> None:
        super().__init__(config, (Block(config, rate) for rate in rising(config.drop_path, config.depth)))

    def forward(self, keypoints: Tensor, first_frame: int | Tensor = 0) -> Tensor:
        """Return joints (B, T, 17, 3) for normalized keypoints (B, T, 17, 3); errors as in ``BlockStack``."""
        return super().forward(keypoints, first_frame).index_select(2, index_on(str(keypoints.device), IN_ORDER))

    def embed(self, keypoints: Tensor) -> Tensor:
        """Return what the first block gets, (B, T, J, d): joints in chains."""
        return super().embed(keypoints).index_select(2, index_on(str(keypoints.device), IN_CHAINS))


def config_of(state_dict: dict[str, Tensor]) -> SSRSTFConfig:
    """Return the configuration that an SSR-STF state dict was saved from.

    No weight tells the window: it is that of the registered network of this width and these kernels, or else the one
    that goes with the kernels.

    Raises:
        ValueError: The keys are not those of an SSR-STF.
    """
    first = "layers.0.ssr_temporal.mixer.near.weight"
    try:
        d, _, frame_taps, _ = state_dict[first].shape
        depth = len({int(key.split(".")[1]) for key in state_dict if key.startswith("layers.")})
        if not d or d % (2 * NUM_HEADS):
            raise ValueError(f"width {d} is no multiple of {2 * NUM_HEADS}")
    except (KeyError, ValueError) as error:
        raise ValueError(f"no SSR-STF weights: expected keys such as {first}") from error
    windows = {(c.width, c.frame_taps): c.window for c in (XS, SMALL, BASE)}
    window = windows.get((d, frame_taps), XS.window if frame_taps == XS.frame_taps else BASE.window)
    return SSRSTFConfig(width=d, depth=depth, window=window)


def build(config: SSRSTFConfig) -> SSRSTF:
    """Return an untrained network."""
    return SSRSTF(config)
