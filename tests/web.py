"""The web app in a process of its own, for tests that use it as people and programs do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Server(NamedTuple):
    """A running web app: where it answers, its process, and the folder of its temporary files."""

    address: str
    pid: int
    folder: Path


@contextmanager
def serving(root: Path, folder: Path, *arguments: str) -> Iterator[Server]:
    """``app.py`` on a free port; its temporary files are in ``folder``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = folder / "said.txt"  # no pipe: nobody reads while it runs
    with said.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), *arguments], cwd=root,
            env={**os.environ, "TMPDIR": str(folder)}, stderr=stderr,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, said.read_text()
                time.sleep(0.2)
        yield Server(address, process.pid, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    faults = [text for text in said.read_text().split("Traceback")[1:] if "gradio.exceptions.Error" not in text]
    assert faults == []  # what Gradio itself refuses it also logs
    assert list(folder.glob("posemamba*")) == []  # neither uploads nor results outlive the server
