"""Charts of the report, drawn with matplotlib into axes: who is seen when, angles, paths, poses from two sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.biomechanics.joint_angles import ANGLES, joint_angles, sided
from app.render.drawing import PERSON_COLORS
from app.results import PoseResult
from lifter.skeletons import H36M17

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT, RIGHT, MIDDLE = "#1689d2", "#e8760c", "#454b57"
INK, QUIET, GRID = "#1d2129", "#6b7280", "#e3e6eb"
FILLED_IN, REPAIRED = "#f2b84b", "#d64550"
CURVES = ("knee_flexion", "hip_flexion", "shoulder_elevation", "elbow_flexion", "trunk_lean_forward", "pelvis_rotation")
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.edgecolor": GRID, "axes.labelcolor": QUIET, "text.color": INK,
    "xtick.color": QUIET, "ytick.color": QUIET, "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": GRID, "grid.linewidth": 0.7, "axes.axisbelow": True, "legend.frameon": False,
}  # fmt: skip
_SIDES = {"left": LEFT, "right": RIGHT}


def person_color(person_id: int) -> str:
    """Return the color of a person on white."""
    red, green, blue = (round(0.72 * part) for part in PERSON_COLORS[person_id % len(PERSON_COLORS)])
    return f"#{red:02x}{green:02x}{blue:02x}"


def draw_timeline(axes: Axes, result: PoseResult) -> None:
    """Draw one bar per person: seen, filled in, and where joints were repaired."""
    times, step = result.video.timestamps_s, 1 / result.video.median_fps
    for row, track in enumerate(result.tracks):
        at = times[track.frames]
        for flags, color, where in (
            (track.observed, person_color(track.person_id), (row - 0.32, 0.64)),
            (track.valid & ~track.observed, FILLED_IN, (row - 0.32, 0.64)),
            (track.observed & track.repaired.any(axis=1), REPAIRED, (row + 0.36, 0.1)),
        ):
            axes.broken_barh([(at[a], at[b - 1] - at[a] + step) for a, b in _runs(flags)], where, facecolors=color)
    count = len(result.tracks)
    axes.set_yticks(range(count), [f"person {track.person_id}" for track in result.tracks])
    axes.set(xlim=(times[0], times[-1] + step), ylim=(max(count, 3) - 0.4, -0.6), xlabel="seconds")
    axes.set_title("Who is seen when")
    axes.grid(axis="y", visible=False)
    for shot in result.shots[1:]:
        axes.axvline(times[shot.start], color=QUIET, linewidth=1, linestyle=":")
    marks = [(FILLED_IN, "filled in"), (REPAIRED, "joints repaired")]
    for number, (color, text) in enumerate(marks):
        axes.text(1 - 0.17 * (len(marks) - number - 1), 1.03, f"■ {text}", color=color, transform=axes.transAxes,
                  ha="right", va="bottom", fontsize=8)  # fmt: skip


def draw_angles(grid: Sequence[Axes], result: PoseResult, index: int) -> None:
    """Draw the angles in ``CURVES`` of a person, one into each of the axes; tinted where there is no number."""
    angles, track = joint_angles(result, index), result.tracks[index]
    times = result.video.timestamps_s[track.frames]
    for axes, key in zip(grid, CURVES, strict=True):
        curves = [angles[name] for name in sided(key, ANGLES[key].is_paired)]
        colors = (LEFT, RIGHT) if len(curves) == 2 else (MIDDLE,)
        for values, color in zip(curves, colors, strict=True):
            axes.plot(times, values, color=color, linewidth=1.4)
            for a, b in _runs(~np.isfinite(values)):
                axes.axvspan(times[a], times[b - 1], color=color, alpha=0.13, linewidth=0, zorder=0)
        axes.set_title(key.replace("_", " ").capitalize() + ", degrees")
        axes.set_xlim(times[0], max(times[-1], times[0] + 1e-3))
        axes.margins(y=0.12)


def draw_paths(axes: Axes, result: PoseResult) -> None:
    """Draw everybody's way over the floor as seen from above, with the camera."""
    for index, (track, _) in enumerate(result.people):
        pelvis = np.where(track.valid[:, None], result.world_joints(index, up="y")[:, 0], np.nan)
        color = person_color(track.person_id)
        axes.plot(pelvis[:, 0], -pelvis[:, 2], color=color, linewidth=2, solid_capstyle="round")
        known = pelvis[np.isfinite(pelvis[:, 0])]
        if len(known):
            axes.plot(known[0, 0], -known[0, 2], "o", color=color, markersize=6)
            tag = {"boxstyle": "circle,pad=0.25", "fc": color, "ec": "none"}
            axes.text(known[-1, 0], -known[-1, 2], f"{track.person_id}", color="white", fontsize=7.5, ha="center",
                      va="center", bbox=tag)  # fmt: skip
    axes.plot(0, 0, marker="^", color=INK, markersize=9)
    axes.annotate("camera", (0, 0), xytext=(8, -3), textcoords="offset points", color=QUIET, fontsize=8)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set(xlabel="meters to the right of the camera", ylabel="meters away")
    is_moving = any(result.shot_of(track).is_camera_moving for track in result.tracks)
    axes.set_title("From above, as if the camera stood still" if is_moving else "From above")


def draw_pose(axes: Axes, result: PoseResult, frame: int, view: str) -> None:
    """Draw everybody in a frame from the "front" (as the camera, but level) or the "side" (from the camera's right)."""
    colors = {name: _color_of(name) for name in H36M17.names}
    for index, track in enumerate(result.tracks):
        t = frame - int(track.frames[0])
        if not (0 <= t < len(track.frames) and track.valid[t]):
            continue
        joints = result.world_joints(index, up="y")[t]
        across = joints[:, 0] if view == "front" else -joints[:, 2]
        for parent, child in H36M17.edges:
            ends = [parent, child]
            axes.plot(across[ends], joints[ends, 1], color=colors[H36M17.names[child]], linewidth=2.2,
                      solid_capstyle="round")  # fmt: skip
        head = H36M17.index("head")
        axes.plot(across[head], joints[head, 1], "o", color=MIDDLE, markersize=5)
    axes.set_aspect("equal", adjustable="box")
    axes.axhline(0, color=GRID, linewidth=1.2, zorder=0)
    axes.axis("off")


def _color_of(joint: str) -> str:
    return _SIDES.get(joint.split("_")[0], MIDDLE)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return (first, last + 1) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
