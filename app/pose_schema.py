"""The version of pose.json, and reading such a file. Imports nothing heavy: the web page reads files, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = "posemamba/pose/4"


def read_pose_json(path: Path) -> dict[str, Any]:
    """Return the document in a pose.json.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, or of another schema version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file ({error}); give a pose.json that posemamba wrote") from error
    version = document.get("schema") if isinstance(document, dict) else None
    if version != SCHEMA:
        raise ValueError(f"{path} has schema {version!r}, this version reads {SCHEMA!r}; analyze the video again")
    return document
