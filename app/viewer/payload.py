"""What ``viewer.html`` holds: the numbers of pose.json as integers in base64, a fifth of its size."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from app.geometry.floor_places import floor_places
from app.geometry.world import AXES, body_height
from app.motion import DECIMALS
from app.render.drawing import LEFT, MIDDLE, PERSON_COLORS, RIGHT
from app.results import PoseResult
from lifter.skeletons import H36M17

SCHEMA = "posemamba/viewer/2"
OBSERVED, VALID = 1, 2  # bits of a flag


def contents(result: PoseResult) -> dict[str, Any]:
    """Return what the page knows of ``result`` as plain Python values, ready for JSON.

    Arrays are little-endian and in base64: ``times`` float64 [s] of all frames; per person over its T frames ``joints``
    (T, 17, 3) int16, camera axes, from the pelvis, ``joint_steps`` of them to the unit; ``root`` (T, 3) int32 in
    1/10000 m; ``scores`` (T, 17) uint16 in 1/1000; ``unseen`` (T, 17) uint8, 1 for guesses; ``flags`` (T,) uint8 (1
    observed, 2 valid). They equal pose.json's numbers. World places, y up, are ``to_world @ (root + joint) + offset``,
    with ``to_world`` of the person's shot.
    """
    bodies = [body_height(pose.joints, track.valid) for track, pose in result.people]
    places = floor_places(result.tracks, max(bodies, default=1.0))
    people = []
    for index, (track, pose) in enumerate(result.people):
        # Without a trajectory people stand side by side; z is away there, towards the camera here.
        offset = np.zeros(3) if pose.root is not None else places[index] * (1, 1, -1)
        offset[1] += result.floor_shift(index)
        steps = _joint_steps(pose.joints)
        people.append(
            {
                "id": track.person_id,
                "shot": result.shots.index(result.shot_of(track)),
                "start": int(track.frames[0]),
                "count": len(track.frames),
                "body": bodies[index],
                "offset": offset.tolist(),
                "joint_steps": steps,
                "joints": _integers(pose.joints, steps, "<i2"),
                "root": None if pose.root is None else _integers(pose.root, 10 ** DECIMALS["m"], "<i4"),
                "scores": _integers(pose.scores, 10 ** DECIMALS["score"], "<u2"),
                "unseen": _base64(pose.unseen.astype(np.uint8)),
                "has_floor": result.floors[index] is not None,
                "flags": _base64((OBSERVED * track.observed + VALID * track.valid).astype(np.uint8)),
            }
        )
    return {
        "schema": SCHEMA,
        "name": result.video.path.name,
        "fps": result.video.fps,
        "num_frames": result.video.num_frames,
        "times": _base64(np.round(result.video.timestamps_s, DECIMALS["s"]).astype("<f8")),
        "has_overlay": result.options.has_overlay,
        "unit": result.models.unit,
        "axes": AXES["y"].about,
        "joint_names": list(H36M17.names),
        "bones": [list(edge) for edge in H36M17.edges],
        "left_right": [list(pair) for pair in H36M17.left_right],
        "colors": {"left": LEFT, "right": RIGHT, "middle": MIDDLE, "people": PERSON_COLORS},
        "shots": [
            {
                "start": shot.start,
                "stop": shot.stop,
                "is_camera_moving": shot.is_camera_moving,
                "to_world": result.world_rotation(shot).ravel().tolist(),
            }
            for shot in result.shots
        ],
        "people": people,
        "provenance": result.provenance,
    }


def _joint_steps(joints: np.ndarray) -> float:
    """Return how many steps a unit has: as in pose.json, fewer for joints beyond 3.28 from the pelvis."""
    return min(10.0 ** DECIMALS["m"], np.iinfo(np.int16).max / max(float(np.abs(joints).max()), 1e-9))


def _integers(values: np.ndarray, steps: float, dtype: str) -> str:
    return _base64(np.rint(values.astype(np.float64) * steps).astype(dtype))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
