"""What ``viewer.html`` holds: the numbers of pose.json as integers in base64, a fifth of its size."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from app.geometry.world import AXES, body_height, floor_height, to_world
from app.render.drawing import LEFT, MIDDLE, PERSON_COLORS, RIGHT
from app.render.scene3d import floor_places
from app.results import DECIMALS, PoseResult
from lifter.skeletons import H36M17

SCHEMA = "posemamba/viewer/1"
NOT_UPRIGHT = np.diag([1.0, -1, -1])  # camera axes with y up, as app.geometry.world has them
OBSERVED, VALID = 1, 2  # bits of a flag


def contents(result: PoseResult, *, is_upright: bool = True) -> dict[str, Any]:
    """Return what the page knows of ``result`` as plain Python values, ready for JSON.

    Arrays are little-endian and in base64: ``times`` float64 [s] of all frames; per person over its T frames ``joints``
    (T, 17, 3) int16, camera axes, from the pelvis, ``joint_steps`` of them to the unit; ``root`` (T, 3) int32 in
    1/10000 m; ``scores`` (T, 17) uint16 in 1/1000; ``flags`` (T,) uint8 (1 observed, 2 valid). They equal pose.json's
    numbers. World places, y up, are ``to_world @ (root + joint) + offset``, with ``to_world`` of the person's shot.
    """
    turns = [to_world(shot) if is_upright else NOT_UPRIGHT for shot in result.shots]
    people = []
    for index, (track, pose) in enumerate(zip(result.tracks, result.poses, strict=True)):
        shot = result.shots.index(result.shot_of(track))
        steps = _joint_steps(pose.joints)
        people.append(
            {
                "id": track.person_id,
                "shot": shot,
                "start": int(track.frames[0]),
                "count": len(track.frames),
                "body": body_height(pose.joints, track.valid),
                "offset": _offset(result, index, turns[shot], is_upright=is_upright),
                "joint_steps": steps,
                "joints": _integers(pose.joints, steps, "<i2"),
                "root": None if pose.root is None else _integers(pose.root, 10 ** DECIMALS["m"], "<i4"),
                "scores": _integers(pose.scores, 10 ** DECIMALS["score"], "<u2"),
                "flags": _base64((OBSERVED * track.observed + VALID * track.valid).astype(np.uint8)),
            }
        )
    return {
        "schema": SCHEMA,
        "name": result.video.path.name,
        "fps": result.video.fps,
        "num_frames": result.video.num_frames,
        "times": _base64(np.round(result.video.timestamps_s, DECIMALS["s"]).astype("<f8")),
        "unit": result.provenance["lifter"]["unit"],
        "axes": AXES["y"][0],
        "joint_names": list(H36M17.names),
        "bones": [list(edge) for edge in H36M17.edges],
        "left_right": [list(pair) for pair in H36M17.left_right],
        "colors": {"left": LEFT, "right": RIGHT, "middle": MIDDLE, "people": PERSON_COLORS},
        "shots": [
            {"start": shot.start, "stop": shot.stop, "moves": shot.moves, "to_world": turn.ravel().tolist()}
            for shot, turn in zip(result.shots, turns, strict=True)
        ],
        "people": people,
        "provenance": result.provenance,
    }


def _offset(result: PoseResult, index: int, turn: np.ndarray, *, is_upright: bool) -> list[float]:
    """Return what puts a person's floor at height 0; without a trajectory also aside, where nobody else stands."""
    track, pose = result.tracks[index], result.poses[index]
    offset = np.zeros(3)
    if pose.root is None:
        bodies = [
            body_height(other.joints, seen.valid) for seen, other in zip(result.tracks, result.poses, strict=True)
        ]
        offset += floor_places(result.tracks, max(bodies))[index] * (1, 1, -1)  # z away there, towards the camera here
    if is_upright:
        root = np.zeros((len(pose.joints), 3)) if pose.root is None else pose.root
        placed = (pose.joints.astype(np.float64) + root[:, None]) @ turn.T
        offset[1] -= floor_height(placed, track, pose)
    return offset.tolist()


def _joint_steps(joints: np.ndarray) -> float:
    """Return how many steps a unit has: as in pose.json, fewer for joints beyond 3.28 from the pelvis."""
    return min(10.0 ** DECIMALS["m"], np.iinfo(np.int16).max / max(float(np.abs(joints).max()), 1e-9))


def _integers(values: np.ndarray, steps: float, dtype: str) -> str:
    return _base64(np.rint(values.astype(np.float64) * steps).astype(dtype))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
