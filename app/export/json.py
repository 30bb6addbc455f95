"""``pose.json``, schema ``posemamba/pose/4``; described field by field in pose.schema.json beside this file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.geometry.camera import Pinhole
from app.geometry.gravity import tilt_degrees
from app.geometry.world import to_world
from app.motion import DECIMALS
from app.pose_schema import SCHEMA
from app.results import PoseResult
from lifter.skeletons import COCO17, H36M17, NOMINAL_HEIGHT_M, Skeleton

SCHEMA_FILE = Path(__file__).with_name("pose.schema.json")


def write_json(result: PoseResult, path: Path) -> None:
    """Write ``result`` as compact JSON; about 1 kB per person and frame. Camera axes always, however world axes are."""
    path.write_text(json.dumps(document(result), separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")


def document(result: PoseResult) -> dict[str, Any]:
    """Return the JSON document as plain Python values."""
    return {
        "schema": SCHEMA,
        "video": _video(result),
        "skeletons": {"coco17": _skeleton(COCO17), "h36m17": _skeleton(H36M17)},
        "coordinates": coordinates(result),
        "camera": camera(result),
        "models": models(result),
        "num_people_found": result.num_found,
        "people": [
            {
                "id": track.person_id,
                **size_of(result, track.person_id),
                "shot": result.shots.index(result.shot_of(track)),
                "camera_height": _or_none(result.camera_height(index), "m"),
                "frames": track.frames.tolist(),
                "root": None if pose.root is None else _rounded(pose.root, "m"),
                "keypoints_2d": _keypoints(track.keypoints, track.scores),
                "joints_3d": _rounded(pose.joints, "m"),
                "joints_score": _rounded(pose.scores, "score"),
                "observed": track.observed.tolist(),
                "valid": track.valid.tolist(),
                "repaired": [np.flatnonzero(joints).tolist() for joints in track.repaired],
                "unseen": [np.flatnonzero(joints).tolist() for joints in pose.unseen],
            }
            for index, (track, pose) in enumerate(result.people)
        ],
        "quality": [quality.as_dict() for quality in result.quality],
        "provenance": result.provenance,
    }


def coordinates(result: PoseResult) -> dict[str, Any]:
    """Return axes, units and origin of all numbers."""
    unit = result.models.unit
    return {
        "keypoints_2d": {
            "unit": "px",
            "axes": "x right, y down, of the upright picture; the center of the first pixel is (0, 0)",
            "columns": ["x", "y", "score"],
        },
        "joints_3d": {
            "unit": unit,
            "axes": "camera: x right, y down, z away from the camera",
            "root": "pelvis, at the origin in every frame",
        },
        "root": {
            "unit": "m",
            "axes": "camera: x right, y down, z away from the camera, which is at the origin",
            "point": "pelvis: add it to joints_3d for places in camera space; null without meters",
        },
        "world": "to_world @ (root + joint) + (0, camera_height, 0): x right, y up from the floor, z to the camera, m; "
        "with 0 where it is null: y up from the camera",
    }


def camera(result: PoseResult) -> dict[str, Any]:
    """Return the assumed intrinsics, and per shot what is known of the camera."""
    pinhole = Pinhole.of(result.video, result.options.fov_degrees)
    shots = []
    for shot in result.shots:
        pitch, roll = (None, None) if shot.up is None else (round(angle, 2) for angle in tilt_degrees(shot.up))
        shots.append(
            {
                "frames": [shot.start, shot.stop - 1],
                "is_camera_moving": shot.is_camera_moving,
                "up": None if shot.up is None else _rounded(shot.up, "unit vector"),
                "up_from": shot.up_from,
                "pitch_degrees": pitch,
                "roll_degrees": roll,
                "to_world": _rounded(to_world(shot.up), "unit vector"),
            }
        )
    return {
        "fov_degrees": result.options.fov_degrees,
        "focal_px": round(pinhole.focal_px, DECIMALS["px"]),
        "principal_px": list(pinhole.center_px),
        "shots": shots,
    }


def size_of(result: PoseResult, person_id: int) -> dict[str, Any]:
    """Return which height in meters a person's joints have, and where it is from; None without meters."""
    if result.models.unit != "m":
        return {"scale": "unknown", "height_m": None}
    given = result.options.height_of(person_id)
    return {"scale": "from_height" if given else "nominal_adult", "height_m": given or NOMINAL_HEIGHT_M}


def models(result: PoseResult) -> dict[str, Any]:
    """Return which networks made the numbers."""
    return {name: value for name, value in asdict(result.models).items() if name != "unit"}


def _video(result: PoseResult) -> dict[str, Any]:
    info = result.video
    video = {
        "name": info.path.name,
        "sha256": result.video_sha256,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "num_frames": info.num_frames,
        "rotation": info.rotation,
        "is_mirrored": info.is_mirrored,
        "bars": list(info.bars),
        "start_s": round(info.start_s, DECIMALS["s"]),
        "slow_motion": info.slow_motion,
        "has_constant_rate": info.has_constant_rate,
        "warnings": list(info.warnings),
    }
    if not info.has_constant_rate:
        video["timestamps_s"] = _rounded(info.timestamps_s, "s")
    return video


def _skeleton(skeleton: Skeleton) -> dict[str, Any]:
    return {
        "names": list(skeleton.names),
        "parents": list(skeleton.parents),
        "edges": [list(edge) for edge in skeleton.edges],
        "left_right": [list(pair) for pair in skeleton.left_right],
    }


def _keypoints(keypoints: np.ndarray, scores: np.ndarray) -> list:
    points = np.round(keypoints.astype(np.float64), DECIMALS["px"])
    rounded = np.round(scores.astype(np.float64), DECIMALS["score"])
    return np.concatenate([points, rounded[..., None]], axis=-1).tolist()


def _rounded(values: np.ndarray, unit: str) -> list:
    return np.round(values.astype(np.float64), DECIMALS[unit]).tolist()


def _or_none(value: float | None, unit: str) -> float | None:
    return None if value is None else round(value, DECIMALS[unit])
