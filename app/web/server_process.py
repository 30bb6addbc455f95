"""Starts the web app: ``serve`` in this process, ``running_server`` in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from app.options import ServerOptions

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package app
MAX_VISITORS = 200  # who wait or watch at the same time
START_S = 300  # then a server that does not answer is given up
POLL_S = 0.05


def serve(settings: ServerOptions, host: str, port: int | None, auth: str | None, opens_browser: bool) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        settings: Of the service.
        host: Address to listen on; 127.0.0.1 is this machine only.
        port: None takes the first free one from 7860.
        auth: "name:password", or None for everybody.
        opens_browser: Whether to open the page in a browser.

    Raises:
        ValueError: ``auth`` is not NAME:PASSWORD.
        OSError: The port is taken, or temporary files cannot be written.
    """
    name, _, password = (auth or "").partition(":")
    if auth is not None and not (name and password):
        raise ValueError("auth must be NAME:PASSWORD, with both; got something else")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers end, jobs and folders are deleted
    with ExitStack() as stack:
        os.environ["GRADIO_TEMP_DIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="posemamba-web-"))
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        # Imports gradio, which reads both variables, and does so before the worker starts and takes the cores.
        from app.web.page import build_page, launch_settings
        from app.web.service import Service

        page = build_page(stack.enter_context(Service(settings)))
        page.queue(max_size=MAX_VISITORS, default_concurrency_limit=None).launch(
            server_name=host, server_port=port, auth=None if auth is None else (name, password),
            inbrowser=opens_browser, max_threads=MAX_VISITORS, max_file_size=settings.limits.max_bytes,
            show_error=True, share=False, ssr_mode=False, quiet=True, **launch_settings(),
        )  # fmt: skip


class Server(NamedTuple):
    """A running web app: where it answers, its process, and the file of its messages."""

    address: str
    pid: int
    log: Path


@contextmanager
def running_server(folder: Path, *arguments: str) -> Iterator[Server]:
    """Run ``posemamba ui`` as a process on a free port and yield it when it answers; it ends with the block.

    Args:
        folder: For its temporary files and messages.
        arguments: For ``posemamba ui``.

    Raises:
        RuntimeError: It does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"  # no pipe: nobody reads while it runs
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), *arguments], cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)}, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        give_up_at = time.monotonic() + START_S
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"the web app does not start:\n{log.read_text(errors='replace')}")
            time.sleep(POLL_S)
        yield Server(address, process.pid, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=60).read()
    except OSError:
        return False
    return True
