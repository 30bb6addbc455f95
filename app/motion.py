"""The parts of a ``PoseResult``: ``Shot``, ``Pose3D`` and ``ModelInfo``, and the gaps in a track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.video.video_info import VideoInfo
from detectors.people import Track

DECIMALS = {"px": 2, "m": 4, "score": 3, "s": 6, "unit vector": 6}  # of numbers in files, by unit
PAUSE_S = 1.0  # a longer time between two frames is a pause of the recording: motion does not continue across it


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The networks behind a result.

    Attributes:
        lifter: Name of the lifter.
        unit: Of its joints: ``"m"`` or ``"normalized"``.
        window: Frames per window of the lifter.
        fps: Frames per second that the lifter takes.
        summary: Detector, weights and flip averaging in one line: what ``Options.quality`` meant.
    """

    lifter: str = "unknown"
    unit: str = "m"
    window: int = 243
    fps: float = 50.0
    summary: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """Frames without a cut, and what is known of the camera in them.

    Attributes:
        start: First frame.
        stop: Frame after the last one.
        is_camera_moving: Whether the camera pans, shakes, zooms or walks; None if the pictures do not tell.
        up: (3,) float64 unit vector against gravity in camera axes; None if nobody stands upright in the shot.
        up_from: What ``up`` was estimated from: "bodies and feet", "bodies" or "nothing".
    """

    start: int
    stop: int
    is_camera_moving: bool | None = None
    up: np.ndarray | None = None
    up_from: str = "nothing"


@dataclass(frozen=True, slots=True, eq=False)
class Pose3D:
    """3D joints of one person, frame by frame as in its track.

    Attributes:
        person_id: Identity of the track.
        frames: (T,) int64, consecutive frame indices.
        joints: (T, 17, 3) float32, H36M-17, camera axes (x right, y down, z away), pelvis at the origin.
        scores: (T, 17) float32 in [0, 1], mapped from the 2D scores.
        unit: ``"m"`` if the lifter was trained in meters, else ``"normalized"``.
        root: (T, 3) float32 meters, the pelvis in camera axes with the camera at the origin; None unless the unit is
            "m". In frames that are not ``Track.valid`` it only bridges the gap, as joints do.
        unseen: (T, 17) bool, joints that are guesses, as the picture's border or something before them hides them for
            long (``app.geometry.unseen_joints``); none if left out.
    """

    person_id: int
    frames: np.ndarray
    joints: np.ndarray
    scores: np.ndarray
    unit: str
    root: np.ndarray | None = None
    unseen: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        t = len(self.frames)
        if self.unseen is None:
            object.__setattr__(self, "unseen", np.zeros((t, 17), np.bool_))
        if self.unseen.shape != (t, 17) or self.unseen.dtype != np.bool_:
            raise ValueError(f"unseen must be bool of shape ({t}, 17), got {self.unseen.dtype} {self.unseen.shape}")
        if self.joints.shape != (t, 17, 3) or self.scores.shape != (t, 17):
            raise ValueError(
                f"joints and scores must have shapes ({t}, 17, 3) and ({t}, 17), "
                f"got {self.joints.shape} and {self.scores.shape}"
            )
        if self.unit not in ("m", "normalized"):
            raise ValueError(f"unit must be 'm' or 'normalized', got {self.unit!r}")
        if self.root is not None and (self.root.shape != (t, 3) or self.unit != "m"):
            raise ValueError(f"root must have shape ({t}, 3) and unit 'm', got {self.root.shape} and {self.unit!r}")


def contiguous_segments(track: Track, video: VideoInfo) -> list[slice]:
    """Return the uninterrupted parts of a track, as slices of its frame axis: valid throughout and without a pause."""
    steps = np.diff(video.timestamps_s[track.frames])
    is_pause = steps > max(PAUSE_S, 3 * float(np.median(steps))) if len(steps) else np.zeros(0, bool)
    starts = track.valid & np.concatenate([[True], ~track.valid[:-1] | is_pause])
    ends = track.valid & np.concatenate([~track.valid[1:] | is_pause, [True]])
    return [slice(int(a), int(b) + 1) for a, b in zip(np.flatnonzero(starts), np.flatnonzero(ends), strict=True)]


def join_segments(values: np.ndarray, segments: list[slice], num_frames: int) -> np.ndarray:
    """Return values (num_frames, ...) float64 of a track, in straight lines where no segment is.

    Args:
        values: (K, ...) of all frames that lie in a segment.
        segments: Of ``contiguous_segments``, K frames together.
        num_frames: Of the track.
    """
    known = np.concatenate([np.arange(segment.start, segment.stop) for segment in segments])
    columns = values.reshape(len(known), -1).T
    filled = np.stack([np.interp(np.arange(num_frames), known, column) for column in columns], axis=1)
    return filled.reshape(num_frames, *values.shape[1:])
