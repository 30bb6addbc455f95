"""HRNet for keypoints: picture of one person -> one heatmap per joint, with the key names of the published files.

The network keeps a full-resolution branch (a quarter of the input) from start to end and adds branches of half the
resolution and twice the channels; after every module each branch receives the sum of all others.

    stem        two strided convolutions, 4 bottleneck blocks          256 channels at 1/4
    stage 2     1 module,  branches of C, 2C                           channels at 1/4, 1/8
    stage 3     4 modules, branches of C, 2C, 4C
    stage 4     3 modules, branches of C, 2C, 4C, 8C; only the first is read from the last one
    final       1x1 convolution                                        17 heatmaps at 1/4

Source: Sun et al., Deep High-Resolution Representation Learning for Human Pose Estimation, CVPR 2019; key names of
leoxiaobin/deep-high-resolution-net.pytorch, lib/models/pose_hrnet.py. Own code, tested against timm's network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from checkpoints.tensors import Weights
from detectors.people import NUM_KEYPOINTS
from detectors.strict_weights import require_fit

BLOCKS = 4  # residual blocks per branch and module, and bottlenecks of the stem
MODULES = {2: 1, 3: 4, 4: 3}  # modules per stage; stage s has s branches
STEM, WIDE = 64, 256  # channels of the stem before and after the bottlenecks
STRIDE = 4  # input pixels per heatmap pixel
MAX_WIDTH = 64  # published: 32 and 48
INPUT = re.compile(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)")  # height x width, as published file names have it


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the size (or halves it, stride 2) and its normalization."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added; channels stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(channels, channels)
        self.conv2, self.bn2 = conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + x).relu()


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions to ``WIDE`` channels, around which the input is added."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, STEM, 1)
        self.conv2, self.bn2 = conv_bn(STEM, STEM)
        self.conv3, self.bn3 = conv_bn(STEM, WIDE, 1)
        self.downsample = None if inputs == WIDE else nn.Sequential(*conv_bn(inputs, WIDE, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 256, H, W)."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


def fuse(source: int, target: int, channels: list[int]) -> nn.Module | None:
    """Return what turns branch ``source`` into the size and channels of ``target``; None where it is itself."""
    if source == target:
        return None
    if source > target:  # smaller picture: fewer channels, then repeat pixels
        steps = conv_bn(channels[source], channels[target], 1)
        return nn.Sequential(*steps, nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"))
    halvings = []
    for step in range(source, target):
        is_last = step == target - 1
        layers = conv_bn(channels[source], channels[target] if is_last else channels[source], stride=2)
        halvings.append(nn.Sequential(*layers, *([] if is_last else [nn.ReLU()])))
    return nn.Sequential(*halvings)


class Module(nn.Module):
    """Blocks on every branch, then every branch the sum of all; with ``is_last`` only the first branch is made."""

    def __init__(self, channels: list[int], is_last: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(BLOCKS))) for c in channels)
        targets = range(1 if is_last else len(channels))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse(source, target, channels) for source in range(len(channels)))  # type: ignore[misc]
            for target in targets
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """Map branches (B, C * 2^i, H / 2^i, W / 2^i) to the same shapes."""
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        outputs = []
        for row in self.fuse_layers:
            terms = [x if layer is None else layer(x) for layer, x in zip(row, xs, strict=True)]  # type: ignore[call-overload]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            outputs.append(total.relu())
        return outputs


class HRNet(nn.Module):
    """(B, 3, H, W) normalized RGB -> (B, 17, H / 4, W / 4) heatmaps.

    Args:
        width: Channels C of the full-resolution branch: 32 and 48 are published; multiples of 8 down to 8 make small
            ones.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.conv1, self.bn1 = conv_bn(3, STEM, stride=2)
        self.conv2, self.bn2 = conv_bn(STEM, STEM, stride=2)
        self.layer1 = nn.Sequential(Bottleneck(STEM), *(Bottleneck(WIDE) for _ in range(BLOCKS - 1)))
        before = [WIDE]
        for stage, modules in MODULES.items():
            channels = [width * 2**branch for branch in range(stage)]
            setattr(self, f"transition{stage - 1}", transition(before, channels))
            is_last = [stage == max(MODULES) and module == modules - 1 for module in range(modules)]
            setattr(self, f"stage{stage}", nn.Sequential(*(Module(channels, last) for last in is_last)))
            before = channels
        self.final_layer = nn.Conv2d(width, NUM_KEYPOINTS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (B, 3, H, W) to heatmaps (B, 17, H / 4, W / 4); H and W must be multiples of 32."""
        return self.final_layer(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Return the full-resolution branch (B, C, H / 4, W / 4) before the last convolution."""
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        xs = [self.layer1(x)]  # (B, 256, H / 4, W / 4)
        for stage in MODULES:
            layers = getattr(self, f"transition{stage - 1}")
            xs = [xs[min(i, len(xs) - 1)] if f is None else f(xs[min(i, len(xs) - 1)]) for i, f in enumerate(layers)]
            xs = getattr(self, f"stage{stage}")(xs)
        return xs[0]


def transition(before: list[int], after: list[int]) -> nn.ModuleList:
    """Return what leads from one stage's branches to the next one's: None, a change of channels, or a new half."""
    layers: list[nn.Module | None] = []
    for branch, channels in enumerate(after):
        if branch >= len(before):
            layers.append(nn.Sequential(nn.Sequential(*conv_bn(before[-1], channels, stride=2), nn.ReLU())))
        elif before[branch] != channels:
            layers.append(nn.Sequential(*conv_bn(before[branch], channels), nn.ReLU()))
        else:
            layers.append(None)
    return nn.ModuleList(layers)  # type: ignore[arg-type]


def from_weights(weights: Weights) -> tuple[HRNet, tuple[int, int]]:
    """Return the network in a file, in inference mode, and its input size (height, width) px.

    Official ``pose_hrnet_*.pth``, MMPose's ``td-hm_hrnet-*.pth`` and our own safetensors; the width is the weights'.

    Raises:
        ValueError: Not the weights of such a network; or nothing says the input size.
    """
    tensors = with_official_names(weights.tensors)
    width = _width_of(tensors, weights)
    with torch.device("meta"):  # nothing is initialized that the file replaces
        network = HRNet(width)
    require_fit(tensors, network, weights.path, f"an HRNet of width {width}")
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False), _input_size(weights)


def with_official_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with MMPose's prefixes, if it has them, taken off."""
    prefixes = ("backbone.", "head.", "keypoint_head.")
    renamed = {}
    for key, tensor in tensors.items():
        for prefix in prefixes:
            key = key.removeprefix(prefix)
        renamed[key] = tensor
    return renamed


def _width_of(tensors: Mapping[str, Tensor], weights: Weights) -> int:
    final = tensors.get("final_layer.weight")
    if final is None or final.ndim != 4 or final.shape[0] != NUM_KEYPOINTS or final.shape[2:] != (1, 1):
        shape = None if final is None else tuple(final.shape)
        raise ValueError(
            f"{weights.path} holds no HRNet for COCO-17: final_layer.weight must be (17, C, 1, 1), is {shape}"
        )
    width = int(final.shape[1])
    if not 8 <= width <= MAX_WIDTH:
        raise ValueError(f"{weights.path} claims an HRNet of width {width}; expected 8 to {MAX_WIDTH}")
    return width


def _input_size(weights: Weights) -> tuple[int, int]:
    match = INPUT.search(str(weights.about.get("input", ""))) or INPUT.search(weights.path.name)
    if match is None:
        raise ValueError(
            f"nothing says which input size {weights.path} was trained for; name it as the published files are, "
            "for example pose_hrnet_w32_256x192.pth (height x width)"
        )
    height, width = int(match[1]), int(match[2])
    if height % 32 or width % 32 or max(height, width) > 1024:
        raise ValueError(f"{weights.path} says input {height}x{width}; expected multiples of 32 up to 1024")
    return height, width
