"""What the quality figures of a person mean, in words, and whether they are a reason to look closer."""

from __future__ import annotations

from dataclasses import dataclass

from app.quality.person_quality import PersonQuality
from app.quality.warnings import LIMITS


@dataclass(frozen=True)
class Figure:
    """One quality figure.

    Attributes:
        name: Field of ``PersonQuality``.
        title: For people.
        text: Format of the number.
        about: What it means, in a sentence.
        needs_meters: It means nothing without them.
    """

    name: str
    title: str
    text: str
    about: str
    needs_meters: bool = False


FIGURES = (
    Figure("coverage", "seen", "{:.0%}", "Share of the clip in which the person was detected."),
    Figure("interpolated", "filled in", "{:.1%}", "Frames without a detection, bridged from their neighbors."),
    Figure("height_px", "height in the picture", "{:.0f} px", "Small people have large errors; 200 px is good."),
    Figure("mean_score", "2D score", "{:.2f}", "How sure the detector is, 0 to 1."),
    Figure("truncated", "cut by the border", "{:.0%}", "Joints outside of the picture are guesses."),
    Figure("sides_repaired", "sides put right", "{:.1%}", "Frames in which left and right had been swapped."),
    Figure("reprojection", "3D against 2D", "{:.1%}", "Distance of the 3D from the keypoints, of the body's height."),
    Figure("jitter", "mean acceleration", "{:.1f} m/s²", "Walking has 7, sport 15 to 25; more is trembling.", True),
    Figure("bone_length_variation", "bone lengths", "±{:.1%}", "Bones do not stretch: this much, depth is unsure."),
    Figure("foot_skating", "foot skating", "{:.2f} m/s", "Speed of feet that stand; 0 would be perfect."),
)  # fmt: skip
NONE = "\N{EN DASH}"
_LIMITS = {limit.name: limit for limit in LIMITS}


def number_of(figure: Figure, quality: PersonQuality) -> str:
    """Return a figure as text, a dash if it cannot be had."""
    value = getattr(quality, figure.name)
    has_meters = quality.reprojection_px is not None
    return NONE if value is None or (figure.needs_meters and not has_meters) else figure.text.format(value)


def is_doubtful(figure: Figure, quality: PersonQuality) -> bool:
    """Return whether a figure is one that the app warns of."""
    value, limit = getattr(quality, figure.name), _LIMITS.get(figure.name)
    if value is None or limit is None or (limit.needs_meters and quality.reprojection_px is None):
        return False
    return bool(value < limit.value if limit.is_least else value > limit.value)
