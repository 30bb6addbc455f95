"""The stack that MotionAGFormer, HGMamba and SSR-STF share: embedding, blocks, wide representation, 3D head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lifter.models.layers.inputs import NUM_JOINTS, check_keypoints

REPRESENTATION = 512  # width before the last layer


class BlockStack(nn.Module):
    """A network of blocks (B, T, J, d) to (B, T, J, d); ``forward`` maps (B, T, 17, 3) to (B, T, 17, 3).

    Args:
        config: Configuration with ``width`` d and what ``check_keypoints`` asks for.
        blocks: The blocks; an iterator, so that their weights are drawn after those of the embedding.
    """

    def __init__(self, config: Any, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.joints_embed = nn.Linear(config.channels, d)
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, d))
        self.layers = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(d)
        self.rep_logit = nn.Sequential(OrderedDict(fc=nn.Linear(d, REPRESENTATION), act=nn.Tanh()))
        self.head = nn.Linear(REPRESENTATION, 3)

    def forward(self, keypoints: Tensor, first_frame: int | Tensor = 0) -> Tensor:
        """Return joints (B, T, 17, 3) for normalized keypoints and scores (B, T, 17, 3).

        Args:
            keypoints: H36M-17 points in the normalization that the weights were trained with; the third number is the
                score in [0, 1].
            first_frame: Changes nothing where it is allowed: there is no temporal embedding to begin elsewhere in.

        Raises:
            ValueError: Wrong shape, or a number of frames that the network does not take.
        """
        check_keypoints(keypoints, self.config, first_frame)
        x = self.embed(keypoints)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.rep_logit(self.norm(x)))

    def embed(self, keypoints: Tensor) -> Tensor:
        """Return what the first block gets, (B, T, J, d)."""
        return self.joints_embed(keypoints) + self.pos_embed
