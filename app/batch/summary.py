"""``batch.jsonl``, a line per clip, and ``summary.csv``, the same as a table; valid even after a batch was killed.

A line is appended in one write when a clip has ended; a broken one is removed by the next batch. The table is written
again every few seconds, as clips end, and when the batch ends; it replaces the older one when it is complete.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.batch.find_videos import size_of
from checkpoints import atomic_write

TABLE_S = 5.0  # between two tables: one of 10 000 clips takes a twentieth of a second
COLUMNS = (
    "clip", "folder", "status", "people", "frames", "fps", "duration_s", "seconds", "coverage", "mean_score",
    "height_px", "reprojection_px", "jitter", "foot_skating", "warnings", "error",
)  # fmt: skip


class Records:
    """The records of an output folder, one per name; at first those of earlier batches.

    Attributes:
        path: batch.jsonl.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "batch.jsonl"
        self._table = out / "summary.csv"
        self._table_time = 0.0
        self._records = {record["folder"]: record for record in _read_records(self.path)}

    def start(self, done: Iterable[dict[str, Any]], to_do: set[str]) -> None:
        """Write the records of clips that are done, without those of clips that will be analyzed again.

        Raises:
            OSError: It cannot be written.
        """
        kept = [record for name, record in self._records.items() if name not in to_do and self._is_current(record)]
        self._records = {record["folder"]: record for record in (*kept, *done)}
        with atomic_write(self.path, is_durable=True) as part:
            part.write_bytes(b"".join(_to_line(record) for record in self._records.values()))
        self.write_table()

    def add(self, record: dict[str, Any]) -> None:
        """Append the record of a clip that has ended.

        Raises:
            OSError: It cannot be written, and the file is as before; or the table cannot.
        """
        self._records[record["folder"]] = record
        with self.path.open("ab", buffering=0) as file:
            end = file.tell()
            line = _to_line(record)
            try:
                if file.write(line) != len(line):
                    raise OSError(f"{self.path} could not be written: the disk is full; free some space")
            except OSError:
                file.truncate(end)
                raise
        if time.monotonic() - self._table_time > TABLE_S:
            self.write_table()

    def _is_current(self, record: dict[str, Any]) -> bool:
        """Return whether the results, or the video that failed, are still there."""
        is_done = record["status"] == "done"
        return (self.path.parent / record["folder"]).is_dir() if is_done else size_of(Path(record["clip"])) is not None

    def write_table(self) -> None:
        """Write summary.csv.

        Raises:
            OSError: It cannot be written; the file is as before.
        """
        self._table_time = time.monotonic()
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for record in self._records.values():
            people = record.get("quality", [])
            warnings = dict.fromkeys(w for report in (record, *people) for w in report.get("warnings", ()))
            row = {**_most_visible(people), **record, "warnings": "; ".join(warnings)}
            table.writerow([row.get(column) for column in COLUMNS])
        with atomic_write(self._table, is_durable=True) as part:
            part.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))


def _most_visible(people: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the quality of the person who is in most of the frames: a row has one person."""
    return max(people, key=lambda person: person["coverage"], default={})


def _to_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _read_records(path: Path) -> list[dict[str, Any]]:
    """Return the complete records in a file, none if there is no file."""
    records = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"clip", "folder", "status"} <= record.keys():
            records.append(record)
    return records
