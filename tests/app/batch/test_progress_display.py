"""What a batch shows on a terminal, and where it goes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

SHOW = """
import sys
from pathlib import Path
from app.batch.progress_display import Display
clips = [Path(sys.argv[1]) / name for name in ("a.mp4", "b.mp4", "c\\nc.mp4")]
record = {"status": "done", "warnings": [], "frames": 50, "duration_s": 2.0, "fps": 25.0, "people": 1,
          "people_found": 1, "files": {}, "quality": [], "stage_seconds": {"2D": 0.5, "3D": 0.5}}
with Display(clips, Path(sys.argv[1]) / "out") as display:
    for clip in clips[:2]:
        display.start_clip(clip)
        list(display.show_stage(range(50), "2D", 50))
        display.finish_clip({**record, "clip": str(clip), "folder": clip.stem}, "")
    error = f"cannot read {clips[2]}"
    display.finish_clip({"clip": str(clips[2]), "folder": "c_c", "status": "failed", "error": error}, "")
"""


def show(root: Path, tmp_path: Path, stderr: int) -> str:
    """Return what goes to stdout."""
    for name in ("a.mp4", "b.mp4", "c\nc.mp4"):
        (tmp_path / name).write_bytes(bytes(1000))
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, stderr=stderr, text=True,
        timeout=60, check=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    return done.stdout


def test_a_terminal_gets_bars_and_a_pipe_the_results(root, tmp_path):
    ours, theirs = pty.openpty()
    stdout = show(root, tmp_path, theirs)
    os.close(theirs)
    seen = b""
    while chunk := read(ours):
        seen += chunk
    os.close(ours)
    text = seen.decode()
    for part in ("clips", "0/3", "3/3", "error: cannot read"):
        assert part in text
    assert "\x1b[2K" in text  # lines are drawn again
    assert stdout.splitlines() == [
        f"{tmp_path}/a.mp4: {tmp_path}/out/a", "  50 frames, 2.0 s at 25.00 fps; 1 person",
        "  2D 0.50 s (100 frames/s), 3D 0.50 s (100 frames/s); together 1.00 s, 2.00 x real time",
        f"{tmp_path}/b.mp4: {tmp_path}/out/b", "  50 frames, 2.0 s at 25.00 fps; 1 person",
        "  2D 0.50 s (100 frames/s), 3D 0.50 s (100 frames/s); together 1.00 s, 2.00 x real time",
    ]  # fmt: skip


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_elsewhere_there_are_plain_lines(root, tmp_path):
    with (tmp_path / "stderr").open("w+") as file:
        show(root, tmp_path, file.fileno())
        file.seek(0)
        assert file.read().splitlines() == [
            f"  {tmp_path}/a.mp4 (1 of 3)", "  2D ...", "  1 of 3 clips, about 0 min left",
            f"  {tmp_path}/b.mp4 (2 of 3)", "  2D ...", "  2 of 3 clips, about 0 min left",
            f"error: cannot read {tmp_path}/c\\nc.mp4",
        ]  # fmt: skip
