"""``PoseResult``: everything known about a clip, and the numbers that follow from it, each computed once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from app.geometry.floor import Floor, resting_level, shared_floors
from app.geometry.world import AXES, to_world, world_places
from app.motion import ModelInfo, Pose3D, Shot
from app.options import Options
from app.quality.indicators import assess
from app.quality.person_quality import PersonQuality
from app.video.video_info import VideoInfo
from checkpoints import sha256_of
from detectors.people import Track
from lifter.skeletons import with_rigid_bones

__all__ = ["ModelInfo", "Pose3D", "PoseResult", "Shot"]


@dataclass(frozen=True, eq=False)
class PoseResult:
    """Everything known about a clip; exports, rendering and the web page take this and never run a model.

    Attributes:
        video: The decoded video.
        tracks: One track per person; empty when nobody is in the clip.
        poses: One pose per track, in the same order and on the same frames.
        options: Settings that it was made with; exports take axes, formats and gravity alignment from here.
        models: The networks that it was made with.
        shots: What lies between the cuts, in order; all of the video as one shot if left out.
        provenance: Versions, models, weight hashes, backend, device and options, ready for JSON; written, never read.
        stage_seconds: Wall seconds spent per stage.
        num_found: People found before ``Options.people`` chose among them; those of ``tracks`` if left out.
    """

    video: VideoInfo
    tracks: list[Track]
    poses: list[Pose3D]
    options: Options = Options()
    models: ModelInfo = field(default_factory=ModelInfo)
    shots: tuple[Shot, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    num_found: int = -1

    def __post_init__(self) -> None:
        if not self.shots:
            object.__setattr__(self, "shots", (Shot(0, self.video.num_frames),))
        if self.num_found < 0:
            object.__setattr__(self, "num_found", len(self.tracks))
        if [t.person_id for t in self.tracks] != [p.person_id for p in self.poses]:
            raise ValueError("tracks and poses must name the same people in the same order")
        for track, pose in self.people:
            if not np.array_equal(track.frames, pose.frames):
                raise ValueError(f"track and pose of person {track.person_id} lie on different frames")

    @property
    def people(self) -> list[tuple[Track, Pose3D]]:
        """Everybody's track and pose."""
        return list(zip(self.tracks, self.poses, strict=True))

    def shot_of(self, track: Track) -> Shot:
        """Return the shot a track lies in; tracks never cross a cut."""
        return next(shot for shot in reversed(self.shots) if shot.start <= track.frames[0])

    @cached_property
    def video_sha256(self) -> str:
        """SHA-256 of the video file, 64 hexadecimal digits."""
        return sha256_of(self.video.path)

    @cached_property
    def quality(self) -> tuple[PersonQuality, ...]:
        """How far each person's numbers can be trusted."""
        return tuple(
            assess(self.video, track, pose, self.shot_of(track), floor, self.options, self.models)
            for (track, pose), floor in zip(self.people, self.floors, strict=True)
        )

    @cached_property
    def floors(self) -> tuple[Floor | None, ...]:
        """The floor below each person; None if it is not known. In a still shot people share one."""
        floors: list[Floor | None] = [None] * len(self.tracks)
        for shot in self.shots:
            people = [i for i, track in enumerate(self.tracks) if self.shot_of(track) is shot]
            pairs = [self.people[i] for i in people]
            levels = [resting_level(world_places(pose, to_world(shot.up)), track, pose) for track, pose in pairs]
            own: list[Floor | None] = [None if level is None else Floor(level) for level in levels]
            roots = [pose.root for _, pose in pairs]
            if not shot.is_camera_moving and any(own) and all(root is not None for root in roots):
                distances = [float(np.median(root[:, 2])) for root in roots if root is not None]
                own = list(shared_floors(levels, distances, [float(track.observed.sum()) for track, _ in pairs]))
            for i, floor in zip(people, own, strict=True):
                floors[i] = floor
        return tuple(floors)

    def camera_height(self, index: int) -> float | None:
        """Return how high the camera is above a person's floor in meters; None without a trajectory or a floor.

        It is measured in the person's own size: people of unknown heights give different answers.
        """
        floor = self.floors[index]
        return None if floor is None or self.poses[index].root is None else -floor.height

    def has_floor(self, index: int) -> bool:
        """Return whether a person stands on a floor at height 0 in world axes."""
        return self.options.is_upright and self.shot_of(self.tracks[index]).up is not None

    def world_rotation(self, shot: Shot) -> np.ndarray:
        """Return the rotation (3, 3) from camera axes to world axes with y up, by gravity if the options ask for it."""
        return to_world(shot.up if self.options.is_upright else None)

    def floor_shift(self, index: int) -> float:
        """Return what is added to a person's heights in world axes to put the floor at 0.

        0 without a floor, or if the options ask for none: heights are those over the camera.
        """
        floor = self.floors[index]
        return -floor.height if floor is not None and self.options.is_upright else 0.0

    def world_joints(self, index: int, *, up: str | None = None, has_rigid_bones: bool = False) -> np.ndarray:
        """Return a person's joints (T, 17, 3) float64 in the world axes of ``app.geometry.world``.

        Args:
            index: Of ``tracks``.
            up: The axis that points up, "y" or "z"; None is that of the options.
            has_rigid_bones: Give every bone its median length, the same left and right.
        """
        track, pose = self.people[index]
        rotation = self.world_rotation(self.shot_of(track))
        if not has_rigid_bones:
            places = world_places(pose, rotation)
            places[..., 1] += self.floor_shift(index)
        else:
            places = world_places(replace(pose, joints=with_rigid_bones(pose.joints)), rotation)
            floor, shift = self.floors[index], self.floor_shift(index)
            if floor is not None and floor.is_own and self.options.is_upright:
                shift = -(resting_level(places, track, pose) or floor.height)  # other bones rest at another height
            places[..., 1] += shift
        return places @ AXES[up or self.options.up].rotation.T
