"""What the tests of batches share: the command as a process, and what is in a folder of results."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDERS = {"walk", "walk-2", "Größe 'a\" b_c", "wave"}
BROKEN = {"text", "empty", "torn"}


def results(out: Path) -> dict[str, dict[str, bytes]]:
    """Return the numbers in the folders of results, by folder and file; each must be whole.

    Videos are left out: x264 with several threads does not give the same bytes every time.
    """
    found = {}
    for folder in out.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            sizes = json.loads(files.pop("clip.json"))["files"]
            assert {name: len(content) for name, content in files.items()} == sizes
            found[folder.name] = {name: content for name, content in files.items() if name != "overlay.mp4"}
    return found


def lines(out: Path) -> dict[str, dict]:
    """Return the records in batch.jsonl, which must be valid and hold every folder once."""
    records = [json.loads(line) for line in (out / "batch.jsonl").read_text().splitlines()]
    assert len({record["folder"] for record in records}) == len(records)
    return {record["folder"]: record for record in records}


def rows(out: Path) -> dict[str, dict]:
    """Return the rows of summary.csv by folder."""
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return {row["folder"]: row for row in csv.DictReader(file)}


class Command:
    """``posemamba run`` as a process with its own process group."""

    def __init__(self, root: Path, *arguments) -> None:
        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as at a terminal; in the background shells have it ignored

        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "run", *map(str, arguments)],
            cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
            preexec_fn=prepare, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def signal(self, number: int) -> None:
        if self.process.poll() is None:  # it may have been quicker
            os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        try:
            stdout, stderr = self.process.communicate(timeout=200)
        finally:
            if self.process.poll() is None:
                self.signal(signal.SIGKILL)
        return self.process.returncode, stdout, stderr


def wait_until(condition, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def begun(out: Path) -> list[Path]:
    """Return the folders of clips that are being filled; os.walk ignores those that are deleted during the search."""
    parts = out / ".posemamba" / "parts"
    return [Path(box, name) for box, names, _ in os.walk(parts) if Path(box).parent == parts for name in names]


def has_begun(out: Path) -> bool:
    return bool(begun(out))
