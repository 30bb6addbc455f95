"""PoseMamba: 2D keypoint windows to 3D joints with selective scans over the whole (frame, joint) grid.

Keys, shapes and numbers are those of the published network, so that its checkpoints load as they are.
Source: Huang et al., "PoseMamba: Monocular 3D Human Pose Estimation with Bidirectional Global-Local Spatio-Temporal
State Space Model", 2024 / nankingjing/PoseMamba@2ec3737. Different from it: activations stay token-major, the four
directions are index maps inside one scan, and the limb term passes its true gradient (the original's hand-written
backward drops it).

Symbols: B windows, T frames, J = 17 joints, d model width, E = 2 d inner width, R = ceil(d / 16) rank of the step
projection, N = 16 states, K = 4 scan directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from lifter.models.layers.initial import decay_logs, step_biases
from lifter.models.layers.inputs import NUM_JOINTS, check_keypoints, index_on, rows_from
from lifter.models.layers.residual import MLP, dropped, rising
from lifter.scan import cross_scan, grid_orders, resolve_backend
from lifter.scan.fused_ops import gated_norm, grid_conv

NUM_STATES = 16
NUM_DIRECTIONS = 4
WINDOW = 243
# What the published code adds to each joint before its frame-major scans: root, right leg, left leg, left arm, right
# arm as a list by position, used as an index table. It is no parent table; the weights fit only exactly this.
LIMB_SOURCE = (0, 0, 1, 2, 3, 0, 4, 5, 6, 8, 11, 12, 13, 8, 14, 15, 16)


@dataclass(frozen=True)
class PoseMambaConfig:
    """Size of a PoseMamba.

    Attributes:
        width: d, channels per token.
        depth: Pairs of (spatial, temporal) blocks.
        window: Most frames the temporal embedding has room for.
        drop_path: Largest stochastic depth, reached in the last pair.
        reads_scores: Whether keypoints are x, y and score; the published networks read x and y.
        fixed_length: Whether only windows of full length are taken.
    """

    width: int
    depth: int
    window: int = WINDOW
    drop_path: float = 0.2
    reads_scores: bool = False
    fixed_length: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """Numbers per keypoint."""
        return 3 if self.reads_scores else 2


SMALL = PoseMambaConfig(width=64, depth=10)
BASE = PoseMambaConfig(width=128, depth=10)
LARGE = PoseMambaConfig(width=128, depth=20)


class CrossScan(nn.Module):
    """The state-space branch of a block: gate, 3x3 depthwise convolution, four scans, norm (keys ``op.*``)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        E, R, N, K = 2 * d, math.ceil(d / 16), NUM_STATES, NUM_DIRECTIONS
        self.x_proj_weight = nn.Parameter(torch.empty(K, R + 2 * N, E).uniform_(-(E**-0.5), E**-0.5))
        self.dt_projs_weight = nn.Parameter(torch.empty(K, E, R).uniform_(-(R**-0.5), R**-0.5))
        self.dt_projs_bias = nn.Parameter(step_biases(K, E))
        self.A_logs = nn.Parameter(decay_logs(K * E, N))
        self.Ds = nn.Parameter(torch.ones(K * E))
        self.out_norm = nn.LayerNorm(E)
        self.in_proj = nn.Linear(d, 2 * E, bias=False)
        self.conv2d = nn.Conv2d(E, E, kernel_size=3, padding=1, groups=E)
        self.out_proj = nn.Linear(E, d, bias=False)
        self.scan_backend = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        B, T, J, _ = x.shape
        K, E, _ = self.dt_projs_weight.shape
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, T, J, E) each
        backend = resolve_backend(self.scan_backend, x.device)
        u = grid_conv(u, self.conv2d.weight, cast(Tensor, self.conv2d.bias), backend)
        limbs = u + u[:, :, index_on(str(x.device), LIMB_SOURCE)]
        sources = [limbs.view(B, T * J, E), u.view(B, T * J, E)]
        projections = [source @ self.x_proj_weight[k::2].flatten(0, 1).T for k, source in enumerate(sources)]
        y = cross_scan(  # in the weights' precision under autocast, too: thousands of decays are multiplied
            [source.to(self.Ds.dtype) for source in sources],
            [projection.to(self.Ds.dtype) for projection in projections],
            self.dt_projs_weight,
            self.dt_projs_bias,
            -torch.exp(self.A_logs).view(K, E, -1),
            self.Ds.view(K, E),
            grid_orders(T, J, str(x.device)),
            backend=backend,
        )
        norm = self.out_norm
        gated = gated_norm(y.view(B, T, J, E), z, norm.weight, norm.bias, norm.eps, backend)
        return self.out_proj(gated)


class Block(nn.Module):
    """Pre-norm residual block: scan branch, then MLP, both with stochastic depth per sample."""

    def __init__(self, d: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.op = CrossScan(d)
        self.norm2 = nn.LayerNorm(d, eps=1e-6)
        self.mlp = MLP(d, ratio=2)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, J, d) for x (B, T, J, d)."""
        x = x + dropped(self.op(self.norm(x)), self.drop_path, self.training)
        return x + dropped(self.mlp(self.norm2(x)), self.drop_path, self.training)


class PoseMamba(nn.Module):
    """The whole network; ``forward`` maps (B, T, 17, 2) to (B, T, 17, 3) for 1 <= T <= window."""

    def __init__(self, config: PoseMambaConfig) -> None:
        super().__init__()
        d, n = config.width, config.depth
        self.config = config
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, d))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, config.window, d))
        self.Spatial_patch_to_embedding = nn.Linear(config.channels, d)
        drop = rising(config.drop_path, n)
        self.STEblocks = nn.ModuleList(Block(d, p) for p in drop)
        self.TTEblocks = nn.ModuleList(Block(d, p) for p in drop)
        self.Spatial_norm = nn.LayerNorm(d, eps=1e-6)
        self.Temporal_norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 3))

    def forward(self, keypoints: Tensor, first_frame: int | Tensor = 0) -> Tensor:
        """Return joints (B, T, 17, 3) for normalized keypoints (B, T, 17, 2).

        Args:
            keypoints: H36M-17 points in the normalization that the weights were trained with.
            first_frame: Row of the temporal embedding that frame 0 gets; training on short windows moves it about so
                that every row learns. An int64 tensor (1,) is not checked: that would wait for the GPU.

        Raises:
            ValueError: Wrong shape, or more frames than the window holds.
        """
        check_keypoints(keypoints, self.config, first_frame)
        T = keypoints.shape[1]
        x = self.Spatial_patch_to_embedding(keypoints) + self.Spatial_pos_embed[:, None]
        for i, (spatial, temporal) in enumerate(zip(self.STEblocks, self.TTEblocks, strict=True)):
            x = self.Spatial_norm(spatial(x))
            if i == 0:
                x = x + rows_from(self.Temporal_pos_embed, first_frame, T)[:, :, None]
            x = self.Temporal_norm(temporal(x))
        return self.head(x)


def config_of(state_dict: dict[str, Tensor]) -> PoseMambaConfig:
    """Return the configuration that a PoseMamba state dict was saved from.

    Raises:
        ValueError: The keys are not those of a PoseMamba.
    """
    try:
        _, d = state_dict["STEblocks.0.op.in_proj.weight"].shape  # no other network has this key
        _, window, _ = state_dict["Temporal_pos_embed"].shape
        _, channels = state_dict["Spatial_patch_to_embedding.weight"].shape
        depth = len({int(key.split(".")[1]) for key in state_dict if key.startswith("STEblocks.")})
    except (KeyError, ValueError) as error:
        raise ValueError("no PoseMamba weights: expected keys such as STEblocks.0.op.in_proj.weight") from error
    return PoseMambaConfig(width=d, depth=depth, window=window, reads_scores=channels == 3)


def build(config: PoseMambaConfig) -> PoseMamba:
    """Return an untrained network."""
    return PoseMamba(config)
