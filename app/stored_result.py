"""A ``PoseResult`` out of the pose.json it was written to, so that files can be written again without any network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.motion import ModelInfo, Pose3D, Shot
from app.options import Options
from app.person_selection import select_people
from app.pose_schema import read_pose_json
from app.quality.person_quality import PersonQuality
from app.results import PoseResult
from app.video.video_info import VideoInfo
from detectors.people import Track


def read_result(path: Path, clip: Path) -> PoseResult:
    """Return the result that a pose.json holds, with its rounded numbers; quality and hash are those of the file.

    Args:
        path: The pose.json.
        clip: The video that it was made from; needed for the overlay only.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another schema version.
    """
    document = read_pose_json(path)
    written = document["provenance"]["options"].items()
    settings: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in written}
    unit = document["coordinates"]["joints_3d"]["unit"]
    result = PoseResult(
        _video(document["video"], clip),
        [_track(person) for person in document["people"]],
        [_pose(person, unit) for person in document["people"]],
        Options(**settings),
        ModelInfo(**document["models"], unit=unit),
        tuple(_shot(shot) for shot in document["camera"]["shots"]),
        document["provenance"],
    )
    return _with_known(result, document["video"]["sha256"], [PersonQuality(**each) for each in document["quality"]])


def keep_people(result: PoseResult, people: str) -> PoseResult:
    """Return a result without those whom ``people`` (as ``Options.people``) does not mean.

    Raises:
        ValueError: Somebody is meant who is not in it.
    """
    kept = {track.person_id for track in select_people(result.tracks, people)}
    quality = [each for each in result.quality if each.id in kept]
    provenance = {**result.provenance, "options": {**result.provenance.get("options", {}), "people": people}}
    fewer = replace(
        result,
        tracks=[track for track in result.tracks if track.person_id in kept],
        poses=[pose for pose in result.poses if pose.person_id in kept],
        options=replace(result.options, people=people),
        provenance=provenance,
    )
    return _with_known(fewer, result.video_sha256, quality)


def _with_known(result: PoseResult, video_sha256: str, quality: list[PersonQuality]) -> PoseResult:
    """Return ``result`` that need not compute these: the video may be gone, and files hold less than quality needs."""
    vars(result).update(video_sha256=video_sha256, quality=tuple(quality))  # where cached_property keeps its values
    return result


def _video(video: dict[str, Any], clip: Path) -> VideoInfo:
    count, fps = video["num_frames"], video["fps"]
    times_s = np.array(video["timestamps_s"]) if "timestamps_s" in video else np.arange(count) / fps
    return VideoInfo(
        clip, video["width"], video["height"], fps, count, video["rotation"], times_s, video["has_constant_rate"],
        tuple(video["warnings"]),
    )  # fmt: skip


def _track(person: dict[str, Any]) -> Track:
    keypoints = np.array(person["keypoints_2d"], np.float32)  # (T, 17, 3)
    repaired = np.zeros(keypoints.shape[:2], bool)
    for row, joints in zip(repaired, person["repaired"], strict=True):
        row[joints] = True
    return Track(
        person["id"], np.array(person["frames"], np.int64), keypoints[..., :2].copy(), keypoints[..., 2].copy(),
        np.array(person["observed"], bool), np.array(person["valid"], bool), repaired,
    )  # fmt: skip


def _pose(person: dict[str, Any], unit: str) -> Pose3D:
    root = None if person["root"] is None else np.array(person["root"], np.float32)
    joints, scores = (np.array(person[name], np.float32) for name in ("joints_3d", "joints_score"))
    return Pose3D(person["id"], np.array(person["frames"], np.int64), joints, scores, unit, root)


def _shot(shot: dict[str, Any]) -> Shot:
    first, last = shot["frames"]
    up = None if shot["up"] is None else np.array(shot["up"])
    return Shot(first, last + 1, shot["is_camera_moving"], up, shot["up_from"])
