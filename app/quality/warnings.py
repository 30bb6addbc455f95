"""What to tell the user about a result: plain sentences with the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.geometry.floor import Floor
from app.motion import Shot
from app.quality.person_quality import PersonQuality

CAMERA_MOVING = "camera moves: positions are camera-relative"
CAMERA_UNKNOWN = "too little background to tell whether the camera moves: positions hold if it does not"
NO_UP = "nobody stands upright for long: the camera is taken to be level"
MISSING = "not in the picture or hidden: {}; these joints are guesses and not valid{}"
NO_FLOOR = ", and without feet neither the floor nor the tilt of the camera is known"
ABOVE = "rests {:.1f} m above the floor of the others, and is shown there"
BELOW = (
    "feet seem to be {:.1f} m below the others': smaller than assumed (give --height) or on lower ground; shown on a "
    "floor of its own"
)
NO_METERS = "these weights have no meters: no trajectory, and sizes mean nothing"


@dataclass(frozen=True)
class Limit:
    """When a number of a report calls for a warning.

    Attributes:
        name: Field of ``PersonQuality``; a number that cannot be had is no reason to warn.
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
    Limit("truncated", 0.05, "person is cut by the picture's border in {:.0%} of frames: joints out there are guesses"),
    Limit("interpolated", 0.1, "{:.0%} of the person's frames are filled in, nobody was detected there"),
    Limit("sides_repaired", 0.1, "left and right were swapped in {:.0%} of frames and put right: check the overlay"),
    Limit(
        "reprojection", 0.05, "3D misses 2D by {:.1%} of the person's height: the pose or the field of view is wrong"
    ),
    # Brisk walking has 7 m/s^2, sport 15 to 25.
    Limit("jitter", 40, "jitter is {:.0f} m/s^2: the 2D shakes, smoothing calms it", needs_meters=True),
    Limit("bone_length_variation", 0.12, "bone lengths vary by {:.0%}: depth is unsure, constant bone lengths help"),
    Limit("window_boundary_ratio", 1.5, "motion is {:.1f} times faster at window boundaries than elsewhere"),
    # On the rendered clips the truth has 0.2 m/s, results have 0.2 to 0.65.
    Limit("foot_skating", 0.8, "standing feet slide at {:.2f} m/s: positions or the field of view are off"),
)


def warnings_of(quality: PersonQuality, shot: Shot, floor: Floor | None, missing: Sequence[str]) -> list[str]:
    """Return what a user should know before trusting one person's numbers.

    Args:
        quality: The numbers; what they warn of are ``LIMITS``.
        shot: Of the person.
        floor: Below the person; None if it is not known.
        missing: Parts of the body that are hardly seen.
    """
    has_meters = quality.reprojection_px is not None
    texts = []
    for limit in LIMITS:
        number = getattr(quality, limit.name)
        if number is None or (limit.needs_meters and not has_meters) or (missing and limit.name == "truncated"):
            continue
        if number < limit.value if limit.is_least else number > limit.value:
            texts.append(limit.text.format(number, limit.value))
    if has_meters and shot.is_camera_moving is not False:
        texts.append(CAMERA_MOVING if shot.is_camera_moving else CAMERA_UNKNOWN)
    if missing:
        texts.insert(0, MISSING.format(", ".join(missing), NO_FLOOR if floor is None else ""))
    elif shot.up is None:
        texts.append(NO_UP)
    if floor is not None and floor.above:
        texts.append((ABOVE if floor.above > 0 else BELOW).format(abs(floor.above)))
    if not has_meters:
        texts.append(NO_METERS)
    return texts
