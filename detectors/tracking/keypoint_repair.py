"""Repair of one person's keypoints in time: swapped sides, outliers, joints that were not seen.

Sides are decided over the whole track (``detectors.tracking.side_swaps``); the rest only inside observed segments
and only where the frames around leave no doubt: fast true motion must pass. Every changed joint is flagged. Lengths
are in body sizes (``detectors.pose_geometry.body_size``, about 1.6 m of an adult).
"""

from __future__ import annotations

import numpy as np

from detectors.people import NUM_KEYPOINTS
from detectors.pose_geometry import BODY
from detectors.tracking.segments import contiguous_segments
from detectors.tracking.side_swaps import fix_left_right_swaps

# Of a joint to and fro [body sizes/s²], 300 m/s². On mocap of kicks, punches, kata, dance and breakdance in three
# projections 3 of 150 000 frames at 25 and 50 fps exceed it.
MAX_ACCELERATION = 190.0
SPIKE = 0.35  # a joint that is away from its neighbors' line by this for a frame or two jumped at any frame rate ...
MIN_SPIKE = 0.12  # ... and one that is away by less than this did not: detectors waver [body sizes]
SPIKE_RETURN = 0.10  # the frames around a jump agree to this [body sizes] ...
SPIKE_CONTRAST = 3  # ... or differ by this many times less than the joint is away
SPIKE_FRAMES, SPIKE_S = 2, 0.1  # longest jump: the longer of the two

UNSEEN_SCORE = 0.3  # a joint below this is a guess (at 0.5, interpolation costs accuracy) ...
CONFIDENT_SCORE = 0.5  # ... outside the picture below this; replaced if both frames around are at least this sure ...
UNSEEN_S = 0.2  # ... and not farther apart than this


def repair(
    keypoints: np.ndarray,
    scores: np.ndarray,
    observed: np.ndarray,
    fps: float,
    picture: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return repaired keypoints (T, 17, 2), their scores (T, 17), and which joints (T, 17) changed and changed sides.

    Swapped sides are swapped back, scores with them. Outliers are interpolated and score 0. Unseen joints between
    confident ones are interpolated and keep their score. Unobserved frames are interpolated (scores 0) and not flagged:
    ``observed`` tells. Joints that changed sides are among those that changed.

    Args:
        keypoints: (T, 17, 2) float32 px; any numbers where not observed.
        scores: (T, 17) float32.
        observed: (T,) bool, True at both ends.
        fps: Frames per second.
        picture: Width and height [px], None if not known.
    """
    order = fix_left_right_swaps(keypoints, scores, observed, fps)
    keypoints, scores = np.take_along_axis(keypoints, order[..., None], 1), np.take_along_axis(scores, order, 1)
    is_outlier = outliers(keypoints, observed, fps)
    scores[is_outlier] = 0
    moved = is_outlier | unseen(keypoints, scores, observed, fps, picture)
    keypoints = interpolated(keypoints, moved | ~observed[:, None])
    swapped = order != np.arange(NUM_KEYPOINTS)
    return keypoints, scores, moved | swapped, swapped


def outliers(keypoints: np.ndarray, observed: np.ndarray, fps: float) -> np.ndarray:
    """Return (T, 17) bool: joints that jump away and back faster than a body can.

    Only where the frames around the jump agree with each other, and every frame involved was observed.
    """
    found = np.zeros(keypoints.shape[:2], np.bool_)
    sizes = np.linalg.norm(np.ptp(keypoints[:, BODY], axis=1), axis=-1)
    for length in range(1, min(max(SPIKE_FRAMES, round(SPIKE_S * fps)), len(keypoints) - 2) + 1):
        # to a height and back in length + 1 frames takes an acceleration of 8 heights per squared time
        limit = MAX_ACCELERATION * (length + 1) ** 2 / (8 * fps**2)
        limit = max(limit if length > SPIKE_FRAMES else min(limit, SPIKE), MIN_SPIKE)
        before, after = keypoints[: -length - 1], keypoints[length + 1 :]  # (S, 17, 2), of every possible start
        inner = np.lib.stride_tricks.sliding_window_view(keypoints[1:-1], length, axis=0)  # (S, 17, 2, length)
        size = (sizes[: -length - 1] + sizes[length + 1 :])[:, None] / 2  # a jump inflates the size of its own frame
        away = np.linalg.norm(inner - ((before + after) / 2)[..., None], axis=2).min(axis=-1)  # (S, 17)
        apart = np.linalg.norm(after - before, axis=-1)
        is_jump = (away > limit * size) & ((apart <= SPIKE_RETURN * size) | (SPIKE_CONTRAST * apart <= away))
        is_jump &= np.lib.stride_tricks.sliding_window_view(observed, length + 2).all(axis=1)[:, None]
        for frame in range(length):
            found[1 + frame : 1 + frame + len(is_jump)] |= is_jump
    return found


def unseen(
    keypoints: np.ndarray, scores: np.ndarray, observed: np.ndarray, fps: float, picture: tuple[int, int] | None
) -> np.ndarray:
    """Return (T, 17) bool: short runs of guessed joints between confident ones, in frames that were observed."""
    is_guess = scores < UNSEEN_SCORE
    if picture is not None:
        is_outside = ((keypoints < -0.5) | (keypoints > np.array(picture) - 0.5)).any(axis=-1)
        is_guess |= is_outside & (scores < CONFIDENT_SCORE)
    is_guess &= observed[:, None]
    confident = (scores >= CONFIDENT_SCORE) & ~is_guess
    found = np.zeros(scores.shape, np.bool_)
    for joint in range(NUM_KEYPOINTS):
        for start, stop in contiguous_segments(is_guess[:, joint]):
            if start > 0 and stop < len(scores) and stop - start <= max(1, round(UNSEEN_S * fps)):
                found[start:stop, joint] = confident[start - 1, joint] and confident[stop, joint]
    return found


def interpolated(keypoints: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return keypoints (T, 17, 2) with ``missing`` (T, 17) ones on the line in time between those around them."""
    filled = keypoints.copy()
    time = np.arange(len(keypoints))
    for joint in np.flatnonzero(missing.any(axis=0)):
        gone = missing[:, joint]
        for axis in range(2):
            filled[gone, joint, axis] = np.interp(time[gone], time[~gone], keypoints[~gone, joint, axis])
    return filled
