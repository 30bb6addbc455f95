"""``find_steps``: contacts of the feet of somebody who walks or runs, and the cadence that follows.

A foot lands where it is farthest in front of the pelvis and leaves the floor where it is farthest behind, along the way
that the person goes. Source: Zeni, Richards and Higginson, "Two simple methods for determining gait events during
treadmill and overground walking using kinematic data", Gait & Posture 27 (2008). It needs ankles only, no floor, and
works on a treadmill. Running is told from walking by the Froude number, above 0.5. Source: Alexander, "Optimization and
gaits in the locomotion of vertebrates", Physiological Reviews 69 (1989).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from app.biomechanics.segment_axes import joint, pelvis_axes
from app.geometry.smoothing import low_pass
from app.motion import contiguous_segments
from app.results import PoseResult

SMOOTH_HZ = 5.0
LEAST_SPEED = 0.35  # leg lengths per second from which on the pelvis' own way is the direction of walking
LEAST_REACH = 0.14  # leg lengths between the ankle's places at landing and at leaving
STEP_S = (0.2, 1.2)  # between landings of one foot and of the other
LEAST_STEPS = 3  # in a row, left and right in turn; those of a dance or an exercise rarely are
RUNNING_FROUDE = 0.5
GRAVITY = 9.81  # m/s^2


@dataclass(frozen=True)
class Step:
    """One landing of a foot.

    Attributes:
        side: "left" or "right".
        time_s: When the foot lands.
        frame: Of the video, the nearest one.
        off_s: When it leaves the floor; None if that is not in the bout.
        length_m: Distance of the ankles along the way at landing; None without meters.
        bout: Steps in a row have one number.
    """

    side: str
    time_s: float
    frame: int
    off_s: float | None
    length_m: float | None
    bout: int


@dataclass(frozen=True)
class Gait:
    """All steps of one person.

    Attributes:
        kind: "walking", "running", or "none" without steps; where nothing has meters, or the person goes on the spot,
            "walking or running".
        steps: By time.
        cadence: Steps per minute within bouts; None without steps.
        speed_m_s: Mean speed of the pelvis over the floor in bouts; None without meters.
    """

    kind: str = "none"
    steps: tuple[Step, ...] = field(default=())
    cadence: float | None = None
    speed_m_s: float | None = None


def find_steps(result: PoseResult, index: int) -> Gait:
    """Return steps and cadence of the person at ``index``; nothing is taken from frames that are not valid."""
    track, pose = result.people[index]
    world, times = result.world_joints(index, up="y"), result.video.timestamps_s[track.frames]
    has_place = pose.root is not None and not result.shot_of(track).is_camera_moving
    steps: list[Step] = []
    speeds: list[float] = []
    leg = leg_length(world[track.valid])
    for run in contiguous_segments(track, result.video):
        found, run_speeds = _steps_of_run(world[run], times[run], track.frames[run], leg, has_place)
        offset = steps[-1].bout + 1 if steps else 0
        steps += [
            Step(s.side, s.time_s, s.frame, s.off_s, s.length_m if pose.unit == "m" else None, s.bout + offset)
            for s in found
        ]
        speeds += run_speeds
    if not steps:
        return Gait()
    speed = float(np.mean(speeds)) if has_place else None
    is_on_the_spot = speed is None or speed < LEAST_SPEED * leg
    froude = 0.0 if speed is None else speed**2 / (GRAVITY * leg)
    kind = "walking or running" if is_on_the_spot else "running" if froude > RUNNING_FROUDE else "walking"
    return Gait(kind, tuple(steps), cadence_of(steps), None if speed is None else round(speed, 3))


def cadence_of(steps: list[Step]) -> float | None:
    """Return steps per minute: the time between landings that follow each other in a bout."""
    gaps = [b.time_s - a.time_s for a, b in itertools.pairwise(steps) if a.bout == b.bout]
    return round(60 / float(np.mean(gaps)), 1) if gaps else None


def leg_length(world: np.ndarray) -> float:
    """Return the median length of thigh and shank together, of joints (T, 17, 3)."""
    lengths = [
        np.linalg.norm(joint(world, f"{side}_{a}") - joint(world, f"{side}_{b}"), axis=-1)
        for side in ("left", "right")
        for a, b in (("hip", "knee"), ("knee", "ankle"))
    ]
    return float(2 * np.nanmedian(lengths))


def _steps_of_run(
    world: np.ndarray, times: np.ndarray, frames: np.ndarray, leg: float, has_place: bool
) -> tuple[list[Step], list[float]]:
    """Return the steps of one uninterrupted stretch, and the speed of the pelvis [units/s] in every bout."""
    if len(times) < 4 or not np.isfinite(world).all():
        return [], []
    smooth = low_pass(world, times, SMOOTH_HZ)
    way, velocity = _way(smooth, times, leg, has_place)
    ahead = {
        side: ((joint(smooth, f"{side}_ankle") - joint(smooth, "pelvis")) * way).sum(axis=-1)
        for side in ("left", "right")
    }
    landings = sorted(
        (float(time), side, off) for side, curve in ahead.items() for time, off in _events(curve, times, leg)
    )
    steps, speeds = [], []
    for bout, group in enumerate(_bouts(landings)):
        inside = (times >= group[0][0]) & (times <= group[-1][0])
        speeds.append(float(np.linalg.norm(velocity[inside], axis=-1).mean()))
        for time, side, off in group:
            near = int(np.abs(times - time).argmin())
            length = abs(float(ahead[side][near] - ahead["left" if side == "right" else "right"][near]))
            off_s = off if off is not None and off <= group[-1][0] + STEP_S[1] else None
            steps.append(Step(side, time, int(frames[near]), off_s, round(length, 3), bout))
    return steps, speeds


def _way(world: np.ndarray, times: np.ndarray, leg: float, has_place: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the horizontal direction of walking (T, 3), and the velocity of the pelvis (T, 3) over the floor.

    Who goes on the spot is taken to face that way, and so is everybody before a camera that moves.
    """
    level = np.array([1.0, 0, 1])
    facing = np.nan_to_num(pelvis_axes(world)[..., 0]) * level
    velocity = np.zeros_like(facing)
    if has_place:
        velocity = np.gradient(low_pass(joint(world, "pelvis"), times, 1.0), times, axis=0) * level
    is_moving = np.linalg.norm(velocity, axis=-1, keepdims=True) >= LEAST_SPEED * leg
    way = np.where(is_moving, velocity, low_pass(facing, times, 1.0))
    return way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-9), velocity


def _events(ahead: np.ndarray, times: np.ndarray, leg: float) -> list[tuple[float, float | None]]:
    """Return (landing, leaving) [s] of one foot: maxima of how far ahead it is, and the minimum that follows."""
    from scipy.signal import find_peaks

    reach = LEAST_REACH * leg
    highs, _ = find_peaks(ahead, prominence=reach)
    lows, _ = find_peaks(-ahead, prominence=reach)
    events = []
    for number, high in enumerate(highs):
        following = highs[number + 1] if number + 1 < len(highs) else len(ahead)
        low = next((low for low in lows if high < low < following), None)
        events.append((_between_frames(ahead, times, high), None if low is None else float(times[low])))
    return events


def _between_frames(curve: np.ndarray, times: np.ndarray, peak: int) -> float:
    """Return the time of the top of the parabola through a peak and its neighbors."""
    before, top, after = curve[peak - 1 : peak + 2]
    bend = before - 2 * top + after
    shift = 0.0 if bend == 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
    return float(times[peak] + shift * (times[peak + 1] - times[peak - 1]) / 2)


def _bouts(landings: list[tuple[float, str, float | None]]) -> list[list[tuple[float, str, float | None]]]:
    """Return landings in a row: left and right in turn, none too early or late, and enough of them."""
    groups: list[list[tuple[float, str, float | None]]] = []
    for landing in landings:
        previous = groups[-1][-1] if groups else None
        follows = previous is not None and previous[1] != landing[1]
        if follows and previous is not None and STEP_S[0] <= landing[0] - previous[0] <= STEP_S[1]:
            groups[-1].append(landing)
        else:
            groups.append([landing])
    return [group for group in groups if len(group) >= LEAST_STEPS]
