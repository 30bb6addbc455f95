"""``lock_feet``: feet that stay where they stand, for animation.

A foot is in contact while it is low and slow; where its path says so, the pelvis is moved first, smoothly and as little
as will do, because most of the sliding is the estimated place of the body. What is left is taken by the legs: two-bone
inverse kinematics of hip, knee and ankle, which keeps the lengths of thigh and shin and the plane of the knee, blended
in and out around every contact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from app.geometry.floor import ANKLE_HEIGHT, Floor
from app.geometry.gravity import ANKLES
from app.geometry.smoothing import low_pass
from app.geometry.world import body_height, to_world, world_places
from app.motion import Pose3D, contiguous_segments, join_segments
from detectors.people import Track
from lifter.skeletons import H36M17

if TYPE_CHECKING:
    from app.results import PoseResult

LEGS = [tuple(H36M17.index(f"{side}_{part}") for part in ("hip", "knee", "ankle")) for side in ("left", "right")]
# A foot comes into contact below the first of each pair, and leaves it above the second.
LIFT_M, SPEED_M_S = (0.05, 0.09), (0.5, 0.7)  # above a standing ankle; steps are 3 m/s fast
LEAST_CONTACT_S = 0.1
TREMBLE_S, TREMBLE_M = 0.25, 0.1  # contacts no farther apart are one
CALM_HZ = 5.0  # what is faster in an ankle's path is noise where speeds are taken
BLEND_S = 0.15
ANKLE_RANGE_M = (-0.01, 0.03)  # of a locked ankle, around its height when somebody stands
LOWEST_M = 0.02  # other joints than ankles are no lower
# Standard deviations of the correction of the pelvis: of a foot in contact, of its acceleration, and of itself along
# and across the line of sight: depth is what pictures tell least of.
FOOT_SIGMA_M, ACCELERATION_SIGMA, ALONG_SIGMA_M, ACROSS_SIGMA_M = 0.01, 1.0, 0.1, 0.02
REACH = 0.999  # of a leg's length: a knee is never quite straight
PLACINGS, PASSES, ROUNDS = 4, 2, 10

Contacts = list[tuple[int, slice]]  # foot (0 left, 1 right) and frames


def lock_feet(result: PoseResult) -> PoseResult:
    """Return a result whose feet stay in place while they stand, and whose bodies are not below the floor.

    Bones must have constant lengths (``lifter.skeletons.with_rigid_bones``). People without a trajectory or a floor, or
    before a camera that moves, stay as they are: there is nothing to stand on.
    """
    poses = list(result.poses)
    for index, (track, pose) in enumerate(result.people):
        shot = result.shot_of(track)
        floor = result.floors[index]
        if pose.root is not None and floor is not None and not shot.is_camera_moving:
            poses[index] = _locked(result, track, pose, floor)
    return replace(result, poses=poses)


def contact_flags(result: PoseResult, index: int) -> np.ndarray:
    """Return when the left and the right foot of a person are in contact with the floor, (T, 2) bool.

    Without a trajectory or a floor, or before a camera that moves, feet are in contact with nothing.
    """
    track, pose = result.people[index]
    floor = result.floors[index]
    shot, flags = result.shot_of(track), np.zeros((len(track.frames), 2), bool)
    if pose.root is None or floor is None or shot.is_camera_moving:
        return flags
    places = world_places(pose, to_world(shot.up))
    places[..., 1] -= _ground(floor)
    standing = ANKLE_HEIGHT * body_height(pose.joints, track.valid)
    for segment in contiguous_segments(track, result.video):
        times = result.video.timestamps_s[track.frames[segment]]
        for foot, run in find_contacts(places[segment], times, standing):
            flags[segment][run, foot] = True
    return flags


def _ground(floor: Floor) -> float:
    """Return the height of what a person stands on, be it a wall."""
    return floor.height + (0.0 if floor.is_own else floor.above)


def _locked(result: PoseResult, track: Track, pose: Pose3D, floor: Floor) -> Pose3D:
    rotation, ground = to_world(result.shot_of(track).up), _ground(floor)
    places = world_places(pose, rotation)  # (T, 17, 3), y up
    sights = places[:, 0] / np.linalg.norm(places[:, 0], axis=1, keepdims=True)
    places[..., 1] -= ground
    standing = ANKLE_HEIGHT * body_height(pose.joints, track.valid)
    segments = contiguous_segments(track, result.video)
    times = result.video.timestamps_s[track.frames]
    locked = [lock_segment(places[run], sights[run], times[run], standing) for run in segments]
    places = join_segments(np.concatenate(locked), segments, len(places))
    places[..., 1] += ground
    places = places @ rotation  # back to camera axes
    root = places[:, 0]
    return replace(pose, joints=(places - root[:, None]).astype(np.float32), root=root.astype(np.float32))


def lock_segment(places: np.ndarray, sights: np.ndarray, times: np.ndarray, standing: float) -> np.ndarray:
    """Return places (T, 17, 3) of one uninterrupted stretch with its feet locked.

    Args:
        places: Meters, y up, the floor at 0; bones of constant length.
        sights: (T, 3) unit vectors from the camera to the pelvis.
        times: (T,) seconds, increasing.
        standing: Height of the ankle of a standing foot.
    """
    contacts = find_contacts(places, times, standing)
    for _ in range(PLACINGS):  # feet that were moved to their places are told from those that step more surely
        shift = pelvis_shift(places, sights, times, contacts, standing)
        contacts = find_contacts(places + shift[:, None], times, standing)
    places = places + pelvis_shift(places, sights, times, contacts, standing)[:, None]
    places[..., 1] += _smooth(_sunk(places), times)[:, None]
    for _ in range(PASSES):  # a foot that was blended on may have become slow enough to stand
        targets = ankle_targets(places, times, contacts, standing)
        for _ in range(ROUNDS):
            places = places + _smooth(_out_of_reach(places, targets), times)[:, None]
        for (hip, knee, ankle), target in zip(LEGS, targets, strict=True):
            bent = bend_leg(places[:, hip], places[:, knee], places[:, ankle], target)
            places[:, knee], places[:, ankle] = bent
        contacts = find_contacts(places, times, standing)
    return places


def find_contacts(places: np.ndarray, times: np.ndarray, standing: float) -> Contacts:
    """Return when which foot stands: low and slow, with hysteresis, for ``LEAST_CONTACT_S`` at least."""
    if len(times) < 3:
        return []
    contacts: Contacts = []
    for foot, ankle in enumerate(ANKLES):
        path = low_pass(places[:, ankle], times, CALM_HZ)
        speed = np.linalg.norm(np.gradient(path, times, axis=0), axis=1)
        lift = path[:, 1] - standing
        comes = (lift < LIFT_M[0]) & (speed < SPEED_M_S[0])
        stays = (lift < LIFT_M[1]) & (speed < SPEED_M_S[1])
        runs: list[slice] = []
        for start, stop in _runs(stays):
            if comes[start:stop].any():
                start += int(comes[start:stop].argmax())
                if runs and _is_same_place(path, times, runs[-1], slice(start, stop)):
                    start = runs.pop().start
                runs.append(slice(start, stop))
        contacts += [(foot, run) for run in runs if times[run.stop - 1] - times[run.start] >= LEAST_CONTACT_S]
    return contacts


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return where flags (T,) are set without interruption: first, and after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _is_same_place(path: np.ndarray, times: np.ndarray, before: slice, after: slice) -> bool:
    """Return whether a foot did not go elsewhere between two contacts: it trembled."""
    moved = np.linalg.norm(path[after].mean(axis=0) - path[before].mean(axis=0))
    return bool(times[after.start] - times[before.stop - 1] < TREMBLE_S and moved < TREMBLE_M)


def pelvis_shift(
    places: np.ndarray, sights: np.ndarray, times: np.ndarray, contacts: Contacts, standing: float
) -> np.ndarray:
    """Return how the body is moved (T, 3) so that feet in contact stay in place, by least squares.

    Every contact has a place of its own, which is unknown on the floor; its height is that of a standing foot.
    """
    from scipy.sparse import block_diag, coo_matrix, diags, eye, kron
    from scipy.sparse.linalg import spsolve

    count, size = len(times), len(times) + len(contacts)
    if not contacts or count < 3:
        return np.zeros((count, 3))
    frames = np.concatenate([np.arange(run.start, run.stop) for _, run in contacts])
    owner = np.concatenate([np.full(run.stop - run.start, count + k) for k, (_, run) in enumerate(contacts)])
    ankles = np.concatenate([places[run, ANKLES[foot]] for foot, run in contacts])
    signs = np.repeat([1.0, -1.0], len(frames))
    rows = np.tile(np.arange(len(frames)), 2)
    feet = coo_matrix((signs, (rows, np.concatenate([frames, owner]))), (len(frames), size)).tocsr()
    steps = np.diff(times)
    both = (steps[1:] + steps[:-1]) / 2
    bands = [1 / (steps[:-1] * both), -1 / (steps[:-1] * both) - 1 / (steps[1:] * both), 1 / (steps[1:] * both)]
    bend = diags(bands, (0, 1, 2), (count - 2, size)).tocsr()
    along = sights[:, :, None] * sights[:, None]  # (T, 3, 3)
    itself = along / ALONG_SIGMA_M**2 + (np.eye(3) - along) / ACROSS_SIGMA_M**2
    known = np.diag([0.0, FOOT_SIGMA_M**-2 * 100, 0.0])  # of a contact: its height
    matrix = kron((feet.T @ feet) / FOOT_SIGMA_M**2 + (bend.T @ bend) / ACCELERATION_SIGMA**2, eye(3))
    matrix += block_diag([*itself, *(known for _ in contacts)])
    right = -(feet.T @ ankles) / FOOT_SIGMA_M**2  # (size, 3)
    heights = [_contact_height(places[run, ANKLES[foot], 1], standing) for foot, run in contacts]
    right[count:, 1] += known[1, 1] * np.array(heights)
    return spsolve(matrix.tocsc(), right.ravel()).reshape(size, 3)[:count]


def _contact_height(heights: np.ndarray, standing: float) -> float:
    return float(np.clip(np.median(heights), standing + ANKLE_RANGE_M[0], standing + ANKLE_RANGE_M[1]))


def ankle_targets(places: np.ndarray, times: np.ndarray, contacts: Contacts, standing: float) -> Sequence[np.ndarray]:
    """Return where both ankles go (T, 3): to one place in every contact, and smoothly on and off before and after."""
    targets = []
    for foot, ankle in enumerate(ANKLES):
        path, runs = places[:, ankle], [run for which, run in contacts if which == foot]
        moved = np.zeros_like(path)
        for run in runs:
            anchor = path[run].mean(axis=0)
            anchor[1] = _contact_height(path[run, 1], standing)
            moved[run] = anchor - path[run]
        is_free = np.ones(len(path), bool)
        for run in runs:
            is_free[run] = False
        for number, run in enumerate(runs):
            before = runs[number - 1].stop if number else 0
            after = runs[number + 1].start if number + 1 < len(runs) else len(path)
            for rows, edge in ((slice(before, run.start), run.start), (slice(run.stop, after), run.stop - 1)):
                if rows.stop > rows.start:
                    away = np.abs(times[rows] - times[edge])
                    moved[rows] += _fade(away, min(BLEND_S, float(away.max()) + 1e-9))[:, None] * moved[edge]
        target = path + moved
        target[:, 1] = np.maximum(target[:, 1], standing + ANKLE_RANGE_M[0])
        targets.append(target)
    return targets


def _fade(away: np.ndarray, over: float) -> np.ndarray:
    """Return weights that fall from 1 to 0 over a time, with no corner at its ends."""
    part = np.clip(away / over, 0, 1)
    return 1 - part * part * (3 - 2 * part)


def _sunk(places: np.ndarray) -> np.ndarray:
    """Return by how much (T,) the lowest joint but the ankles is below the floor."""
    others = np.setdiff1d(np.arange(len(H36M17.names)), ANKLES)
    return np.maximum(LOWEST_M - places[:, others, 1].min(axis=1), 0)


def _out_of_reach(places: np.ndarray, targets: Sequence[np.ndarray]) -> np.ndarray:
    """Return how far (T, 3) the body has to move for both legs to reach their targets."""
    shift = np.zeros((len(places), 3))
    for (hip, knee, ankle), target in zip(LEGS, targets, strict=True):
        away = target - places[:, hip]
        distance = np.linalg.norm(away, axis=1)
        length = np.linalg.norm(places[:, knee] - places[:, hip], axis=1)
        length += np.linalg.norm(places[:, ankle] - places[:, knee], axis=1)
        excess = np.maximum(distance - REACH * length, 0)
        shift += (excess / np.maximum(distance, 1e-9))[:, None] * away
    return shift


def _smooth(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return values (T, ...) as a calm curve that is hardly below their peaks."""
    from scipy.ndimage import gaussian_filter1d

    if len(times) < 3:
        return values
    return np.asarray(gaussian_filter1d(values, 0.07 / float(np.median(np.diff(times))), axis=0, mode="nearest"))


def bend_leg(hip: np.ndarray, knee: np.ndarray, ankle: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return knee and ankle (T, 3) of legs that reach for ``target`` (T, 3); lengths and the knee's side are kept.

    The law of cosines; a target out of reach is approached as far as the leg goes.
    """
    thigh, shin = (np.linalg.norm(b - a, axis=1, keepdims=True) for a, b in ((hip, knee), (knee, ankle)))
    away = target - hip
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    along = away / np.maximum(distance, 1e-9)
    distance = np.clip(distance, np.abs(thigh - shin) + 1e-6, REACH * (thigh + shin))
    side = (knee - hip) - ((knee - hip) * along).sum(axis=1, keepdims=True) * along
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    cosine = np.clip((thigh**2 + distance**2 - shin**2) / np.maximum(2 * thigh * distance, 1e-9), -1, 1)
    return hip + thigh * (cosine * along + np.sqrt(1 - cosine**2) * side), hip + distance * along
