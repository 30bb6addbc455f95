"""HTML that the page shows of a job: progress, messages, report. All text is escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from app.quality.person_quality import PersonQuality, warning_lines
from app.web.job import CANCELLED, FRAME_STAGES, QUEUED, RUNNING, Status

STAGES = {
    "models": "Getting the models ready",
    "2D": "Finding people, frame by frame",
    "3D": "Lifting to 3D",
    "overlay": "Drawing the overlay",
    "files": "Writing files",
}


def notice(text: str) -> str:
    """Return an error message; screen readers read it at once."""
    return f'<div class="pm-notice" role="alert">{escape(sentence(text))}</div>'


def hint(text: str) -> str:
    """Return a quiet line."""
    return f'<div class="pm-hint" role="status">{escape(text)}</div>'


def sentence(text: str) -> str:
    """Return ``text`` with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def progress(status: Status) -> str:
    """Return the progress of a job."""
    if status.state == QUEUED:
        ahead = status.position - 1
        return _bar("Waiting in the queue", "next" if ahead == 0 else f"{ahead} before you", None)
    if status.state == RUNNING:
        parts = []
        if status.total and status.stage in FRAME_STAGES:
            parts.append(f"frame {status.done} of {status.total}")
            parts += [f"{status.rate:.1f} frames per second"] if status.rate else []
        if status.seconds_left is not None:
            parts.append(f"{duration(status.seconds_left)} left")
        share = status.done / status.total if status.total else None
        return _bar(STAGES.get(status.stage, status.stage), ", ".join(parts), share)
    if status.state == CANCELLED:
        return hint("Cancelled. The video and everything made of it are gone.")
    return ""


def _bar(title: str, details: str, share: float | None) -> str:
    value = "" if share is None else f' value="{min(1.0, share):.3f}"'
    return (
        f'<div class="pm-progress" role="status"><b>{escape(title)}</b><span>{escape(details)}</span>'
        f'<progress max="1"{value} aria-label="{escape(title)}"></progress></div>'
    )


def duration(seconds: float) -> str:
    """Return a time in seconds or minutes."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min"


def report(document: dict[str, Any], record: dict[str, Any]) -> str:
    """Return a table of people, and warnings in plain words.

    Args:
        document: ``pose.json``.
        record: Of the job, see ``app.web.job.Status``.
    """
    video = document["video"]
    if not document["people"]:
        return hint(
            f"Nobody was found in {video['num_frames']} frames. Is a person visible, at least 100 pixels tall? "
            "Another detector (Options) may see more."
        )
    people = [PersonQuality(**quality) for quality in document["quality"]]
    warnings = warning_lines(people) + [str(text) for text in video.get("warnings", [])]
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("person", "from", "to", "seen", "height in the picture"))
    rows = "".join(_row(person, quality, video["fps"]) for person, quality in
                   zip(document["people"], people, strict=True))  # fmt: skip
    seconds = f"{record['seconds']:.1f} s" if "seconds" in record else ""
    models = document["models"]
    facts = f"{video['num_frames']} frames in {seconds}; lifter {models['lifter']}; {models['summary']}"
    items = "".join(f"<li>{escape(sentence(text))}</li>" for text in warnings)
    return (
        f'<div class="pm-report"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        + (f"<p>Before you trust the numbers:</p><ul>{items}</ul>" if items else "<p>Nothing to warn of.</p>")
        + f'<p class="pm-hint">{escape(facts)}</p></div>'
    )


def _row(person: dict[str, Any], quality: PersonQuality, fps: float) -> str:
    first, last = (person["frames"][i] / fps for i in (0, -1))
    cells = (
        f"person {person['id']}", f"{first:.1f} s", f"{last:.1f} s", f"{quality.coverage:.0%}",
        f"{quality.height_px:.0f} px",
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
