"""MediaPipe's own 3D, for comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.video.reader import VideoReader
from detectors.blazepose.networks import LANDMARKS
from lifter.skeletons import COCO17, coco17_to_h36m17


def mediapipe_world(clip: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the landmarks of the one person whom MediaPipe follows, NaN where it finds nobody.

    Returns:
        World landmarks as H36M-17 joints (F, 17, 3), meters, camera axes, and COCO-17 keypoints (F, 17, 2), pixels.
    """
    import mediapipe

    order = [LANDMARKS[name] for name in COCO17.names]
    joints, keypoints = [], []
    with mediapipe.solutions.pose.Pose(model_complexity=1) as pose:
        for frame in VideoReader(clip):
            found = pose.process(frame)
            points, pixels = np.full((33, 3), np.nan), np.full((33, 2), np.nan)
            if found.pose_world_landmarks is not None:
                points = np.array([(p.x, p.y, p.z) for p in found.pose_world_landmarks.landmark])
                size = frame.shape[1], frame.shape[0]
                pixels = np.array([(p.x, p.y) for p in found.pose_landmarks.landmark]) * size - 0.5
            joints.append(coco17_to_h36m17(points[order]))
            keypoints.append(pixels[order])
    return np.array(joints), np.array(keypoints)
