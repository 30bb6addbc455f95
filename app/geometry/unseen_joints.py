"""``unseen_joints``: which joints are guesses, because the picture's border or a desk hides them for long."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from app.motion import Pose3D
from app.video.video_info import VideoInfo
from detectors.people import Track
from detectors.tracking.keypoint_repair import CONFIDENT_SCORE, UNSEEN_SCORE
from lifter.skeletons import COCO17, H36M17

WINDOW_S = 0.5  # a joint counts as unseen where it is in most frames of this time: the network bridges shorter ones
FACE = slice(0, 5)
# Joints of H36M-17 that are not marked themselves, and those of COCO-17 one of which must be seen for them.
DERIVED = {
    "pelvis": ("left_hip", "right_hip"),
    "spine": ("left_hip", "right_hip"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "head": ("left_eye", "right_eye", "left_ear", "right_ear"),
}


def unseen_keypoints(pose: Pose3D) -> np.ndarray:
    """Return (T, 17) bool, COCO-17: keypoints of limbs whose joints are unseen in a pose, and all of an unseen head."""
    names = [name if name in H36M17.names else "head" for name in COCO17.names]
    return pose.unseen[:, [H36M17.index(name) for name in names]]


def unseen_joints(track: Track, video: VideoInfo) -> np.ndarray:
    """Return (T, 17) bool, H36M-17: joints whose places are guesses, frame by frame.

    A joint is one where, in most frames of half a second, it lies outside of the picture, or it and its partner on the
    other side are hidden. Who hides one arm behind the body, or the face by turning round, is known well enough.

    Args:
        track: Of one person; frames that were not observed count as those around them.
        video: For the picture inside burnt-in borders, and the frame rate.
    """
    scores, keypoints = track.scores, track.keypoints - video.bars.origin
    is_outside = ((keypoints < -0.5) | (keypoints > np.array(video.inner_size) - 0.5)).any(axis=-1) & (
        scores < CONFIDENT_SCORE
    )
    is_hidden = scores < UNSEEN_SCORE
    is_hidden &= is_hidden[:, COCO17.mirrored]
    is_hidden[:, FACE] = False
    observed = track.observed.astype(np.float64)[:, None]
    guesses = np.where(observed, is_outside | is_hidden, 0).astype(np.float64)
    size = max(1, round(WINDOW_S * video.median_fps)) | 1
    share = uniform_filter1d(guesses, size, axis=0, mode="nearest")
    is_unseen = share > 0.5 * uniform_filter1d(observed, size, axis=0, mode="nearest")
    sources = [DERIVED.get(name, (name,)) for name in H36M17.names]
    return np.stack([is_unseen[:, [COCO17.index(name) for name in names]].all(axis=1) for names in sources], axis=1)
