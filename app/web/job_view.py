"""What pages and programs see of a job: plain JSON, in words for people who know no command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app.options import Options, usable_detectors
from app.quality.person_quality import PersonQuality, warning_lines
from app.web.job import DONE, FRAME_STAGES, QUEUED, RUNNING, Job, Status
from app.web.option_controls import web_settings
from detectors import AUTO, BEST_FIRST, DETECTORS

STAGES = {
    "models": "Getting the networks ready",
    "2D": "Finding people, frame by frame",
    "tracks": "Following everybody through the video",
    "3D": "Lifting to 3D",
    "export": "Writing files",
    "overlay": "Drawing the overlay",
    "files": "Packing the ZIP",
}
ANIMATION, BIOMECHANICS, NUMBERS, LOOK = "Animation", "Biomechanics", "Numbers", "To look at"
PURPOSES = {
    "zip": ("Everything", "all files in one ZIP"),
    "mp4": (LOOK, "the video with skeletons drawn in"),
    "viewer.html": (LOOK, "3D viewer, opens in any browser"),
    "report.html": (LOOK, "report: pictures, curves, quality; opens in any browser"),
    "png": (LOOK, "the report as one picture"),
    "glb": (ANIMATION, "Blender, Unity, Godot: body with motion"),
    "fbx": (ANIMATION, "Maya, Unreal, Unity: body with motion"),
    "bvh": (ANIMATION, "Blender, Maya: skeleton with motion"),
    "trc": (BIOMECHANICS, "OpenSim, Mokka: markers"),
    "mot": (BIOMECHANICS, "OpenSim: joint angles"),
    "movement.json": (BIOMECHANICS, "range of motion, symmetry, steps"),
    "angles.csv": (BIOMECHANICS, "joint angles for spreadsheets, R"),
    "csv": (NUMBERS, "spreadsheets, R"),
    "npz": (NUMBERS, "Python: NumPy arrays"),
    "coco.json": (NUMBERS, "2D keypoints as COCO has them"),
    "json": (NUMBERS, "all numbers, described by a schema"),
}


@dataclass(frozen=True)
class PersonView:
    """A person of a result; ``picture`` is an address, relative to that of the server, or None."""

    id: int
    from_s: float
    to_s: float
    seen: float
    height_px: float
    picture: str | None


@dataclass(frozen=True)
class FileView:
    """A file of a result; ``url`` is relative to the address of the server."""

    name: str
    url: str
    bytes: int
    group: str
    about: str


@dataclass(frozen=True)
class JobView:
    """A job. ``status`` is queued, running, done, failed or cancelled; the last three are final.

    Attributes:
        id: Part of its addresses, hard to guess: who knows it can see and delete the job.
        name: Of the video.
        status: See above.
        queue_place: 1 for the next one; 0 unless queued.
        stage: What is being done, in a few words.
        detail: How far that is.
        progress: Share of the whole job, 0 to 1.
        seconds_left: Estimated; null unless running.
        expires_in_s: Until everything of an ended job is deleted; null before, and for examples.
        error: Why it failed, one sentence.
        notice: What to do when nobody was found.
        is_example: Belongs to everybody and cannot be deleted.
        width: Pixels of the picture.
        height: Pixels of the picture.
        frames: Of the video.
        seconds: That the analysis took.
        made_by: Networks.
        settings: Those that were chosen, in words.
        people: Who was found.
        chosen_from: Id of the job that has everybody, if this one has a choice of its people.
        warnings: Sentences to read before trusting the numbers.
        files: Of a job that is done.
    """

    id: str
    name: str
    status: str
    queue_place: int
    stage: str
    detail: str
    progress: float
    seconds_left: float | None
    expires_in_s: float | None
    error: str
    notice: str
    is_example: bool
    width: int = 0
    height: int = 0
    frames: int = 0
    seconds: float | None = None
    made_by: str = ""
    settings: list[str] = field(default_factory=list)
    people: list[PersonView] = field(default_factory=list)
    chosen_from: str | None = None
    warnings: list[str] = field(default_factory=list)
    files: list[FileView] = field(default_factory=list)


def view(job: Job, status: Status) -> JobView:
    """Return what is shown of a job."""
    found = _found(job, status.record) if status.state == DONE and status.record else {}
    return JobView(
        job.id, job.name, status.state, status.position, STAGES.get(status.stage, status.stage), _detail(status),
        round(status.progress, 4), None if status.seconds_left is None else round(status.seconds_left, 1),
        None if status.expires_in_s is None else round(status.expires_in_s), sentence(plain(status.error)),
        found.pop("notice", ""), job.is_example, **found,
    )  # fmt: skip


def public_files(job: Job) -> dict[str, Path]:
    """Return the results of a job by the names that they are downloaded under: the clip's in place of "pose"."""
    stem = job.clip.stem
    is_alone = (job.record or {}).get("people") == 1
    names = {}
    for name, path in job.files.items():
        kind = re.sub(r"^person\d+\.", "", name.partition(".")[2]) if is_alone else name.partition(".")[2]
        own = name.partition(".")[0]
        public = f"{stem}.{kind}" if own == "pose" else f"{stem}.{own}.{kind}"
        names[name if name == f"{stem}.zip" else public] = path
    return names


def plain(text: str) -> str:
    """Return a sentence with the page's words for settings where it names switches of the command line."""
    labels = {field.flag: field.about.label for field in web_settings().values() if field.about.label}
    return re.sub(r"--([a-z][a-z-]*)", lambda found: f"\N{LEFT DOUBLE QUOTATION MARK}{labels.get(found[1], found[1])}"
                  "\N{RIGHT DOUBLE QUOTATION MARK}", text)  # fmt: skip


def sentence(text: str) -> str:
    """Return ``text`` with a full stop and, unless it begins with a file's name, a capital."""
    text = text.strip()
    first = text.partition(" ")[0]
    text = text[:1].upper() + text[1:] if first.isalpha() else text
    return text + "." if text and not text.endswith((".", "!", "?")) else text


def _detail(status: Status) -> str:
    if status.state == QUEUED:
        ahead = status.position - 1
        return "you are next" if ahead == 0 else f"{ahead} before you"
    if status.state == RUNNING and status.total and status.stage in FRAME_STAGES:
        return f"frame {status.done} of {status.total}"
    return ""


def _found(job: Job, record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``JobView`` that only a job has that is done."""
    quality = [PersonQuality(**each) for each in record["quality"]]
    people = [
        PersonView(
            each["id"], round(each["from_s"], 2), round(each["to_s"], 2), round(indicators.coverage, 3),
            round(indicators.height_px), f"jobs/{job.id}/people/{each['id']}.jpg" if each["has_picture"] else None,
        )
        for each, indicators in zip(record["tracks"], quality, strict=True)
    ]  # fmt: skip
    warnings = [*warning_lines(quality), *map(str, record.get("warnings", []))]
    return {
        "width": record["width"], "height": record["height"], "frames": record["frames"], "seconds": record["seconds"],
        "made_by": record["made_by"], "settings": _settings((job.source or job).options), "people": people,
        "chosen_from": job.source.id if job.source else None,
        "warnings": [sentence(plain(text)) for text in warnings],
        "files": [_file(job, name, path) for name, path in public_files(job).items()] if people else [],
        "notice": "" if people else _advice(job),
    }  # fmt: skip


def _file(job: Job, name: str, path: Path) -> FileView:
    kinds = [kind for kind in PURPOSES if name.endswith(f".{kind}")]
    group, about = PURPOSES[max(kinds, key=len)] if kinds else (NUMBERS, "")
    return FileView(name, f"jobs/{job.id}/files/{quote(name)}", path.stat().st_size, group, about)


def _settings(options: Options) -> list[str]:
    """Return in words what differs from the usual settings."""
    told = []
    for name, setting in web_settings().items():
        value = getattr(options, name)
        if value != setting.default and not setting.is_tuple:
            told.append(f"{setting.about.label or name}: {setting.about.words.get(value, value)}")
    return told


def _advice(job: Job) -> str:
    """Return what helps where nobody was found: only what can be done here."""
    here = usable_detectors()
    used = next((name for name in BEST_FIRST if name in here), AUTO)
    used = used if job.options.detector == AUTO else job.options.detector
    more = ""
    if others := [name for name in here if name not in (AUTO, used)]:
        more = f" Another 2D detector (Options, Advanced: {', '.join(others)}) may see more."
    elif DETECTORS[used].boxes and not DETECTORS[used].found_boxes():
        more = (
            f" Whoever runs this server can add a network that sees more: posemamba fetch {DETECTORS[used].boxes[-1]}."
        )
    return (
        f"Nobody was found in {(job.record or {}).get('frames', job.num_frames)} frames of {job.name}. Whole bodies "
        "are found from a twentieth of the picture's height on, head and shoulders only if they are large; turn a "
        f"video that lies on its side (Options, Advanced), and light a dark one.{more}"
    )
