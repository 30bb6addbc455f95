"""Skeletons: ``COCO17``, ``H36M17`` and the one mapping between them, used in training and inference alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """A named set of joints.

    Attributes:
        names: Joint names in order.
        parents: Index of each joint's parent, -1 for the root.
        left_right: Pairs (left joint, right joint); every other joint lies on the body's middle.
        extra_edges: Drawn lines that are no parent-child pair.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    left_right: tuple[tuple[int, int], ...]
    extra_edges: tuple[tuple[int, int], ...] = ()

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) of every bone, then the extra edges."""
        bones = tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)
        return bones + self.extra_edges

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Joint index after left and right are exchanged; an involution."""
        order = list(range(len(self.names)))
        for left, right in self.left_right:
            order[left], order[right] = right, left
        return tuple(order)

    def index(self, name: str) -> int:
        """Return the position of joint ``name``; ValueError if it is unknown."""
        return self.names.index(name)


COCO17 = Skeleton(
    names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    left_right=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    extra_edges=((5, 6), (11, 12)),
)  # fmt: skip

H36M17 = Skeleton(
    names=(
        "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "spine", "thorax", "nose", "head",
        "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    left_right=((4, 1), (5, 2), (6, 3), (11, 14), (12, 15), (13, 16)),
)  # fmt: skip

MOTION_FPS = 50.0  # frames per second of all training motion, and of networks whose weights name no other rate
# The adult that every training window is scaled to, so that the network never has to guess body size.
NOMINAL_BONE_SUM_M = 3.99  # over the 16 bones of H36M17: the mean of the recorded adults ...
NOMINAL_HEIGHT_M = 1.70  # ... who stand about this tall

LIMB_JOINTS = tuple(H36M17.index(f"{side}_{part}") for side in ("right", "left")
                    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"))  # fmt: skip


def _coco17_to_h36m17_weights() -> np.ndarray:
    """Return (17, 17) float32: row = H36M joint as a weighted mean of COCO keypoints; rows sum to 1.

    The midpoint convention: limbs are copied by name, the pelvis is the middle of the hips, the thorax the middle of
    the shoulders, the spine halfway between the two, and the head the mean of eyes and ears. Being linear with
    non-negative weights it commutes with scaling, translation and mirroring and applies to scores as well.
    """
    sources = {
        "pelvis": ("left_hip", "right_hip"),
        "thorax": ("left_shoulder", "right_shoulder"),
        "spine": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
        "head": ("left_eye", "right_eye", "left_ear", "right_ear"),
    }
    weights = np.zeros((17, 17), np.float32)
    for row, name in enumerate(H36M17.names):
        columns = [COCO17.index(source) for source in sources.get(name, (name,))]
        weights[row, columns] = 1 / len(columns)
    return weights


COCO17_TO_H36M17 = _coco17_to_h36m17_weights()


def coco17_to_h36m17(keypoints):
    """Return H36M-17 points (..., 17, C) of COCO-17 points (..., 17, C), NumPy array or torch tensor alike.

    Raises:
        ValueError: The second last axis is not 17.
    """
    if keypoints.ndim < 2 or keypoints.shape[-2] != 17:
        raise ValueError(f"keypoints must have shape (..., 17, C) in COCO-17 order, got {tuple(keypoints.shape)}")
    if isinstance(keypoints, np.ndarray):
        return COCO17_TO_H36M17.astype(keypoints.dtype) @ keypoints
    return keypoints.new_tensor(COCO17_TO_H36M17) @ keypoints


def mirror(points):
    """Return torch points (..., 17, C) of H36M17 with x negated and left and right exchanged; its own inverse."""
    flipped = points[..., list(H36M17.mirrored), :].clone()
    flipped[..., 0] *= -1
    return flipped


def with_rigid_bones(joints: np.ndarray) -> np.ndarray:
    """Return joints (T, 17, 3) with bones of constant length: the median over time, mean of left and right.

    The hips lie opposite each other, with the pelvis in their middle. The root and the directions of all other bones
    stay; a bone of length 0 stays as it is.
    """
    children = np.arange(1, 17)
    bones = joints[:, children] - joints[:, np.array(H36M17.parents)[children]]  # (T, 16, 3)
    hips = [H36M17.index("left_hip") - 1, H36M17.index("right_hip") - 1]
    bones[:, hips] = np.array([0.5, -0.5])[:, None] * (bones[:, hips[:1]] - bones[:, hips[1:]])
    lengths = np.linalg.norm(bones, axis=-1)
    typical = np.median(lengths, axis=0)
    typical = (typical + typical[np.array(H36M17.mirrored)[children] - 1]) / 2
    bones = bones * (typical / np.maximum(lengths, 1e-9))[..., None]
    return np.stack(joints_from_bones(joints[:, 0], bones), axis=1).astype(joints.dtype)


def joints_from_bones(pelvis, bones) -> list:
    """Return the 17 joints of H36M17, each (..., 3), by their pelvis (..., 3) and bones (..., 16, 3), parent to child.

    NumPy arrays or torch tensors alike.
    """
    placed = [pelvis]
    for child, parent in enumerate(H36M17.parents[1:], start=1):  # parents come first
        placed.append(placed[parent] + bones[..., child - 1, :])
    return placed
