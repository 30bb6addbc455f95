"""The web app under load: start-up, the page while a job runs, many people at once, and files that are no videos."""

from __future__ import annotations

import statistics
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from rich.table import Table

from app.bench.measure import machine, wall_clock
from app.web.server_process import running_server

POLL_S = 0.05


def time_web(clip: Path, people: int, uploads: Path | None) -> Table:
    """Return how the web app does on this machine, in a process of its own that ends with this call.

    Args:
        clip: Video that everybody sends.
        people: Who send it at the same time.
        uploads: Folder whose files are sent one by one; None for no such row.

    Raises:
        RuntimeError: The web app does not start.
        gradio_client.exceptions.AppError: A job failed; its sentence says why.
    """
    table = Table(title=f"web app, {clip.name}; {machine()}")
    table.add_column("what")
    table.add_column("measured", justify="right")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with running_server(Path(folder)) as (address, pid, _):
            table.add_row("command to first whole page", f"{time.perf_counter() - began:.1f} s")
            table.add_row("first job, upload to files", f"{wall_clock(lambda: _estimate(address, clip)):.1f} s")
            waits, seconds = _while_running(address, clip)
            table.add_row("second job", f"{seconds:.1f} s")
            table.add_row(
                f"page while it ran, {len(waits)} loads",
                f"median {1e3 * statistics.median(waits):.0f} ms, worst {1e3 * max(waits):.0f} ms",
            )
            before = megabytes(pid)
            with ThreadPoolExecutor(people) as crowd:
                took = wall_clock(lambda: list(crowd.map(lambda _: _estimate(address, clip), range(people))))
            table.add_row(f"{people} people at once, all jobs done", f"{took:.1f} s")
            table.add_row("memory of all processes, before and after them", f"{before} MB, {megabytes(pid)} MB")
            if uploads is not None:
                files = [path for path in sorted(uploads.iterdir()) if path.is_file()]
                answers = [wall_clock(lambda path=path: _refused(address, path)) for path in files]  # type: ignore[misc]
                slowest = files[max(range(len(files)), key=answers.__getitem__)].name
                table.add_row(
                    f"{len(files)} files of {uploads.name}, slowest answer", f"{max(answers):.1f} s, {slowest}"
                )
    return table


def _load(address: str) -> None:
    urllib.request.urlopen(address, timeout=60).read()


def _estimate(address: str, path: Path) -> dict[str, Any]:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=False)
    summary, _ = client.predict(path=handle_file(path), api_name="/estimate")
    return summary


def _refused(address: str, path: Path) -> None:
    from gradio_client.exceptions import AppError

    try:
        _estimate(address, path)
    except (AppError, ValueError):  # ValueError: larger than the server takes
        return


def _while_running(address: str, clip: Path) -> tuple[list[float], float]:
    """Return how long every load of the page took while a job ran, and how long that took."""
    began = time.perf_counter()
    waits = []
    with ThreadPoolExecutor(1) as visitor:
        job = visitor.submit(_estimate, address, clip)
        while not wait([job], POLL_S).done:
            waits.append(wall_clock(lambda: _load(address)))
        job.result()  # or its failure
    return waits, time.perf_counter() - began


def megabytes(pid: int) -> int:
    """Return the resident memory in MiB of a process and of all it started; 0 where there is no /proc."""
    task = Path(f"/proc/{pid}/task/{pid}/children")
    if not task.exists():
        return 0
    children = [
        int(child) for each in Path(f"/proc/{pid}/task").iterdir() for child in (each / "children").read_text().split()
    ]
    own = int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) // 1024
    return own + sum(map(megabytes, children))
