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


def read_result(path: Path, video: VideoInfo) -> PoseResult:
    """Return the result that a pose.json holds, with its rounded numbers; quality and hash are those of the file.

    Args:
        path: The pose.json.
        video: The video that it was made from, as ``app.video.reader.probe`` counts it under the same options.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another schema version, or of a video with another number of frames.
    """
    document = read_pose_json(path)
    if (count := document["video"]["num_frames"]) != video.num_frames:
        raise ValueError(f"{video.path.name} has {video.num_frames} frames, {path.name} is of one with {count}")
    unit = document["coordinates"]["joints_3d"]["unit"]
    result = PoseResult(
        video,
        [_track(person) for person in document["people"]],
        [_pose(person, unit) for person in document["people"]],
        _options(document),
        ModelInfo(**document["models"], unit=unit),
        tuple(_shot(shot) for shot in document["camera"]["shots"]),
        document["provenance"],
        num_found=document["num_people_found"],
    )
    quality = tuple(PersonQuality(**each) for each in document["quality"])
    # Where cached_property keeps its values: hashing takes long, and files hold less than quality needs.
    vars(result).update(video_sha256=document["video"]["sha256"], quality=quality)
    return result


def _options(document: dict[str, Any]) -> Options:
    """Return the options that a pose.json was made with."""
    written = document["provenance"]["options"].items()
    settings: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in written}
    return Options(**settings)


def keep_people(result: PoseResult, people: str) -> PoseResult:
    """Return a result without those whom ``people`` (as ``Options.people``) does not mean; no other number changes.

    Raises:
        ValueError: Somebody is meant who is not in it.
    """
    kept = {track.person_id for track in select_people(result.tracks, people)}
    rows = [index for index, track in enumerate(result.tracks) if track.person_id in kept]
    provenance = {**result.provenance, "options": {**result.provenance.get("options", {}), "people": people}}
    fewer = replace(
        result,
        tracks=[result.tracks[row] for row in rows],
        poses=[result.poses[row] for row in rows],
        options=replace(result.options, people=people),
        provenance=provenance,
    )
    known = {name: tuple(getattr(result, name)[row] for row in rows) for name in ("quality", "floors")}
    vars(fewer).update(known, video_sha256=result.video_sha256)
    return fewer


def _track(person: dict[str, Any]) -> Track:
    keypoints = np.array(person["keypoints_2d"], np.float32)  # (T, 17, 3)
    return Track(
        person["id"], np.array(person["frames"], np.int64), keypoints[..., :2].copy(), keypoints[..., 2].copy(),
        np.array(person["observed"], bool), np.array(person["valid"], bool),
        _flags(person["repaired"]),
    )  # fmt: skip


def _pose(person: dict[str, Any], unit: str) -> Pose3D:
    root = None if person["root"] is None else np.array(person["root"], np.float32)
    joints, scores = (np.array(person[name], np.float32) for name in ("joints_3d", "joints_score"))
    frames, unseen = np.array(person["frames"], np.int64), _flags(person["unseen"])
    return Pose3D(person["id"], frames, joints, scores, unit, root, unseen)


def _flags(joints: list[list[int]]) -> np.ndarray:
    """Return (T, 17) bool, True for the joints that are listed for each frame."""
    flags = np.zeros((len(joints), 17), bool)
    for row, listed in zip(flags, joints, strict=True):
        row[listed] = True
    return flags


def _shot(shot: dict[str, Any]) -> Shot:
    first, last = shot["frames"]
    up = None if shot["up"] is None else np.array(shot["up"])
    return Shot(first, last + 1, shot["is_camera_moving"], up, shot["up_from"])
