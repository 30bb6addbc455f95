"""``movement_summary``: range of motion, peak velocity, left against right, steps and cadence, ready for JSON.

Ranges and velocities are those of curves without what is faster than ``SMOOTH_HZ``, so that no trembling of a single
frame makes them. Symmetry is 200 (left - right) / (left + right) in per cent of the ranges: 0 is equal, positive is
more on the left. Source: Robinson, Herzog and Nigg, "Use of force platform variables to quantify the effects of
chiropractic manipulation on gait symmetry", J. Manipulative Physiol. Ther. 10 (1987).
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from app.biomechanics.gait import Gait, Step, find_steps
from app.biomechanics.joint_angles import ANGLES, joint_angles
from app.geometry.smoothing import low_pass
from app.geometry.world import AXES
from app.results import PoseResult

SCHEMA = "posemamba/movement/1"
SMOOTH_HZ = 6.0
LEAST_FRAMES = 3
LEAST_RANGE = 5.0  # degrees on both sides together, below which a symmetry says nothing


def movement_summary(result: PoseResult) -> dict[str, Any]:
    """Return the summary of everybody as plain Python values; what is not known is None."""
    return {
        "schema": SCHEMA,
        "units": {"angles": "degrees", "velocity": "degrees/s", "symmetry": "%", "length": result.models.unit},
        "axes": AXES["y"].about,
        "fps": result.video.fps,
        "video": result.video.path.name,
        "people": [
            {"id": track.person_id, **_angles_of_person(result, index), "gait": _gait(find_steps(result, index))}
            for index, track in enumerate(result.tracks)
        ],
        "provenance": result.provenance,
    }


def write_movement(result: PoseResult, path: Path) -> None:
    """Write the summary of everybody as JSON."""
    path.write_text(json.dumps(movement_summary(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def smooth_runs(values: np.ndarray, times: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (times, smoothed values) of every stretch without NaN, at least ``LEAST_FRAMES`` long."""
    known = np.isfinite(values)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    return [
        (times[a:b], low_pass(values[a:b], times[a:b], SMOOTH_HZ))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if b - a >= LEAST_FRAMES
    ]


def _angles_of_person(result: PoseResult, index: int) -> dict[str, Any]:
    times = result.video.timestamps_s[result.tracks[index].frames]
    angles = {name: _range(values, times) for name, values in joint_angles(result, index).items()}
    symmetry = {
        key: _symmetry(angles[f"left_{key}"]["range"], angles[f"right_{key}"]["range"])
        for key, angle in ANGLES.items()
        if angle.is_paired
    }
    return {"angles": angles, "symmetry": symmetry}


def _range(values: np.ndarray, times: np.ndarray) -> dict[str, float | None]:
    """Return extremes, range and peak velocity of one curve, and the share of the person's frames that have it."""
    share = round(float(np.isfinite(values).mean()), 4)
    runs = smooth_runs(values, times)
    if not runs:
        return {"min": None, "max": None, "range": None, "peak_velocity": None, "valid_share": share}
    low, high = min(float(curve.min()) for _, curve in runs), max(float(curve.max()) for _, curve in runs)
    peak = max(float(np.abs(np.gradient(curve, at)).max()) for at, curve in runs)
    numbers = {"min": low, "max": high, "range": high - low, "peak_velocity": peak}
    return {**{name: round(number, 2) for name, number in numbers.items()}, "valid_share": share}


def _symmetry(left: float | None, right: float | None) -> float | None:
    if left is None or right is None or left + right < LEAST_RANGE:
        return None
    return round(200 * (left - right) / (left + right), 1)


def _gait(gait: Gait) -> dict[str, Any]:
    by_side = {side: [step for step in gait.steps if step.side == side] for side in ("left", "right")}
    return {
        "kind": gait.kind,
        "num_steps": {side: len(steps) for side, steps in by_side.items()},
        "cadence_steps_per_min": gait.cadence,
        "speed": gait.speed_m_s,
        "mean_step_length": {side: _mean([step.length_m for step in steps]) for side, steps in by_side.items()},
        "mean_step_time_s": {side: _mean(_step_times(gait.steps, side)) for side in by_side},
        "steps": [
            {
                "side": step.side,
                "time_s": round(step.time_s, 4),
                "frame": step.frame,
                "off_s": None if step.off_s is None else round(step.off_s, 4),
                "length": step.length_m,
                "bout": step.bout,
            }
            for step in gait.steps
        ],
    }


def _step_times(steps: tuple[Step, ...], side: str) -> list[float | None]:
    """Return seconds from the landing of the other foot to that of this one."""
    pairs = itertools.pairwise(steps)
    return [now.time_s - before.time_s for before, now in pairs if now.side == side and now.bout == before.bout]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None
