"""The interactive 3D viewer: ``viewer.html``, one file with data and code inside, and what a web page embeds of it.

The page reaches no network: its Content-Security-Policy allows the two blocks of code it was written with, by hash,
videos of its own folder (overlay.mp4), and nothing else. Text from outside, such as the clip's name, is data in it and
never markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from string import Template

from app.results import PoseResult
from app.viewer.payload import contents

FOLDER = Path(__file__).parent
SCRIPTS = (
    "numbers.js",
    "scene.js",
    "bodies.js",
    "plot.js",
    "follow.js",
    "clocks.js",
    "elements.js",
    "viewer.js",
    "actions.js",
    "page.js",
)  # fmt: skip - in this order, in one scope


def page(result: PoseResult) -> str:
    """Return ``viewer.html`` of a result; the same characters for the same result."""
    style = _code("viewer.css")
    script = "(() => {\n" + "".join(map(_code, SCRIPTS)) + "mountPage();\n})();\n"
    policy = [
        "default-src 'none'", f"script-src {_hash(script)}", f"style-src {_hash(style)}", "img-src data:",
        "media-src blob: 'self' file:", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    text = json.dumps(contents(result), separators=(",", ":"), allow_nan=False)
    return Template(_code("viewer.html")).substitute(
        policy="; ".join(policy), style=style, contents=text.replace("<", "\\u003c"), script=script
    )


def write_viewer(result: PoseResult, path: Path) -> None:
    """Write all people of ``result``; always y up, a matter of the picture here."""
    path.write_text(page(result), encoding="ascii", newline="\n")


def embedded() -> str:
    """Return an ``<iframe>`` for ``fillViewer`` of ``host.js``; it has no origin, so that it reaches nothing around."""
    return (
        '<iframe class="posemamba-viewer" title="3D viewer" sandbox="allow-scripts" '
        'style="width: 100%; height: 100%; border: 0"></iframe>'
    )


def host_script() -> str:
    """Return the script for the page around it: ``fillViewer(iframe, link)`` and ``linkViewer(iframes, video)``."""
    return _code("follow.js") + _code("host.js")


def _code(name: str) -> str:
    return (FOLDER / name).read_text(encoding="ascii")


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
