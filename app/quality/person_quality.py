"""``PersonQuality``: how far one person's numbers can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PersonQuality:
    """Quality indicators of one person, without ground truth; fields are the keys of ``quality`` in pose.json.

    Nothing is compared across gaps. None where a number cannot be had.

    Attributes:
        id: Of the person.
        coverage: Share of the clip's frames in which the person was observed.
        interpolated: Share of the person's own frames that were filled in.
        sides_repaired: Share of observed frames in which left and right had been swapped and were put right.
        mean_score: Of observed keypoints, without those that are hardly seen at all.
        height_px: Median height in the picture.
        truncated: Share of observed frames in which a limb reaches the picture's border.
        reprojection_px: Median distance between keypoints and projected 3D over the 12 limb joints.
        reprojection: The same over the height.
        jitter: Mean acceleration of the joints in units per second squared.
        bone_length_variation: Standard deviation over mean (0.03 is 3 %).
        window_boundary_ratio: Speed at window boundaries over speed elsewhere.
        foot_skating: Mean speed in m/s over the floor of a foot that stands.
        warnings: Sentences.
    """

    id: int
    coverage: float
    interpolated: float
    sides_repaired: float
    mean_score: float
    height_px: float
    truncated: float
    reprojection_px: float | None
    reprojection: float | None
    jitter: float
    bone_length_variation: float
    window_boundary_ratio: float | None
    foot_skating: float | None
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON; ``PersonQuality(**fields)`` is the way back."""
        return {**asdict(self), "warnings": list(self.warnings)}


def line_of(quality: PersonQuality) -> str:
    """Return one line with a person's numbers."""
    parts = [
        f"seen {quality.coverage:.0%} of the clip",
        f"{quality.height_px:.0f} px tall",
        f"2D score {quality.mean_score:.2f}",
        "" if quality.reprojection is None else f"reprojection {quality.reprojection:.1%} of the height",
        f"jitter {quality.jitter:.1f}",
        f"bone lengths +-{quality.bone_length_variation:.1%}",
        "" if quality.window_boundary_ratio is None else f"window boundaries {quality.window_boundary_ratio:.2f}",
        "" if quality.foot_skating is None else f"foot skating {quality.foot_skating:.2f} m/s",
    ]
    return f"person {quality.id}: {', '.join(filter(None, parts))}"


def summary_lines(people: Sequence[PersonQuality]) -> list[str]:
    """Return what a terminal shows: a line per person, and every warning once with whom it concerns."""
    return [*map(line_of, people), *(f"warning: {text}" for text in warning_lines(people))]


def warning_lines(people: Sequence[PersonQuality]) -> list[str]:
    """Return every warning once, with whom it concerns unless that is everybody."""
    lines = []
    for text in dict.fromkeys(text for person in people for text in person.warnings):
        ids = [str(person.id) for person in people if text in person.warnings]
        lines.append(text if len(ids) == len(people) else f"person {', '.join(ids)}: {text}")
    return lines
