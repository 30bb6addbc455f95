"""``index_page``: all clips of an output folder on one page, each with a picture, one line, and links to its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from app.report.document import document_of

LINKS = (
    ("report.html", "report"), ("viewer.html", "3D viewer"), ("overlay.mp4", "overlay"), ("movement.json", "movement"),
    ("angles.csv", "angles"), ("pose.csv", "table"), ("pose.json", "pose.json"),
)  # fmt: skip
PREVIEWS = ("preview.webp", "preview.gif")  # pictures that move by themselves
MOST_LOADED = 200  # clips whose videos show their first picture before somebody asks for it


def index_page(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the page of these records of ``batch.jsonl``, in their order; failed clips come first.

    It shows files in the folders beside it, and stays small.
    """
    ordered = sorted(records, key=lambda record: record.get("status") == "done")
    failed = sum(record.get("status") != "done" for record in ordered)
    line = f"{len(ordered)} clips" + (f", {failed} failed" if failed else "")
    cards = "".join(_card(record, is_eager=number < MOST_LOADED) for number, record in enumerate(ordered))
    body = f'<h1>Results</h1><p class="quiet">{line}</p><div class="clips">{cards}</div>'
    return document_of("Results", body, "Written by posemamba; summary.csv has the same as a table.")


def _card(record: Mapping[str, Any], is_eager: bool) -> str:
    name = escape(PurePath(str(record.get("clip", ""))).name)
    if record.get("status") != "done":
        error = escape(str(record.get("error") or "failed"))
        return f'<article><div class="about"><h2>{name}</h2><p class="doubtful">{error}</p></div></article>'
    folder, files = quote(str(record["folder"]), safe=""), record.get("files") or {}
    links = "".join(f'<a href="{folder}/{file}">{text}</a>' for file, text in LINKS if file in files)
    return (
        f'<article>{_picture(folder, files, is_eager)}<div class="about"><h2>{name}</h2>'
        f'<p class="quiet">{escape(_line(record))}</p><div class="links">{links}</div></div></article>'
    )


def _picture(folder: str, files: Mapping[str, int], is_eager: bool) -> str:
    for file in PREVIEWS:
        if file in files:
            return f'<img src="{folder}/{file}" loading="lazy" alt="">'
    if "overlay.mp4" in files:
        preload = "metadata" if is_eager else "none"
        return f'<video src="{folder}/overlay.mp4#t=0.5" preload="{preload}" muted controls></video>'
    if "report.png" in files:
        return f'<img src="{folder}/report.png" loading="lazy" alt="">'
    return '<div class="none">no picture</div>'


def _line(record: Mapping[str, Any]) -> str:
    """Return people, length and warnings of a clip."""
    people = record.get("people", 0)
    parts = ["nobody found" if not people else "1 person" if people == 1 else f"{people} people"]
    if record.get("duration_s") is not None:
        parts.append(f"{record['duration_s']:.1f} s")
    quality = record.get("quality") or []
    count = len({text for report in (record, *quality) for text in report.get("warnings", ())})
    if count:
        parts.append("1 warning" if count == 1 else f"{count} warnings")
    return ", ".join(parts)
