"""Geometry of one body in pixels: place, size, likeness of two poses, and what motion a body is capable of.

Lengths are measured in body sizes (``body_size``), so that nothing depends on the resolution.
"""

from __future__ import annotations

import math

import numpy as np

from lifter.skeletons import COCO17

BODY = np.r_[0, 5:17]  # nose and the twelve limb joints; eyes and ears add nothing to place and size
TORSO = np.array([5, 6, 11, 12])  # shoulders and hips
BONES = np.array(
    [
        (0, 5),
        (0, 6),
        (5, 6),
        (5, 7),
        (7, 9),
        (6, 8),
        (8, 10),
        (5, 11),
        (6, 12),
        (5, 12),
        (6, 11),
        (11, 12),
        (11, 13),
        (13, 15),
        (12, 14),
        (14, 16),
    ]
)  # of the body; those from shoulder to opposite hip stand for the trunk's area
MIRRORED = np.array(COCO17.mirrored)  # left and right swapped

# What a body can do from one frame to the next (the first number) and for every further frame unseen. Chosen for 10 fps
# and hence generous at 60: on real clips, 10 to 30 fps, the 99th percentiles are shift 0.09, log size 0.2, pose 0.14.
MAX_SHIFT, SHIFT_GROWTH, SHIFT_LIMIT = 0.35, 0.10, 1.5  # of the torso's middle [body sizes]; running at 10 fps: 0.33
MAX_RESIZE, RESIZE_GROWTH, RESIZE_LIMIT = 0.50, 0.05, 1.0  # |log(size ratio)|; 0.5 is a factor of 1.65
MAX_REPOSE, REPOSE_GROWTH, REPOSE_LIMIT = 0.30, 0.03, 0.6  # mean joint motion relative to the torso [body sizes]

# How far people who annotate disagree, per keypoint [square roots of a person's area].
COCO_SIGMAS = np.array([0.026, *np.repeat([0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089], 2)])
ROOT_AREA = 0.55  # square root of a standing person's area [body sizes]
CERTAIN = 0.05  # weight of a joint that scores 0, next to 1 for one that scores 1, so that no pair has no weight at all


def body_size(keypoints: np.ndarray) -> float:
    """Return the diagonal [px] of the box around nose and limbs of keypoints (17, 2), at least 1."""
    spans = np.ptp(keypoints[BODY], axis=0)
    return max(float(np.hypot(spans[0], spans[1])), 1.0)


def body_center(keypoints: np.ndarray) -> np.ndarray:
    """Return the middle of shoulders and hips (2,) in px: the part that limbs do not move."""
    return keypoints[TORSO].mean(axis=0)


def motion_strain(before: np.ndarray, after: np.ndarray, elapsed: int, drift: np.ndarray | None = None) -> float:
    """Return how hard it is for one body to get from one pose to another; 1 is the most that a body can.

    Poses with left and right swapped count as the same: detectors do that to the backs of people.

    Args:
        before: (17, 2) keypoints in px.
        after: (17, 2) keypoints in px, ``elapsed`` frames later.
        elapsed: Frames between the two, at least 1. Limits grow with it and then stay.
        drift: (2,) motion of the body's center before [px per frame]; both standing still and going on are possible.
    """
    extra = elapsed - 1
    size = min(body_size(before), body_size(after))
    move = body_center(after) - body_center(before)
    going_on = move if drift is None else move - elapsed * drift
    shift = min(float(np.linalg.norm(move)), float(np.linalg.norm(going_on))) / size
    resize = abs(math.log(body_size(after) / body_size(before)))
    repose = min(mean_distance(before, pose - move) for pose in (after, after[MIRRORED])) / size
    return max(
        shift / min(MAX_SHIFT + SHIFT_GROWTH * extra, SHIFT_LIMIT),
        resize / min(MAX_RESIZE + RESIZE_GROWTH * extra, RESIZE_LIMIT),
        repose / min(MAX_REPOSE + REPOSE_GROWTH * extra, REPOSE_LIMIT),
    )


def is_possible_motion(before: np.ndarray, after: np.ndarray, elapsed: int, drift: np.ndarray | None = None) -> bool:
    """Return whether one body can do this (see ``motion_strain``); if not, they are two bodies, or one is none."""
    return motion_strain(before, after, elapsed, drift) <= 1


def mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean distance [px] of nose and limbs of keypoints (17, 2)."""
    return float(np.linalg.norm((first - second)[BODY], axis=1).mean())


def oks(
    first: np.ndarray,
    second: np.ndarray,
    first_scores: np.ndarray,
    second_scores: np.ndarray,
    slack: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Return (M, N) float64 in [0, 1]: how alike every pose of one set is to every pose of another.

    Object keypoint similarity over nose and limbs, the area taken from ``body_size`` of the first set. Joints count by
    both scores.

    Args:
        first: (M, 17, 2) keypoints in px.
        second: (N, 17, 2) keypoints in px.
        first_scores: (M, 17) in [0, 1].
        second_scores: (N, 17) in [0, 1].
        slack: Added to every joint's tolerance [body sizes], one number or (M,): motion since the first was seen.

    Source: COCO keypoint evaluation, https://cocodataset.org/#keypoints-eval; the slack is ours.
    """
    sizes = np.array([body_size(pose) for pose in first]).reshape(-1, 1, 1)
    distance = np.linalg.norm(first[:, None, BODY] - second[None, :, BODY], axis=-1) / sizes  # (M, N, 13)
    tolerance = 2 * COCO_SIGMAS[BODY] * ROOT_AREA + np.reshape(slack, (-1, 1, 1))
    weights = first_scores[:, None, BODY] * second_scores[None, :, BODY] + CERTAIN
    return (np.exp(-0.5 * (distance / tolerance) ** 2) * weights).sum(axis=-1) / weights.sum(axis=-1)


def grow_box(box: np.ndarray, margin: float) -> np.ndarray:
    """Return box (4,) enlarged on every side by ``margin`` times its longer side."""
    pad = margin * float(max(box[2] - box[0], box[3] - box[1]))
    return box + np.array([-pad, -pad, pad, pad])


def pose_difference(first: np.ndarray, second: np.ndarray, is_counted: np.ndarray | None = None) -> float:
    """Return the median joint distance of keypoints (17, 2) [body sizes]; which side is left does not matter.

    Args:
        first: (17, 2) px.
        second: (17, 2) px.
        is_counted: (17,) bool, joints of ``first`` to compare, of nose and limbs; None for all of those.
    """
    joints = BODY if is_counted is None else BODY[is_counted[BODY]]
    straight, swapped = (
        float(np.median(np.linalg.norm((first - other)[joints], axis=1))) for other in (second, second[MIRRORED])
    )
    return min(straight, swapped) / body_size(first)


def share_on_body(inner: np.ndarray, outer: np.ndarray, reach: float) -> float:
    """Return the share of nose and limb joints of one pose that lie on the bones of another.

    Args:
        inner: (17, 2) keypoints in px.
        outer: (17, 2) keypoints in px.
        reach: How far from a bone still counts [body sizes of ``outer``].
    """
    joints = inner[BODY][:, None]  # (13, 1, 2)
    start, stop = outer[BONES[:, 0]], outer[BONES[:, 1]]
    bone = stop - start
    along = ((joints - start) * bone).sum(-1) / np.maximum((bone**2).sum(-1), 1e-9)
    nearest = start + np.clip(along, 0, 1)[..., None] * bone
    distance = np.linalg.norm(joints - nearest, axis=-1).min(axis=1)
    return float((distance <= reach * body_size(outer)).mean())
