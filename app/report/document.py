"""``document_of``: a page of HTML that reaches no network and runs no code."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path

STYLESHEET = Path(__file__).with_name("report.css")


def document_of(title: str, body: str, credit: str) -> str:
    """Return a page with our style; what it shows is inside or in files beside it.

    Args:
        title: Text.
        body: HTML, with everything from outside escaped.
        credit: Text of the last line.
    """
    style = STYLESHEET.read_text(encoding="ascii")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data: 'self' file:; media-src 'self' file:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f'<body><main>{body}<p class="quiet">{escape(credit)}</p></main></body>\n</html>\n'
    )
