"""Every setting, its default, range and meaning, once: ``Options`` of a user, ``ServerOptions`` of who runs a server.

A field says everything about itself (``app.settings``): flags, controls of the page and arguments of the API are built
from it, so that a new setting is one more field. Imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from app.settings import API, PAGE, PAGE_ADVANCED, check_settings, setting
from detectors import AUTO, BALANCED, BEST, BEST_FIRST, DETECTORS, FAST, QUALITIES
from lifter import LIFTERS, usable_lifters

BACKENDS = ("auto", "triton", "mamba_ssm", "cpu", "torch", "reference")  # of lifter.scan, which would import torch
PEOPLE = ("all", "largest", "longest")  # or ids
FORMATS = (  # of app.export, which would import torch
    "json", "npz", "csv", "trc", "bvh", "glb", "coco", "viewer", "angles", "mot", "movement", "report",
)  # fmt: skip
UP_AXES = ("y", "z")
OVERLAY_STYLES = ("side-by-side", "picture", "3d")
OVERLAY_SHAPES = ("clip", "16:9", "9:16")
PREVIEWS = ("none", "gif", "webp", "mp4")
FBX = "fbx"  # a format of ``posemamba convert`` alone: it needs Blender
LEAST_HEIGHT_M, MOST_HEIGHT_M = 0.4, 2.8
UNITS = ("m", "cm")  # of app.export.character.bvh


def person_ids(people: str) -> list[int]:
    """Return the ids in a text such as "0,2"; ValueError if it is none."""
    ids = [part.strip() for part in people.split(",")]
    if not all(part.isascii() and part.isdigit() for part in ids):
        raise ValueError(f"people must be {', '.join(PEOPLE)} or ids such as 0,2; got {people!r}")
    return [int(part) for part in ids]


def quarter_turn(degrees: int) -> int:
    """Return degrees; ValueError if they are no multiple of 90."""
    if degrees % 90:
        raise ValueError(f"rotate must be 0, 90, 180 or 270 degrees, got {degrees}")
    return degrees


def seconds_of(time: str) -> float:
    """Return the seconds of a time such as "90", "1:30.5" or "1:02:03"; ValueError if it is none."""
    match = re.fullmatch(r"(?:(?:(\d{1,4}):)?(\d{1,5}):)?(\d{1,7}(?:\.\d*)?|\.\d+)", str(time).strip(), re.ASCII)
    if match is None:
        raise ValueError(f"a time must be seconds or minutes:seconds, such as 90 or 1:30.5; got {str(time)!r}")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def body_heights(text: str) -> dict[int | None, float]:
    """Return heights in meters by person in a text such as "0=1.82,1=1.20"; of everybody else, "1.75", by None.

    Raises:
        ValueError: The text is not of this kind, or a height is not one of a body.
    """
    heights: dict[int | None, float] = {}
    for part in text.split(","):
        person, equals, number = part.rpartition("=")
        person = person.strip()
        try:
            height = float(number)
        except ValueError:
            height = math.nan
        is_id = person.isascii() and person.isdigit() if equals else not person
        if math.isnan(height) or not is_id:
            raise ValueError(f"height must be meters such as 1.82, or by id such as 0=1.82,1=1.20; got {text!r}")
        if not LEAST_HEIGHT_M <= height <= MOST_HEIGHT_M:
            raise ValueError(
                f"height must lie between {LEAST_HEIGHT_M} and {MOST_HEIGHT_M} meters, got {number.strip()}"
            )
        key = int(person) if equals else None
        if key in heights:
            raise ValueError(f"height has two values for {'everybody' if key is None else f'person {key}'}: {text!r}")
        heights[key] = height
    return heights


def usable_detectors() -> list[str]:
    """Return the detectors that can run here, "auto" first."""
    return [AUTO, *(name for name, spec in DETECTORS.items() if spec.why_not() is None)]


@dataclass(frozen=True)
class Options:
    """Settings of one run; the arguments of ``setting`` say what each means."""

    quality: str = setting(
        BALANCED,
        "fast: the smallest networks that are here, no flip averaging; best: MediaPipe's heavy network after "
        "'posemamba fetch mediapipe-heavy'; balanced in between. For other detectors it is as best.",
        choices=QUALITIES, web=PAGE, label="Quality",
        words={FAST: "fast", BALANCED: "balanced", BEST: "best, takes up to three times as long"},
    )  # fmt: skip
    detector: str = setting(
        AUTO, f"2D pose estimator; auto is the first of {', '.join(BEST_FIRST)} that can run here; one of",
        choices=lambda: (AUTO, *DETECTORS), web=PAGE_ADVANCED, label="2D detector",
        hint="Finds people and their joints in the picture.",
        offers=usable_detectors,
    )  # fmt: skip
    detector_weights: tuple[str, ...] = setting(
        (), "Weights for the detector, whatever the quality: a name of 'posemamba fetch' or a file; repeat.",
        is_advanced=True,
    )  # fmt: skip
    detection_interval: int = setting(
        1, "Look for people in every so many frames and move their boxes between (yolo-hrnet)", limits=(1, 30),
        unit="frames", is_advanced=True, web=API,
    )  # fmt: skip
    lifter: str = setting(
        "posemamba-s", f"One of {', '.join(LIFTERS)}, a name of 'posemamba fetch', or a weights file.",
        web=PAGE_ADVANCED, label="3D network", hint="The first was trained longest.", offers=usable_lifters,
    )  # fmt: skip
    device: str = setting(
        "auto", "Where the lifter runs: auto, cpu, cuda, cuda:1, ...; auto is a CUDA GPU if the scan has a kernel for "
        "it, else the CPU. Apple's MPS is not used: no scan kernel exists for it.",
    )  # fmt: skip
    backend: str = setting("auto", "Kernel of the selective scan, one of", choices=BACKENDS, is_advanced=True)
    height: str | None = setting(
        None, "Body height in meters, if known: scales the 3D. One for everybody, such as 1.82, or by id as in an "
        "earlier result: 0=1.82,1=1.20. Otherwise a 1.70 m adult is assumed.",
        check=lambda text: body_heights(text), web=PAGE, label="Body height in meters",
        hint="If known: 1.82 for everybody, or by person: 0=1.82, 1=1.20. Otherwise 1.70 m is assumed.",
    )  # fmt: skip
    fov_degrees: float = setting(
        55.0, "Field of view along the picture's longer side", flag="fov", limits=(10, 150), unit="degrees",
        web=PAGE_ADVANCED, label="Field of view of the camera in degrees", hint="Along the longer side of the picture.",
    )  # fmt: skip
    has_rigid_bones: bool = setting(
        False, "Constant bone lengths, equal on both sides, in every file; bvh and glb have them anyway.",
        flag="rigid-bones", is_advanced=True, web=PAGE_ADVANCED, label="Constant bone lengths in every file",
        hint="BVH and GLB have them anyway.",
    )  # fmt: skip
    smooth_hz: float | None = setting(
        None, "Smooth joints and trajectory: zero-phase Butterworth low-pass with this cut-off; 6 is usual",
        flag="smooth", limits=(0.1, 100), unit="Hz", web=PAGE, label="Smoothing",
        words={None: "off", 6.0: "light", 3.0: "strong, rounds off fast moves"},
    )  # fmt: skip
    lock_feet: bool = setting(
        False, "Hold feet in place while they stand, keep them above the floor, and let no leg stretch for it: for "
        "animation, not for measuring. Bones get constant lengths, too.", web=API,
    )  # fmt: skip
    max_gap_s: float = setting(
        0.5, "Longest time without a detection that is interpolated", flag="max-gap", limits=(0, 60), unit="seconds",
        is_advanced=True, web=API,
    )  # fmt: skip
    min_track_s: float = setting(
        0.3, "Drop people seen for less than this, but never the only frame of a clip", flag="min-track-seconds",
        limits=(0, 3600), unit="seconds", is_advanced=True, web=API,
    )  # fmt: skip
    rotate: int = setting(
        0, "Turn the picture clockwise, on top of what the file says: 0, 90, 180 or 270", limits=(0, 270),
        unit="degrees", check=quarter_turn, is_advanced=True, web=PAGE_ADVANCED, label="Turn the picture",
        hint="For videos that lie on the side.",
        words={0: "no", 90: "90 degrees clockwise", 180: "180 degrees", 270: "90 degrees counter-clockwise"},
    )  # fmt: skip
    start: str | None = setting(
        None, "Begin at this time of the clip, in seconds or as 1:30.5.", flag="from", check=seconds_of, web=PAGE,
        label="From", hint="Seconds, or as 1:30; empty for the beginning.", metavar="TIME",
    )  # fmt: skip
    stop: str | None = setting(
        None, "End before this time of the clip, in seconds or as 1:30.5.", flag="to", check=seconds_of, web=PAGE,
        label="To", hint="Seconds, or as 1:30; empty for the end.", metavar="TIME",
    )  # fmt: skip
    slow_motion: float = setting(
        1.0, "How many times slower than life the clip plays; times are divided by it, so that speeds are right",
        limits=(1, 100), unit="times", is_advanced=True, web=PAGE_ADVANCED, label="Slow motion, times",
        hint="8 for a clip that plays eight times slower than life.",
    )  # fmt: skip
    people: str = setting(
        "all", f"Whom to lift: {', '.join(PEOPLE)}, or ids as in an earlier result: 0,2.", web=PAGE, label="People",
        hint="You can also choose by pictures when everybody was found.",
        words={"all": "everybody", "largest": "who is largest in the picture", "longest": "who is seen longest"},
        check=lambda people: people in PEOPLE or person_ids(people),
    )  # fmt: skip
    formats: tuple[str, ...] = setting(
        ("json", "npz", "viewer"), "Files to write, with commas between them; of", choices=FORMATS, web=API,
        always=("json", "viewer"),
    )  # fmt: skip
    up: str = setting(
        "y", "Axis that points up in csv, trc and bvh; glb is y up.", choices=UP_AXES, is_advanced=True, web=API
    )
    unit: str = setting(
        "m", "Unit of length in bvh: game engines and MotionBuilder take cm; other files are in meters.", choices=UNITS,
        is_advanced=True, web=API,
    )  # fmt: skip
    is_upright: bool = setting(
        True, "Turn csv, trc, bvh, glb and the 3D panel by the estimated tilt of the camera; if not, it is taken to be "
        "level.", flag="gravity-align", is_advanced=True, web=API,
    )  # fmt: skip
    has_overlay: bool = setting(True, "Write overlay.mp4.", flag="overlay")
    overlay_style: str = setting(
        "side-by-side", "What overlay and preview show: the picture with skeletons, the 3D, or both",
        choices=OVERLAY_STYLES, is_advanced=True, web=API,
    )  # fmt: skip
    overlay_shape: str = setting(
        "clip", "Shape of overlay and preview; clip is as the clip gives it", choices=OVERLAY_SHAPES, is_advanced=True,
        web=API,
    )  # fmt: skip
    has_angles: bool = setting(
        False, "Write joint angles in degrees at the joints, in overlay and preview.", flag="overlay-angles",
        is_advanced=True, web=API,
    )  # fmt: skip
    preview: str = setting(
        "none", "Also write a short moving picture to share, preview.gif and so on: the liveliest 8 seconds",
        choices=PREVIEWS, is_advanced=True, web=API,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.detector_weights and self.detector == AUTO:
            raise ValueError("detector-weights belong to one detector; name it with --detector")
        if self.stop_s <= self.start_s:
            raise ValueError(f"to must come after from, got {self.stop} after {self.start or 0}")

    @property
    def start_s(self) -> float:
        """Second of the clip at which the part that is used begins."""
        return seconds_of(self.start) if self.start else 0.0

    @property
    def stop_s(self) -> float:
        """Second of the clip before which it ends; infinite for the end of the clip."""
        return seconds_of(self.stop) if self.stop else math.inf

    def height_of(self, person_id: int) -> float | None:
        """Return the height of a person's body in meters; None if it is not known."""
        heights = body_heights(self.height) if self.height else {}
        return heights.get(person_id, heights.get(None))

    @property
    def use_flip(self) -> bool:
        """Whether networks also see the mirrored input, and the answers are averaged: twice the work, smoother."""
        return self.quality != FAST


# What a finished result can still be given (``posemamba convert``); all else is decided when the video is analyzed.
APPLICABLE = ("has_rigid_bones", "smooth_hz", "lock_feet", "people", "up", "unit", "is_upright")
# What ``--for`` chooses in place of the defaults; flags that are given win.
PRESETS: dict[str, dict[str, Any]] = {
    "animation": {
        "formats": ("json", "glb", "bvh", "viewer"), "smooth_hz": 6.0, "has_rigid_bones": True, "lock_feet": True,
    },
    "biomechanics": {
        "formats": ("json", "csv", "trc", "viewer", "angles", "mot", "movement", "report"), "smooth_hz": 6.0,
    },
    "research": {"formats": ("json", "npz", "csv", "coco", "viewer")},
}  # fmt: skip


@dataclass(frozen=True)
class UploadLimits:
    """What a video may be that strangers upload; who runs ``posemamba run`` on files of his own has none of these."""

    max_bytes: int = setting(500_000_000, "Size of the file.")
    min_side_px: int = setting(32, "Width and height of the picture.")
    max_pixels: int = setting(4096 * 2304, "Of the picture; the default is 4K, as cinemas have it.")
    max_duration_s: float = setting(300.0, "From the first picture to the last.")
    max_fps: float = setting(240.0, "Pictures per second, as most neighbors are apart.")
    max_frames: int = setting(18_000, "Pictures in all.")
    inspect_s: float = setting(8.0, "Seconds for the inspection of a file, before any model sees it.")
    inspect_bytes: int = setting(2 << 30, "Memory for the inspection.")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 1e-3 <= value <= 1 << 50:
                raise ValueError(f"{name} must lie between 0.001 and 2**50, got {value}")


@dataclass(frozen=True)
class ServerOptions:
    """Settings of whoever runs the job service."""

    limits: UploadLimits = UploadLimits()
    device: str = setting(Options.device, "Where lifters run, as in ``Options``; jobs cannot choose.")
    num_workers: int | None = setting(
        None, "Processes that analyze; default one per GPU, or one for the CPU", flag="workers", limits=(1, 256),
        unit="processes",
    )  # fmt: skip
    max_waiting: int = setting(40, "Jobs that may wait; more are refused", limits=(1, 100_000), unit="jobs")
    keep_s: float = setting(
        3600.0, "A job that ended is deleted after this, results and all", limits=(1, 30 * 86400), unit="seconds"
    )
    cancel_s: float = setting(
        3.0, "A worker gets this to stop by itself before it is killed", limits=(0, 600), unit="seconds"
    )
    stall_s: float = setting(
        600.0, "Without progress for this a job is given up and its worker killed", limits=(1, 86400), unit="seconds"
    )
    weights: tuple[str, ...] = setting(
        (), "Files that jobs may name as lifter or detector weights, besides the names everybody knows."
    )

    def __post_init__(self) -> None:
        check_settings(self)
