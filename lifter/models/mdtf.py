"""MDTF: bone directions are recognized first, then joints and bones are fused and refined by Mamba over both axes.

Keys, shapes and numbers of both stages are those of the published networks, with which one weights file is made by
``join_stages``. Source: Zheng et al., "Mamba-Driven Topology Fusion for Monocular 3D Human Pose Estimation", 2025 /
ZenghaoZheng/MDTF-3DHPE@8a9e945, which runs once the two graph layers that its constructor lost are put back.

Different from it, unless ``as_released`` asks for the same: a bone's numbers go to the joint at its end, for which they
were trained (there they go to the joint before it in the list, and the last joint gets zeros); and the first stage
leaves out no branches while the second is trained.

Symbols: B windows, T frames, J = 17 joints, d model width and, as ``expand`` is 1, E = d inner width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifter.models.layers.bimamba import BiMamba
from lifter.models.layers.bone_aware import BoneAware, MambaBlock, bone_classes, bone_features, turned
from lifter.models.layers.graph_mixers import GraphMixer, joint_adjacency
from lifter.models.layers.inputs import NUM_JOINTS, check_keypoints, rows_from
from lifter.models.layers.residual import MLP, Fusion, dropped, rising
from lifter.skeletons import H36M17

MOMENTUM = 0.1  # of the batch norms' running statistics
MARK = "trained_with_published_mistakes"


@dataclass(frozen=True)
class MDTFConfig:
    """Size of an MDTF.

    Attributes:
        width: d, channels per token.
        depth: Pairs of (spatial, temporal) blocks of the second stage.
        window: Most frames the temporal embedding has room for.
        drop_path: Largest stochastic depth of both stages, reached in their last blocks.
        as_released: Whether to repeat the published code's mistakes, which its weights were trained with.
    """

    width: int
    depth: int
    window: int = 243
    drop_path: float = 0.1
    as_released: bool = False
    channels: ClassVar[int] = 3
    fixed_length: ClassVar[bool] = False


TINY = MDTFConfig(width=64, depth=8)
LARGE = MDTFConfig(width=128, depth=12)


class JointNorm(nn.BatchNorm1d):
    """Batch norm with the joints as channels; ``is_reversed``: its numbers are stored from the last to the first."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, *, is_reversed: bool) -> None:
        super().__init__(NUM_JOINTS, momentum=MOMENTUM)
        self.is_reversed = is_reversed

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, J, d) for x (rows, J, d), joints in order."""
        if not self.is_reversed:
            return super().forward(x)
        mean, var = self.running_mean.flip(0), self.running_var.flip(0)
        y = F.batch_norm(x, mean, var, self.weight.flip(0), self.bias.flip(0), self.training, MOMENTUM, self.eps)
        if self.training:
            self.num_batches_tracked.add_(1)
            self.running_mean.copy_(mean.flip(0))
            self.running_var.copy_(var.flip(0))
        return y


class JointGraph(GraphMixer):
    """Graph convolution over the skeleton: ReLU(x + norm(A V x + U x)), A the normalized adjacency of the bones."""

    adjacency: Tensor

    def __init__(self, d: int, *, is_reversed: bool) -> None:
        super().__init__(d, JointNorm(is_reversed=is_reversed))
        near = [[a + b - joint for a, b in H36M17.edges if joint in (a, b)] for joint in range(NUM_JOINTS)]
        self.register_buffer("adjacency", joint_adjacency(near), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (rows, J, d) for x (rows, J, d)."""
        return F.relu(x + self.batch_norm(self.adjacency @ self.V(x) + self.U(x)))


class GraphMamba(BiMamba):
    """Mamba over the joints of a frame, with a graph convolution of its own before each direction."""

    def __init__(self, d: int) -> None:
        super().__init__(d, 1, is_mean=True)
        self.norm_gcn = nn.LayerNorm(d)
        self.norm_gcn_b = nn.LayerNorm(d)
        self.gcn = JointGraph(d, is_reversed=False)
        self.gcn_b = JointGraph(d, is_reversed=True)  # the graph of the published code, for its reversed joints

    def before_convolutions(self, inner: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the forward and the backward convolution get, in joint order, for the inner half (rows, J, d)."""
        return self.gcn(self.norm_gcn(inner)), self.gcn_b(self.norm_gcn_b(inner))


class GraphBlock(nn.Module):
    """Pre-norm residual block over the joints of a frame: graph and Mamba, then an MLP."""

    def __init__(self, d: int, drop_path: float) -> None:
        super().__init__()
        self.gcnmamba = GraphMamba(d)
        self.mlp = MLP(d, ratio=2)
        self.mambanorm1 = nn.LayerNorm(d, eps=1e-6)
        self.mambanorm2 = nn.LayerNorm(d, eps=1e-6)
        self.drop_path = drop_path

    def forward(self, x: Tensor, drops: bool) -> Tensor:
        """Return (rows, J, d) for x (rows, J, d); ``drops`` as in ``MambaBlock``."""
        x = x + dropped(self.gcnmamba(self.mambanorm1(x)), self.drop_path, drops)
        return x + dropped(self.mlp(self.mambanorm2(x)), self.drop_path, drops)


class MDTF(nn.Module):
    """Both stages; ``forward`` maps (B, T, 17, 3), x, y and score, to (B, T, 17, 3) for 1 <= T <= window.

    The first stage is trained by itself (``pretraining_loss``), then frozen: ``forward`` passes it no gradient.
    """

    def __init__(self, config: MDTFConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.bam = BoneAware(config.channels, config.drop_path)
        if config.as_released:  # weights are right for one of the two only: an empty tensor among them tells which
            self.register_buffer(MARK, torch.zeros(0, dtype=torch.int64))
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, d))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, config.window, d))
        self.Spatial_patch_to_embedding1 = nn.Linear(config.channels, d)
        self.Spatial_patch_to_embedding2 = nn.Linear(3, d)
        rates = rising(config.drop_path, config.depth)
        self.STEblocks = nn.ModuleList(GraphBlock(d, rate) for rate in rates)
        self.TTEblocks = nn.ModuleList(MambaBlock(d, rate) for rate in rates)
        self.limbSpatialMamba = MambaBlock(d, 0.0)
        self.limbSpatialNorm = nn.LayerNorm(d, eps=1e-6)
        self.limbTemporalMamba = MambaBlock(d, 0.0)
        self.limbTemporalNorm = nn.LayerNorm(d, eps=1e-6)
        self.fusion = Fusion(d)
        self.Spatial_norm = nn.LayerNorm(d, eps=1e-6)
        self.Temporal_norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 3))

    def forward(self, keypoints: Tensor, first_frame: int | Tensor = 0) -> Tensor:
        """Return joints (B, T, 17, 3) for normalized keypoints (B, T, 17, 3).

        Args:
            keypoints: H36M-17 points (x, y, score) in the normalization that the weights were trained with.
            first_frame: Row of the temporal embedding that frame 0 gets; training on short windows moves it about so
                that every row learns. An int64 tensor (1,) is not checked: that would wait for the GPU.

        Raises:
            ValueError: Wrong shape, or more frames than the window holds.
        """
        check_keypoints(keypoints, self.config, first_frame)
        B, T, drops = len(keypoints), keypoints.shape[1], self.training
        times = rows_from(self.Temporal_pos_embed, first_frame, T)
        x = self.Spatial_patch_to_embedding1(keypoints) + self.Spatial_pos_embed[:, None]
        x = self.Spatial_norm(self.STEblocks[0](x.flatten(0, 1), drops))  # (B T, J, d)
        x = self.Temporal_norm(self.TTEblocks[0](turned(x, B) + times, drops))  # (B J, T, d)
        bones = self.Spatial_patch_to_embedding2(self.bones(keypoints)).flatten(0, 1)
        bones = self.limbSpatialNorm(self.limbSpatialMamba(bones, drops))
        bones = self.limbTemporalNorm(self.limbTemporalMamba(turned(bones, B), drops))
        x = self.fusion(x, bones)
        for spatial, temporal in zip(self.STEblocks[1:], self.TTEblocks[1:], strict=True):
            x = self.Spatial_norm(spatial(turned(x, B), drops))
            x = self.Temporal_norm(temporal(turned(x, B), drops))
        return turned(self.head(x), B).unflatten(0, (B, T))

    @torch.no_grad()
    def bones(self, keypoints: Tensor) -> Tensor:
        """Return what the first stage tells the second: (B, T, 17, 3) of ``bone_features`` at the joints that get them.

        The first stage leaves out branches only where the published code's mistakes are wanted and in training.
        """
        as_released = self.config.as_released
        features = bone_features(keypoints, self.bam(keypoints, drops=self.training and as_released).argmax(-1))
        return features.roll(-1, dims=2) if as_released else features  # the pelvis' zeros end up at the last joint

    @property
    def pretrained_part(self) -> nn.Module:
        """The first stage, which is trained by ``pretraining_loss`` and frozen after that."""
        return self.bam

    def pretraining_loss(self, inputs: Tensor, joints: Tensor) -> Tensor:
        """Return the mean cross entropy () of the first stage's classes.

        Args:
            inputs: (B, T, 17, 3) keypoints as for ``forward``.
            joints: (B, T, 17, 3) true joints in the axes of the camera that saw the keypoints; any unit.
        """
        check_keypoints(inputs, self.config)
        logits = self.bam(inputs, drops=self.training)
        return F.cross_entropy(logits.flatten(0, 2), bone_classes(joints).flatten())


def config_of(state_dict: dict[str, Tensor]) -> MDTFConfig:
    """Return the configuration that an MDTF state dict, of both stages, was saved from.

    Raises:
        ValueError: The keys are not those of an MDTF.
    """
    try:
        _, _, d = state_dict["Spatial_pos_embed"].shape
        _, window, _ = state_dict["Temporal_pos_embed"].shape
        _ = state_dict["bam.mlp.0.weight"]  # no other network has this key
        depth = len({int(key.split(".")[1]) for key in state_dict if key.startswith("STEblocks.")})
        if not (d and window and depth):
            raise ValueError(f"width {d}, window {window}, depth {depth}")
    except (KeyError, ValueError) as error:
        raise ValueError(
            "no MDTF weights: expected keys such as bam.mlp.0.weight (the two published files are made one by "
            "lifter.models.mdtf.join_stages)"
        ) from error
    return MDTFConfig(width=d, depth=depth, window=window, as_released=MARK in state_dict)


def build(config: MDTFConfig) -> MDTF:
    """Return an untrained network."""
    return MDTF(config)


def join_stages(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return one state dict, as ``config_of`` and ``MDTF`` read it, of the published files of the two stages.

    Example::

        first, second = (read_weights(path).tensors for path in (bone_aware_path, lifter_path))
        save_file(join_stages(first, second), "mdtf.safetensors")  # safetensors.torch
    """
    renamed = {f"bam.{key}": tensor for key, tensor in first.items()}
    return {**renamed, **second, MARK: torch.zeros(0, dtype=torch.int64)}
