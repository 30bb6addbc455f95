"""What the pipeline returns: ``VideoInfo``, ``Shot``, ``Pose3D`` and ``PoseResult``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from app.video.video_info import VideoInfo
from detectors.people import Track

DECIMALS = {"px": 2, "m": 4, "score": 3, "s": 6, "unit vector": 6}  # of numbers in files, by unit


PAUSE_S = 1.0  # a longer time between two frames is a pause of the recording: motion does not continue across it


def contiguous_segments(track: Track, video: VideoInfo) -> list[slice]:
    """Return the uninterrupted parts of a track, as slices of its frame axis: valid throughout and without a pause."""
    times = video.timestamps_s[track.frames]
    is_pause = (
        np.diff(times) > max(PAUSE_S, 3 * float(np.median(np.diff(times)))) if len(times) > 1 else np.zeros(0, bool)
    )
    starts = track.valid & np.concatenate([[True], ~track.valid[:-1] | is_pause])
    ends = track.valid & np.concatenate([~track.valid[1:] | is_pause, [True]])
    return [slice(int(a), int(b) + 1) for a, b in zip(np.flatnonzero(starts), np.flatnonzero(ends), strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """Frames without a cut, and what is known of the camera in them.

    Attributes:
        start: First frame.
        stop: Frame after the last one.
        moves: Whether the camera moves (pans, shakes, zooms or walks); None if the pictures do not tell.
        up: (3,) float64 unit vector against gravity in camera axes; None if nobody stands upright in the shot.
        up_from: What ``up`` was estimated from: "bodies and feet", "bodies" or "nothing".
    """

    start: int
    stop: int
    moves: bool | None = None
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
    """

    person_id: int
    frames: np.ndarray
    joints: np.ndarray
    scores: np.ndarray
    unit: str
    root: np.ndarray | None = None

    def __post_init__(self) -> None:
        t = len(self.frames)
        if self.joints.shape != (t, 17, 3) or self.scores.shape != (t, 17):
            raise ValueError(
                f"joints and scores must have shapes ({t}, 17, 3) and ({t}, 17), "
                f"got {self.joints.shape} and {self.scores.shape}"
            )
        if self.unit not in ("m", "normalized"):
            raise ValueError(f"unit must be 'm' or 'normalized', got {self.unit!r}")
        if self.root is not None and (self.root.shape != (t, 3) or self.unit != "m"):
            raise ValueError(f"root must have shape ({t}, 3) and unit 'm', got {self.root.shape} and {self.unit!r}")


@dataclass(frozen=True, slots=True, eq=False)
class PoseResult:
    """Everything known about a clip; exports, rendering and the web page take this and never run a model.

    Attributes:
        video: The decoded video.
        tracks: One track per person; empty when nobody is in the clip.
        poses: One pose per track, in the same order and on the same frames.
        provenance: Versions, models, weight hashes, backend, device and options, ready for JSON.
        stage_seconds: Wall seconds spent per stage.
        shots: What lies between the cuts, in order; all of the video as one shot if left out.
    """

    video: VideoInfo
    tracks: list[Track]
    poses: list[Pose3D]
    provenance: dict[str, Any]
    stage_seconds: dict[str, float] = field(default_factory=dict)
    shots: tuple[Shot, ...] = ()

    def __post_init__(self) -> None:
        if not self.shots:
            object.__setattr__(self, "shots", (Shot(0, self.video.num_frames),))
        if [t.person_id for t in self.tracks] != [p.person_id for p in self.poses]:
            raise ValueError("tracks and poses must name the same people in the same order")
        for track, pose in zip(self.tracks, self.poses, strict=True):
            if not np.array_equal(track.frames, pose.frames):
                raise ValueError(f"track and pose of person {track.person_id} lie on different frames")

    def shot_of(self, track: Track) -> Shot:
        """Return the shot a track lies in; tracks never cross a cut."""
        return next(shot for shot in reversed(self.shots) if shot.start <= track.frames[0])

    def only(self, index: int) -> PoseResult:
        """Return the same result with nobody but the person at ``index`` of ``tracks``."""
        return replace(self, tracks=[self.tracks[index]], poses=[self.poses[index]])
