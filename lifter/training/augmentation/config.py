"""Configuration of the data augmentation: body motion, virtual cameras and simulated detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lifter.skeletons import MOTION_FPS

BACK_AND_FORTH = 0.7  # of the windows of our own training


@dataclass(frozen=True)
class AugmentationConfig:
    """How far training windows stray from the recordings; ``p_*`` are probabilities per window.

    Noise is in units of the person's size in the picture (longer side of the box, mean over the window) and is scaled
    per joint by ``SPREAD``.
    """

    speed: tuple[float, float] = (0.6, 1.6)
    p_varied: float = 0.5  # share of windows that are spliced and bent at all; the others move as recorded
    p_splice: float = 0.35  # upper body from another clip
    p_bend: float = 0.35  # each pivot
    p_tilt: float = 0.1  # whole body, up to 1.6 rad
    bone_scale: float = 0.06
    fov_degrees: tuple[float, float] = (28.0, 80.0)  # along the longer side of the picture
    person_height: tuple[float, float] = (0.25, 0.85)  # of the picture's height
    p_steep_camera: float = 0.25  # pitch from -0.5 to 1.1 rad instead of 0.08 +- 0.2
    p_turning_camera: float = 0.3  # turns where it stands, and as often walks around the person
    p_exact: float = 0.15  # windows whose keypoints are the truth
    offset: tuple[float, float] = (0.5, 1.2)  # times ``OFFSET_UP``
    joint_bias: float = 0.013
    slow_jitter: tuple[float, float] = (0.005, 0.014)
    white_jitter: tuple[float, float] = (0.0005, 0.003)
    p_half_hidden: float = 0.08  # legs, or one side, out of view for the whole window
    p_burst: float = 0.04  # each joint
    burst_size: float = 0.12
    p_swap: float = 0.04  # arms, and again legs
    p_dropout: float = 0.1  # everything missing for some frames
    p_low_rate: float = 0.6  # filmed at 10 to 60 fps instead of 50
    p_short: float = 0.2  # the clip ends within the window, whose rest repeats its last frame as at inference
    p_unscored: float = 0.25  # the detector gives no confidence: all scores are 1
    back_and_forth: float = 0.0  # a clip shorter than the window turns round at its ends, instead of standing still
    normalization: str = "person"
    fps: float = MOTION_FPS  # of the windows; the motion is filmed at 50 and every second frame taken for 25

    @property
    def stride(self) -> int:
        """Recorded frames per frame of a window."""
        return round(MOTION_FPS / self.fps)


CLEAN: dict[str, Any] = {  # no error of a detector
    "p_exact": 0.0, "offset": (0.0, 0.0), "joint_bias": 0.0, "slow_jitter": (0.0, 0.0), "white_jitter": (0.0, 0.0),
    "p_half_hidden": 0.0, "p_burst": 0.0, "p_swap": 0.0, "p_dropout": 0.0, "p_low_rate": 0.0, "p_short": 0.0,
    "p_unscored": 1.0,
}  # fmt: skip
