"""``read_result``: a ``PoseResult`` out of a pose.json, which may come from anybody."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.motion import ModelInfo, Pose3D, Shot
from app.options import Options
from app.pose_schema import read_pose_json
from app.quality.person_quality import PersonQuality
from app.results import PoseResult
from app.video.picture.bars import Bars
from app.video.video_info import VideoInfo
from detectors.people import NUM_KEYPOINTS, Track

MOST_FRAMES = 10_000_000  # files have a row for each; no clip that was analyzed comes near


def read_result(path: Path) -> PoseResult:
    """Return the result that a pose.json, or the pose.json of a folder, was written from, to the precision of the file.

    ``video.path`` is the name alone: the video is not there. ``options`` are the defaults but for field of view and
    body height; ``provenance`` is that of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, of another schema version, or does not hold what the schema promises.
    """
    path = path / "pose.json" if path.is_dir() else path
    document = read_pose_json(path)
    try:
        return _result(document)
    except (ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is damaged ({reason}); analyze the video again") from error


def _result(document: dict[str, Any]) -> PoseResult:
    video = _video(document["video"])
    unit = document["coordinates"]["joints_3d"]["unit"]
    tracks = [_track(person, video) for person in document["people"]]
    poses = [_pose(person, track, unit) for person, track in zip(document["people"], tracks, strict=True)]
    if len({track.person_id for track in tracks}) < len(tracks):
        raise ValueError("two people have the same id")
    people = document["people"]
    options = Options(
        fov_degrees=document["camera"]["fov_degrees"],
        height=",".join(f"{each['id']}={each['height_m']}" for each in people if each["scale"] == "from_height")
        or None,
    )
    shots = tuple(_shot(shot) for shot in document["camera"]["shots"])
    models = ModelInfo(**document["models"], unit=unit)
    made_with, num_found = dict(document["provenance"]), int(document["num_people_found"])
    result = PoseResult(video, tracks, poses, options, models, shots, made_with, num_found=num_found)
    quality = [{**entry, "warnings": tuple(entry["warnings"])} for entry in document["quality"]]
    known = {
        "video_sha256": document["video"]["sha256"],
        "quality": tuple(PersonQuality(**entry) for entry in quality),
    }
    heights = [person["camera_height"] for person in people]
    known["floors"] = tuple(
        floor if floor is None or height is None else replace(floor, height=-float(height))
        for floor, height in zip(result.floors, heights, strict=True)
    )
    vars(result).update(known)  # what a result would compute, from a video that is not there
    return result


def _video(about: dict[str, Any]) -> VideoInfo:
    count, fps = int(about["num_frames"]), float(about["fps"])
    if not (1 <= count <= MOST_FRAMES and 0 < fps < math.inf):
        raise ValueError(f"{count} frames at {fps} per second")
    times = np.array(about["timestamps_s"], np.float64) if "timestamps_s" in about else np.arange(count) / fps
    name = Path(str(about["name"])).name or "clip"
    size = int(about["width"]), int(about["height"])
    is_constant, warnings = bool(about["has_constant_rate"]), tuple(about["warnings"])
    bars = Bars(*map(int, about["bars"]))
    if min(bars) < 0 or min(bars.inner_size(*size)) < 1:
        raise ValueError(f"borders {list(bars)} of a picture of {size[0]} x {size[1]}")
    return VideoInfo(
        Path(name), *size, fps, count, int(about["rotation"]), times, is_constant, warnings,
        is_mirrored=bool(about["is_mirrored"]), start_s=float(about["start_s"]),
        slow_motion=float(about["slow_motion"]), bars=bars,
    )  # fmt: skip


def _track(person: dict[str, Any], video: VideoInfo) -> Track:
    frames = np.array(person["frames"], np.int64)
    if not (len(frames) and frames[0] >= 0 and frames[-1] < video.num_frames):
        raise ValueError(f"frames of a person lie outside the video's {video.num_frames}")
    keypoints = _numbers(person["keypoints_2d"], len(frames), 3)
    return Track(
        _person_id(person["id"]),
        frames,
        np.ascontiguousarray(keypoints[..., :2]),
        np.ascontiguousarray(keypoints[..., 2]),
        np.array(person["observed"], bool),
        np.array(person["valid"], bool),
        _flags(person["repaired"], len(frames)),
    )


def _pose(person: dict[str, Any], track: Track, unit: str) -> Pose3D:
    count = len(track.frames)
    root = None if person["root"] is None else _numbers(person["root"], count, 3, joints=0)
    joints = _numbers(person["joints_3d"], count, 3)
    scores = _numbers(person["joints_score"], count, 0)
    unseen = _flags(person["unseen"], count)
    return Pose3D(track.person_id, track.frames, joints, scores, unit, root, unseen)


def _flags(joints: list[list[int]], count: int) -> np.ndarray:
    """Return (count, 17) bool from the joints that are named per frame."""
    flags = np.zeros((count, NUM_KEYPOINTS), bool)
    for row, names in zip(flags, joints, strict=True):
        row[names] = True
    return flags


def _person_id(value: Any) -> int:
    """Return an id, which becomes part of file names."""
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ValueError(f"{value!r} is no id of a person")
    return value


def _numbers(values: Any, count: int, columns: int, joints: int = NUM_KEYPOINTS) -> np.ndarray:
    """Return float32 numbers (count, joints, columns), which must be finite; axes of 0 are left out."""
    array = np.array(values, np.float32)
    shape = (count, *(size for size in (joints, columns) if size))
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers of shape {shape}, got shape {array.shape}")
    return array


def _shot(about: dict[str, Any]) -> Shot:
    up = None if about["up"] is None else np.array(about["up"], np.float64)
    if up is not None and not (up.shape == (3,) and abs(np.linalg.norm(up) - 1) < 1e-3):
        raise ValueError(f"{about['up']} is no unit vector")
    first, last = about["frames"]
    return Shot(int(first), int(last) + 1, about["is_camera_moving"], up, about["up_from"])
