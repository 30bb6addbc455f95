"""Where everybody is on the stage of the 3D panel: axes x right, y down with the floor at y = 0, z away, in meters.

The stage is turned by ``VIEW_TURN`` to one side, so that the panel shows the depth that the picture hides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.geometry.floor import ANKLE_HEIGHT
from app.geometry.floor_places import floor_places
from app.geometry.gravity import ANKLES
from app.geometry.world import body_height, seen_level
from app.motion import Pose3D, join_segments
from app.render.drawing import running_mean
from app.results import PoseResult

VIEW_TURN = math.radians(35)
PELVIS_HEIGHT = 0.53  # of a standing body, where no floor is known


@dataclass(frozen=True, eq=False)
class Stage:
    """Everybody on the stage.

    Attributes:
        joints: (T, 17, 3) of each person, NaN where they are not finite or unseen.
        paths: (T, 3) of each person, the floor below the pelvis without trembling.
        has_floor: (P,) bool, whether a person's feet are ever seen.
        body: Height of a body.
        turn: By which the stage is turned about the vertical, radians.
    """

    joints: list[np.ndarray]
    paths: list[np.ndarray]
    has_floor: np.ndarray
    body: float
    turn: float


def stage_of(result: PoseResult, people: Sequence[int]) -> Stage:
    """Return the stage of people where they are in the world; without meters, side by side.

    Args:
        result: What is shown.
        people: Indices of ``result.tracks``, of one shot.
    """
    pairs = [result.people[i] for i in people]
    body = max((body_height(pose.joints, track.valid) for track, pose in pairs), default=1.0)
    places = floor_places([track for track, _ in pairs], body)
    stage = []
    for index, (track, pose), place in zip(people, pairs, places, strict=True):
        if pose.root is None:
            level = seen_level(pose, result.world_rotation(result.shot_of(track)))
            stage.append(_on_floor(level, track.valid, body) + place)
        else:
            stage.append(_in_world(result, index, body))
    valid = [track.valid for track, _ in pairs]
    paths = [_ground_path(joints, shown) for joints, shown in zip(stage, valid, strict=True)]
    turn = _side(paths, valid) * VIEW_TURN
    shown = [
        np.where(pose.unseen[..., None], np.nan, _turned(each, turn))
        for each, (_, pose) in zip(stage, pairs, strict=True)
    ]
    has_floor = np.array([not pose.unseen[:, ANKLES].all() for _, pose in pairs], bool)
    return Stage(shown, [_turned(path, turn) for path in paths], has_floor, body, turn)


def _side(paths: list[np.ndarray], valid: list[np.ndarray]) -> int:
    """Return 1 or -1: the side from which people hide each other less, by the least gap between them."""
    places = np.array([np.median(path[shown], axis=0) for path, shown in zip(paths, valid, strict=True) if shown.any()])
    if len(places) < 2:
        return 1
    gaps = [float(np.diff(np.sort(_turned(places, side * VIEW_TURN)[:, 0])).min()) for side in (1, -1)]
    return 1 if gaps[0] >= gaps[1] else -1


def _ground_path(joints: np.ndarray, valid: np.ndarray) -> np.ndarray:
    below = joints[:, 0]
    known = valid & np.isfinite(below).all(axis=1)
    if not known.any():
        return np.zeros((len(joints), 3))
    below = join_segments(below[known], [slice(int(t), int(t) + 1) for t in np.flatnonzero(known)], len(joints))
    return np.stack([running_mean(below[:, 0]), np.zeros(len(below)), running_mean(below[:, 2])], axis=1)


def _in_world(result: PoseResult, index: int, body: float) -> np.ndarray:
    joints = result.world_joints(index, up="y") * (1, -1, -1)
    joints = np.where(np.isfinite(joints), joints, np.nan)
    if result.floor_shift(index) == 0:  # heights are those over the camera
        heights = joints[result.tracks[index].valid, 0, 1]
        middle = float(np.nanmedian(heights)) if np.isfinite(heights).any() else 0.0
        joints = joints - np.array([0.0, middle + PELVIS_HEIGHT * body, 0.0])
    return joints


def _on_floor(pose: Pose3D, valid: np.ndarray, body: float) -> np.ndarray:
    """Return joints (T, 17, 3) with the lowest one on the floor y = 0 and the feet around x = z = 0."""
    joints = np.where(np.isfinite(pose.joints), pose.joints, np.nan).astype(np.float64)
    y = joints[..., 1]
    lowest = np.nan_to_num(np.where(np.isfinite(y), y, -np.inf).max(axis=1), neginf=0.0)
    if valid.any():  # invalid frames must not pull on their neighbors
        lowest = np.interp(np.arange(len(y)), np.flatnonzero(valid), lowest[valid])
    joints[..., 1] -= running_mean(lowest)[:, None] + ANKLE_HEIGHT * body
    feet = joints[valid][:, ANKLES].mean(axis=1)
    feet = feet[np.isfinite(feet).all(axis=1)]
    if len(feet):
        joints -= np.median(feet, axis=0) * (1, 0, 1)  # one shift per clip, as a tilted camera sees a leaning person
    return joints


def _turned(points: np.ndarray, turn: float) -> np.ndarray:
    x, y, z = np.moveaxis(points, -1, 0)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)
