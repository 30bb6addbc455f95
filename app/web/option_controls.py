"""What the web app lets people choose: controls of the page, arguments of ``/estimate``; defaults of ``Options``."""

from __future__ import annotations

from typing import Any

from app.options import FORMATS, PEOPLE, Options
from detectors import AUTO, DETECTORS, QUALITIES
from lifter import usable_lifters

SHOWN = ("json", "viewer")  # what the page itself reads is always written
DEFAULTS = Options(formats=FORMATS)


def controls(gr: Any) -> dict[str, Any]:
    """Return a component of Gradio for every option, by the option's name; put where this is called."""
    usable = [name for name, spec in DETECTORS.items() if spec.why_not() is None]
    return {
        "quality": gr.Radio(
            QUALITIES, value=DEFAULTS.quality, label="Quality",
            info="Fast takes small networks, best the most exact ones that are here, at three times the time.",
        ),
        "detector": gr.Dropdown(
            [AUTO, *usable], value=DEFAULTS.detector, label="Detector", info="Who finds people and keypoints."
        ),
        "lifter": gr.Dropdown(
            usable_lifters(), value=DEFAULTS.lifter, label="Lifter",
            info="What makes 3D of 2D; the first was trained longest.",
        ),
        "people": gr.Dropdown(
            PEOPLE, value=DEFAULTS.people, label="People", info="Or their numbers, such as 0,2.",
            allow_custom_value=True,
        ),
        "smooth_hz": gr.Slider(
            0, 15, value=DEFAULTS.smooth_hz or 0, step=0.5, label="Smoothing, Hz",
            info="Cut-off of a low-pass; 6 is usual, 0 is none.",
        ),
        "height_m": gr.Number(
            value=DEFAULTS.height_m or 0, label="Body height, m", step=0.01,
            info="If known, else 0: then a 1.70 m adult is assumed.",
        ),
        "fov_degrees": gr.Slider(
            10, 150, value=DEFAULTS.fov_degrees, step=1, label="Field of view, degrees",
            info="Of the camera, along the longer side.",
        ),
        "has_rigid_bones": gr.Checkbox(value=DEFAULTS.has_rigid_bones, label="Constant bone lengths in every file"),
        "formats": gr.CheckboxGroup(
            [name for name in FORMATS if name not in SHOWN],
            value=[name for name in DEFAULTS.formats if name not in SHOWN], label="Files",
            info=f"Beside {', '.join(SHOWN)} and the overlay, which are always written.",
        ),
    }  # fmt: skip


def options_of(
    quality: str, detector: str, lifter: str, people: str, smooth_hz: float, height_m: float, fov_degrees: float,
    has_rigid_bones: bool, formats: list[str],
) -> Options:  # fmt: skip
    """Return what was chosen, in the order of ``controls``; 0 is none.

    Raises:
        ValueError: As ``Options``.
    """
    return Options(
        quality=quality, detector=detector, lifter=lifter, people=people, smooth_hz=smooth_hz or None,
        height_m=height_m or None, fov_degrees=fov_degrees, has_rigid_bones=has_rigid_bones,
        formats=(*SHOWN, *formats),
    )  # fmt: skip
