"""Where people are: the pelvis in camera space, from 2D keypoints and root-relative joints of known size.

A body of known size that fills so many pixels is so far away. For every joint, root (X, Y, Z) plus joint (x, y, z) lies
on the viewing ray (u, v) of its keypoint: X + x = u (Z + z), Y + y = v (Z + z). These are linear in the root, and least
squares over the joints have a closed form. Its weak part is the depth Z: an error of one per cent in the length of a
leg is one per cent of the distance. It jitters ten times as much as people do and hardly anything of it is motion, so Z
is a smoothing spline of the frames' answers, weighted by how much each frame knows, and X and Y follow the keypoints.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import solveh_banded

from app.camera import Pinhole
from app.options import Options
from app.results import Pose3D, VideoInfo, stretches
from app.smoothing import low_pass
from detectors.people import Track
from lifter.skeletons import LIMB_JOINTS, coco17_to_h36m17

LIMBS = list(LIMB_JOINTS)  # joints that mean the same in 2D and 3D; trunk and head are marked at different places
# Where the spline halves an amplitude. Measured on the rendered clips (detected 2D, true field of view and height): the
# error of velocity falls by 60 %, that of position by 10 %; at 2 Hz half of the jitter stays, at 0.5 Hz turns are cut.
DEPTH_CUTOFF_HZ = 1.0
ROUNDS = 5  # of reweighting
ROBUST = 1.5  # robust standard deviations from which on a joint counts less
LEAST_SCORE = 0.02
NEAREST_M = 0.1  # from the lens to the nearest joint


def with_root(track: Track, pose: Pose3D, video: VideoInfo, options: Options) -> Pose3D:
    """Return a pose with its trajectory; unchanged if its unit is not "m", as then nothing has a size.

    Every uninterrupted stretch is solved by itself, and between two of them the root moves in a straight line.
    """
    if pose.unit != "m":
        return pose
    camera = Pinhole.of(video, options.fov_degrees)
    keypoints = coco17_to_h36m17(track.keypoints.astype(np.float64))
    scores = np.where(track.observed[:, None], pose.scores, 0)
    known, roots = [], []
    for run in stretches(track, video):
        times = video.timestamps_s[track.frames[run]]
        root = solve_root(pose.joints[run, LIMBS], camera.rays(keypoints[run, LIMBS]), scores[run, LIMBS], times)
        roots.append(root if options.smooth_hz is None else low_pass(root, times, options.smooth_hz))
        known.append(np.arange(len(track.frames))[run])
    frames, values = np.concatenate(known), np.concatenate(roots)
    bridged = [np.interp(np.arange(len(track.frames)), frames, column) for column in values.T]
    return replace(pose, root=np.stack(bridged, axis=1).astype(np.float32))


def solve_root(joints: np.ndarray, rays: np.ndarray, scores: np.ndarray, timestamps_s: np.ndarray) -> np.ndarray:
    """Return the roots (T, 3) float64 in metres, camera axes, of one uninterrupted stretch.

    Args:
        joints: (T, J, 3) metres, relative to the root.
        rays: (T, J, 2) keypoints on the plane z = 1.
        scores: (T, J) trust in each keypoint; keypoints that disagree with the others lose it (Huber).
        timestamps_s: (T,) seconds, increasing.
    """
    joints = joints.astype(np.float64)
    trust = np.maximum(scores, LEAST_SCORE)
    nearest = NEAREST_M - joints[..., 2].min(axis=1)
    weights = trust
    for _ in range(ROUNDS):
        depth, information, centre, offset = solve_frames(joints, rays, weights)
        depth = np.maximum(depth, nearest)
        points = joints + _root(depth, centre, offset)[:, None]
        far = np.maximum(points[..., 2], NEAREST_M)
        miss = np.linalg.norm(points[..., :2] / far[..., None] - rays, axis=-1)
        usual = 1.4826 * np.median(miss, axis=1, keepdims=True)
        weights = trust * np.minimum(1, ROBUST * usual / np.maximum(miss, 1e-9)) / far**2
    depth, information, centre, offset = solve_frames(joints, rays, weights)
    depth = np.maximum(smooth_depth(depth, information, timestamps_s), nearest)
    return _root(depth, centre, offset)


def solve_frames(
    joints: np.ndarray, rays: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return every frame's weighted least squares by itself: depth, information, centre, offset.

    With a depth Z (T,) the best X and Y are ``centre`` (T, 2) times Z plus ``offset`` (T, 2); ``information`` (T,) is
    the curvature of the squared error in Z.
    """
    weights = weights[..., None]  # (T, J, 1)
    total = weights.sum(axis=1)
    constant = rays * joints[..., 2:] - joints[..., :2]  # X - u Z = u z - x
    centre, offset = (weights * rays).sum(axis=1) / total, (weights * constant).sum(axis=1) / total
    spread = rays - centre[:, None]
    information = (weights * spread**2).sum(axis=(1, 2))
    depth = -(weights * spread * (constant - offset[:, None])).sum(axis=(1, 2)) / np.maximum(information, 1e-12)
    return depth, information, centre, offset


def smooth_depth(depth: np.ndarray, information: np.ndarray, timestamps_s: np.ndarray) -> np.ndarray:
    """Return depths (T,) as a cubic smoothing spline that halves amplitudes at ``DEPTH_CUTOFF_HZ``.

    Minimizes the sum of information times squared change, plus the integral of the squared acceleration times a factor
    that follows from the cut-off. No delay, no lag at the ends; constant speed passes unchanged.
    """
    if len(depth) < 3:
        return depth
    steps = np.diff(timestamps_s)
    before, after = steps[:-1], steps[1:]
    both = (before + after) / 2
    second = np.stack([1 / (before * both), -1 / before / both - 1 / after / both, 1 / (after * both)])  # (3, T - 2)
    typical = float(np.median(information)) or 1.0
    trust = np.maximum(information / typical, 1e-6)
    pull = both / float(np.median(steps)) / (2 * np.pi * DEPTH_CUTOFF_HZ) ** 4
    bands = np.zeros((3, len(depth)))  # upper diagonals, the main one last
    bands[2] = trust
    for i in range(3):
        for j in range(i, 3):
            bands[2 - (j - i), j : len(depth) - 2 + j] += pull * second[i] * second[j]
    return solveh_banded(bands, trust * depth)


def _root(depth: np.ndarray, centre: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return np.concatenate([centre * depth[:, None] + offset, depth[:, None]], axis=1)
