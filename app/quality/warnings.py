"""What to tell the user about a result: plain sentences with the numbers behind them, and one line per person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.geometry.smoothing import is_smoothable
from app.results import PoseResult
from detectors.people import Track

CAMERA_MOVES = "camera moves: positions are camera-relative"
CAMERA_UNKNOWN = "too little background to tell whether the camera moves: positions hold if it does not"
NO_UP = "nobody stands upright for long: the camera is taken to be level"
NO_METERS = "these weights have no meters: no trajectory, and sizes mean nothing"


@dataclass(frozen=True)
class Limit:
    """When a number of a report calls for a warning.

    Attributes:
        name: Key of the report; a number that cannot be had is no reason to warn.
        value: The limit.
        text: The sentence, with places for the number and the limit.
        is_least: The number should be no smaller, instead of no larger.
        needs_meters: The limit is one of meters and means nothing in other units.
    """

    name: str
    value: float
    text: str
    is_least: bool = False
    needs_meters: bool = False


LIMITS = (
    Limit("height_px", 120, "person is {:.0f} px tall, smaller than {} px: expect large errors", is_least=True),
    Limit(
        "mean_score", 0.5, "2D score is {:.2f}, below {}: the detector is unsure, look at the overlay", is_least=True
    ),
    Limit("cut", 0.05, "person is cut by the picture's border in {:.0%} of frames: joints out there are guesses"),
    Limit("interpolated", 0.1, "{:.0%} of the person's frames are filled in, nobody was detected there"),
    Limit(
        "sides_repaired", 0.1, "left and right were exchanged back in {:.0%} of frames: look at the overlay's colors"
    ),
    Limit("reprojection", 0.05, "3D misses 2D by {:.1%} of the person's height: the pose or --fov is wrong"),
    # Brisk walking has 7 m/s^2, sport 15 to 25.
    Limit("jitter", 40, "jitter is {:.0f} m/s^2: the 2D shakes, --smooth 6 calms it", needs_meters=True),
    Limit("bone_length_variation", 0.12, "bone lengths vary by {:.0%}: depth is unsure, --rigid-bones holds them"),
    Limit("seam_ratio", 1.5, "motion is {:.1f} times faster at window borders than elsewhere"),
    # On the rendered clips the truth has 0.2 m/s, results have 0.2 to 0.65.
    Limit("foot_slide", 0.8, "standing feet slide at {:.2f} m/s: positions or --fov are off"),
)


def warnings_of(report: dict[str, Any], result: PoseResult, track: Track) -> list[str]:
    """Return what a user should know before trusting one person's numbers.

    Args:
        report: The person's numbers, see ``app.quality.indicators.assess``.
        result: What they are of.
        track: Of this person.
    """
    shot, has_meters = result.shot_of(track), report["reprojection_px"] is not None
    texts = []
    for limit in LIMITS:
        number = report[limit.name]
        if number is None or (limit.needs_meters and not has_meters):
            continue
        if number < limit.value if limit.is_least else number > limit.value:
            texts.append(limit.text.format(number, limit.value))
    if has_meters and shot.moves is not False:
        texts.append(CAMERA_MOVES if shot.moves else CAMERA_UNKNOWN)
    if shot.up is None:
        texts.append(NO_UP)
    if not has_meters:
        texts.append(NO_METERS)
    return texts + _smoothing(result, track)


def _smoothing(result: PoseResult, track: Track) -> list[str]:
    cutoff = result.provenance["options"].get("smooth_hz")
    if cutoff is None or is_smoothable(result.video.timestamps_s[track.frames], cutoff):
        return []
    return [f"--smooth {cutoff:g} changes nothing at {result.video.median_fps:.0f} frames per second"]


def line_of(report: dict[str, Any]) -> str:
    """Return one line with a person's numbers."""

    def known(name: str, text: str) -> list[str]:
        return [] if report[name] is None else [text.format(report[name])]

    parts = [
        f"seen {report['coverage']:.0%} of the clip",
        f"{report['height_px']:.0f} px tall",
        f"2D score {report['mean_score']:.2f}",
        *known("reprojection", "reprojection {:.1%} of the height"),
        f"jitter {report['jitter']:.1f}",
        f"bone lengths +-{report['bone_length_variation']:.1%}",
        *known("seam_ratio", "seams {:.2f}"),
        *known("foot_slide", "feet slide {:.2f} m/s"),
    ]
    return f"person {report['id']}: {', '.join(parts)}"


def summary_lines(reports: list[dict[str, Any]]) -> list[str]:
    """Return what a terminal shows of the reports: a line per person, and every warning once with whom it concerns."""
    lines = [line_of(report) for report in reports]
    texts = list(dict.fromkeys(text for report in reports for text in report["warnings"]))
    for text in texts:
        ids = [report["id"] for report in reports if text in report["warnings"]]
        whom = "" if len(ids) == len(reports) else f"person {', '.join(map(str, ids))}: "
        lines.append(f"warning: {whom}{text}")
    return lines
