"""Starts the web app: ``serve`` in this process, ``running_server`` in a process of its own."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from app.console import print_result
from app.options import ServerOptions

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package app
FIRST_PORT = 7860
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
        RuntimeError: The port is taken.
        OSError: The address is not of this machine, or temporary files cannot be written.
    """
    name, _, password = (auth or "").partition(":")
    if auth is not None and not (name and password):
        raise ValueError("auth must be NAME:PASSWORD, with both; got something else")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers end, jobs and folders are deleted
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(host, port))
        uploads = stack.enter_context(tempfile.TemporaryDirectory(prefix="posemamba-web-"))
        os.environ |= {"GRADIO_TEMP_DIR": uploads, "GRADIO_ANALYTICS_ENABLED": "False"}
        # Imports gradio, which reads both variables, and does so before the worker starts and takes the cores.
        import uvicorn

        from app.web.routes import build_app
        from app.web.service import Service

        service = stack.enter_context(Service(settings, on_ready=_print_ready))
        address = f"http://{_shown(host)}:{listening.getsockname()[1]}"
        print_result(f"Web app: {address} (Ctrl-C stops it)\n{_limits(settings)}\nLoading the networks ...")
        sys.stdout.flush()  # a file or a pipe shows it at once, too
        if opens_browser:
            webbrowser.open(address)
        config = uvicorn.Config(
            build_app(service, Path(uploads), auth), log_level="warning", timeout_graceful_shutdown=2,
            forwarded_allow_ips="*",
        )  # fmt: skip
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens on ``port``, or on the first free one from 7860."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (port,) if port is not None else range(FIRST_PORT, FIRST_PORT + 100):
        try:
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    wanted = f"port {port} is" if port is not None else f"ports {FIRST_PORT} to {FIRST_PORT + 99} are"
    raise RuntimeError(f"{wanted} taken; choose another one with --port")


def _shown(host: str) -> str:
    """Return the host as an address for this machine's browser."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def _limits(settings: ServerOptions) -> str:
    limits = settings.limits
    return (
        f"Takes videos of up to {limits.max_duration_s / 60:g} min and {limits.max_bytes / 1e6:g} MB; deletes video "
        f"and results {settings.keep_s / 60:g} min after the end of a job."
    )


def _print_ready(about: dict[str, str]) -> None:
    print_result(f"Ready on {about['device']}: {about['models']}")
    sys.stdout.flush()


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
    except urllib.error.HTTPError:  # it wants a password
        return True
    except OSError:
        return False
    return True
