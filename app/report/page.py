"""``report.html`` and ``report.png``: what is in a clip and how far to trust it, for the eye; one file, offline."""

from __future__ import annotations

import base64
import io
import warnings
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.biomechanics.joint_angles import ANGLES
from app.biomechanics.movement_summary import movement_summary
from app.quality.person_quality import warning_lines
from app.report.charts import INK, QUIET, STYLE
from app.report.document import document_of
from app.report.figures import DPI, MOST_PEOPLE, WIDTH_IN, figures_of, longest_seen
from app.report.quality_words import FIGURES, NONE, is_doubtful, number_of
from app.results import PoseResult

PICTURE_QUALITY = 88  # of WebP in the page
CREDIT = "Estimated from video by posemamba; not a medical device."


def write_report(result: PoseResult, path: Path) -> None:
    """Write the page of a result.

    Raises:
        ValueError: The video changed since it was analyzed.
    """
    path.write_text(report_page(result), encoding="utf-8", newline="\n")


def write_poster(result: PoseResult, path: Path) -> None:
    """Write the main pictures of the page as one PNG; of the angles, those of whoever is seen longest.

    Raises:
        ValueError: The video changed since it was analyzed.
    """
    figures = figures_of(result)
    seen = max(figures.angles, key=lambda i: int(result.tracks[i].observed.sum()), default=None)
    angles = None if seen is None else figures.angles[seen]
    parts = [part for part in (_banner(result), figures.poses, figures.overview, angles) if part is not None]
    gap = np.full((24, parts[0].shape[1], 3), 255, np.uint8)
    stacked = np.concatenate([each for part in parts for each in (part, gap)])
    Image.fromarray(np.pad(stacked, ((24, 0), (24, 24), (0, 0)), constant_values=255)).save(path, "png", optimize=True)


def report_page(result: PoseResult) -> str:
    """Return the page of a result."""
    figures = figures_of(result)
    people = movement_summary(result)["people"]
    parts = [_facts(result, people)]
    if figures.poses is not None:
        parts.append(
            _section("Key poses", _image(figures.poses, "Key poses from the picture and in 3D from two sides"))
        )
    elif result.tracks:
        parts.append(_section("Key poses", '<p class="quiet">No pictures: the video is not here.</p>'))
    if figures.overview is not None:
        parts.append(_section("When and where", _image(figures.overview, "Who is seen when, and ways from above")))
    for index, picture in figures.angles.items():
        name = f"Person {result.tracks[index].person_id}"
        parts.append(_section(name, _image(picture, f"Joint angles of {name} over time") + _movement(people[index])))
    if len(result.tracks) > MOST_PEOPLE:
        parts.append(f'<p class="quiet">Angles of the {MOST_PEOPLE} people seen longest; angles.csv has everybody.</p>')
    if result.tracks:
        parts.append(_quality(result))
    return document_of(result.video.path.name, f"<h1>{escape(result.video.path.name)}</h1>{''.join(parts)}", CREDIT)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _image(picture: np.ndarray, about: str) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "webp", quality=PICTURE_QUALITY, method=4)
    data = base64.b64encode(content.getvalue()).decode()
    height, width = picture.shape[:2]
    return f'<img src="data:image/webp;base64,{data}" width="{width}" height="{height}" alt="{escape(about)}">'


def _facts(result: PoseResult, people: list[dict[str, Any]]) -> str:
    video = result.video
    facts = [
        (f"{len(result.tracks)}", "person" if len(result.tracks) == 1 else "people"),
        (f"{video.num_frames / video.fps:.1f} s", f"{video.num_frames} frames at {video.fps:.4g} per second"),
    ]
    paces = [person["gait"] for person in people if person["gait"]["cadence_steps_per_min"]]
    if len(people) == len(paces) == 1:
        steps = sum(paces[0]["num_steps"].values())
        gait = paces[0]
        facts.append((f"{gait['cadence_steps_per_min']:.0f}", f"steps per minute, {gait['kind']}, {steps} steps"))
        if gait["speed"]:
            facts.append((f"{gait['speed']:.1f} m/s", "mean speed of these steps"))
    cells = "".join(f"<div><b>{escape(number)}</b>{escape(text)}</div>" for number, text in facts)
    nobody = "" if result.tracks else _section("Nobody was found", "<p>Is a person visible, at least 100 px tall?</p>")
    return f'<div class="facts">{cells}</div>{nobody}'


def _movement(person: dict[str, Any]) -> str:
    """Return a table of ranges of motion; only angles that have numbers."""
    rows = []
    for key, angle in ANGLES.items():
        names = (f"left_{key}", f"right_{key}") if angle.is_paired else (key,)
        found = [person["angles"][name] for name in names]
        if all(each["range"] is None for each in found):
            continue
        cells = [_cell(each["range"], "{:.0f}°") for each in found] + ["<td></td>"] * (2 - len(found))
        peaks = [_cell(each["peak_velocity"], "{:.0f}°/s") for each in found] + ["<td></td>"] * (2 - len(found))
        symmetry = _cell(person["symmetry"].get(key), "{:+.0f} %") if angle.is_paired else "<td></td>"
        rows.append(f"<tr><td>{escape(key.replace('_', ' '))}</td>{''.join(cells)}{symmetry}{''.join(peaks)}</tr>")
    head = ("range, <span class=left>left</span>", "<span class=right>right</span>", "left against right",
            "peak, <span class=left>left</span>", "<span class=right>right</span>")  # fmt: skip
    return (
        '<div class="table"><table><caption>Range of motion and peak velocity. Angles of the middle stand in the first '
        "column. Left against right: 0 % is equal, positive is more on the left.</caption>"
        f"<thead><tr><th>angle</th>{''.join(f'<th>{each}</th>' for each in head)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: float | None, text: str) -> str:
    return f"<td>{NONE}</td>" if value is None else f"<td>{text.format(value)}</td>"


def _quality(result: PoseResult) -> str:
    shown = [result.quality[i] for i in longest_seen(result)]
    head = "".join(f"<th>person {quality.id}</th>" for quality in shown)
    rows = []
    for figure in FIGURES:
        marks = [' class="doubtful"' if is_doubtful(figure, quality) else "" for quality in shown]
        cells = "".join(
            f"<td{mark}>{number_of(figure, quality)}</td>" for mark, quality in zip(marks, shown, strict=True)
        )
        rows.append(f'<tr><td>{figure.title}</td>{cells}<td class="words">{figure.about}</td></tr>')
    texts = [*warning_lines(result.quality), *result.video.warnings]
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    advice = f"<p>Before you trust the numbers:</p><ul>{items}</ul>" if items else "<p>Nothing to warn of.</p>"
    table = f"<thead><tr><th></th>{head}<th></th></tr></thead><tbody>{''.join(rows)}</tbody>"
    unit = "meters" if result.models.unit == "m" else "units of the lifter"
    made = f"{result.models.lifter}; {result.models.summary}; 3D in {unit}"
    return _section(
        "How far to trust it",
        f'{advice}<div class="table"><table>{table}</table></div><p class="quiet">{escape(made)}</p>',
    )


def _banner(result: PoseResult) -> np.ndarray:
    """Return the title of the poster."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    video, count = result.video, len(result.tracks)
    people = "nobody found" if not count else "1 person" if count == 1 else f"{count} people"
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font lacks are boxes; the page has them
        figure = Figure(figsize=(WIDTH_IN, 0.8), dpi=DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        name = video.path.name if video.path.name.isprintable() else video.path.name.encode("unicode_escape").decode()
        figure.text(0.004, 0.6, name[:80], fontsize=17, fontweight="bold", color=INK, va="center", parse_math=False)
        about = f"{people}, {video.num_frames / video.fps:.1f} s at {video.fps:.4g} frames per second. {CREDIT}"
        figure.text(0.004, 0.13, about, fontsize=9.5, color=QUIET, va="center")
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
