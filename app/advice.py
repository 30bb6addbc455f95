"""What to tell the user about a result: plain sentences with the numbers behind them, and one line per person."""

from __future__ import annotations

from typing import Any

from app.results import PoseResult
from app.smoothing import is_smoothable
from detectors.people import Track

SMALL_PX = 120  # the training pictures show people from a quarter of the picture's height on
LOW_SCORE = 0.5
MANY_FILLED = 0.1
OFTEN_CUT = 0.05
FAR_OFF = 0.05  # of the person's height
SHAKY = 40.0  # m/s^2; brisk walking has 7, sport 15 to 25
WOBBLY_BONES = 0.12
ROUGH_SEAMS = 1.5
SLIPPERY = 0.8  # m/s; on the rendered clips the truth has 0.2, results 0.2 to 0.65
CAMERA_MOVES = "camera moves: positions are camera-relative"
CAMERA_UNKNOWN = "too little background to tell whether the camera moves: positions hold if it does not"
NO_UP = "nobody stands upright for long: the camera is taken to be level"
NO_METRES = "these weights have no metres: no trajectory, and sizes mean nothing"


def warnings_of(report: dict[str, Any], result: PoseResult, track: Track) -> list[str]:
    """Return what a user should know before trusting one person's numbers; most important first.

    Args:
        report: The person's numbers, see ``app.quality.assess``.
        result: What they are of.
        track: Of this person.
    """
    shot, has_metres = result.shot_of(track), report["reprojection_px"] is not None
    checks = [
        (report["height_px"] < SMALL_PX,
         f"person is {report['height_px']:.0f} px tall, smaller than {SMALL_PX} px: expect large errors"),
        (report["mean_score"] < LOW_SCORE,
         f"2D score is {report['mean_score']:.2f}, below {LOW_SCORE}: the detector is unsure, look at the overlay"),
        (report["cut"] > OFTEN_CUT,
         f"person is cut by the picture's border in {report['cut']:.0%} of frames: the joints outside are guesses"),
        (report["interpolated"] > MANY_FILLED,
         f"{report['interpolated']:.0%} of the person's frames are filled in, nobody was detected there"),
        (has_metres and report["reprojection"] > FAR_OFF,
         f"3D misses 2D by {report['reprojection']:.1%} of the person's height: the pose or --fov is wrong"),
        (has_metres and report["jitter"] > SHAKY,
         f"jitter is {report['jitter']:.0f} m/s^2: the 2D shakes; --smooth 6 calms it"),
        (report["bone_length_variation"] > WOBBLY_BONES,
         f"bone lengths vary by {report['bone_length_variation']:.0%}: depth is unsure; --rigid-bones holds them"),
        ((report["seam_ratio"] or 0) > ROUGH_SEAMS,
         f"motion is {report['seam_ratio'] or 0:.1f} times faster at window borders than elsewhere"),
        ((report["foot_slide"] or 0) > SLIPPERY,
         f"standing feet slide at {report['foot_slide'] or 0:.2f} m/s: positions or --fov are off"),
        (has_metres and shot.moves is True, CAMERA_MOVES),
        (has_metres and shot.moves is None, CAMERA_UNKNOWN),
        (shot.up is None, NO_UP),
        (not has_metres, NO_METRES),
        (*_smoothing(result, track),),
    ]  # fmt: skip
    return [text for applies, text in checks if applies]


def _smoothing(result: PoseResult, track: Track) -> tuple[bool, str]:
    cutoff = result.provenance["options"].get("smooth_hz")
    is_in_vain = cutoff is not None and not is_smoothable(result.video.timestamps_s[track.frames], cutoff)
    return is_in_vain, f"--smooth {cutoff} changes nothing at {result.video.usual_fps:.0f} frames per second"


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
