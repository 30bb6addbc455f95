"""``Pinhole``: how points in front of the camera and pixels belong together, for an assumed field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.video.video_info import VideoInfo
from lifter.normalize import focal_px


@dataclass(frozen=True, slots=True)
class Pinhole:
    """A camera without distortion whose axis goes through the middle of the picture that lies inside burnt-in borders.

    Attributes:
        focal_px: Focal length in pixels.
        center_px: Pixel on the optical axis; the center of the first pixel is (0, 0).
    """

    focal_px: float
    center_px: tuple[float, float]

    @classmethod
    def of(cls, video: VideoInfo, fov_degrees: float) -> Pinhole:
        """Return the camera that sees ``fov_degrees`` along the longer side of a video's picture, without borders."""
        width, height = video.inner_size
        left, top = video.bars.left, video.bars.top
        return cls(focal_px(width, height, fov_degrees), (left + (width - 1) / 2, top + (height - 1) / 2))

    def rays(self, keypoints_px: np.ndarray) -> np.ndarray:
        """Return points (..., 2) on the plane z = 1 of keypoints (..., 2) in pixels."""
        return (keypoints_px - self.center_px) / self.focal_px

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return pixels (..., 2) of points (..., 3) in camera axes (x right, y down, z away), which must have z > 0."""
        return self.focal_px * points[..., :2] / points[..., 2:] + self.center_px
