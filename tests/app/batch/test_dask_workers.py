"""Clips on several processes: workers of our own and of a running scheduler, and what happens when they die."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from tests.batches import BROKEN, FOLDERS, Command, begun, has_begun, lines, results, wait_until

dask = pytest.importorskip("dask", reason="needs the dist extra")
cluster = pytest.importorskip("app.batch.dask_workers", reason="needs the dist extra")
pytestmark = [pytest.mark.timeout(600), pytest.mark.process]


def being_analyzed(out: Path) -> set[tuple[str, int]]:
    """Return folders of clips and the processes that analyze them, or did when they died."""
    return {(path.name, int(path.parent.name.partition("-")[0])) for path in begun(out)}


def killed_at(clip: str, out: Path, running: Command, *others: int) -> int:
    """Kill the worker that analyzes a clip, if it is none of others, and return its process id."""

    def workers() -> list[int]:
        return [worker for name, worker in being_analyzed(out) if name == clip and worker not in others]

    wait_until(lambda: workers() or running.process.poll() is not None)
    worker = workers()[0]
    os.kill(worker, signal.SIGKILL)
    return worker


def family(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


class Scheduler:
    """``dask scheduler`` on the loopback interface with workers that nobody restarts."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._root = root
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen] = []
        self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"
        )
        wait_until(lambda: self._file.exists() and self._file.read_text().endswith("}"))
        self.address = json.loads(self._file.read_text())["address"]

    def start_worker(self) -> subprocess.Popen:
        return self._start(
            "worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0",
            "--death-timeout", "60",
        )  # fmt: skip

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait(timeout=30)

    def _start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(self._file)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_TEMPORARY_DIRECTORY": str(self._file.parent)}
        with (self._file.parent / "log.txt").open("ab") as log:
            self._processes.append(subprocess.Popen(command, cwd=self._root, env=environment, stdout=log, stderr=log))
        return self._processes[-1]


@pytest.fixture(scope="module")
def scheduler(root, tmp_path_factory) -> Iterator[Scheduler]:
    """A scheduler with two workers to begin with."""
    started = Scheduler(tmp_path_factory.mktemp("dask"), root)
    try:
        started.start_worker()
        started.start_worker()
        yield started
    finally:
        started.stop()


def test_a_worker_that_dies_costs_no_clip(command, scheduler, short_clips, undisturbed, tmp_path):
    out = tmp_path / "out"
    running = command(short_clips, "-o", out, "--scheduler", scheduler.address)
    victim = killed_at("walk", out, running)
    code, stdout, stderr = running.end()
    assert code == 1, stderr  # three are broken
    assert "4 of 7 clips done, 3 failed" in stdout
    assert results(out) == results(undisturbed)
    records = lines(out)
    assert records.keys() == FOLDERS | BROKEN
    assert not records["walk"]["worker"].endswith(f":{victim}")
    assert not has_begun(out)


def test_a_scheduler_that_goes_away_is_reported(command, scheduler, short_clips, tmp_path):
    out = tmp_path / "out"
    running = command(short_clips, "-o", out, "--scheduler", scheduler.address)
    wait_until(lambda: has_begun(out) or running.process.poll() is not None)
    scheduler.stop()
    code, _, stderr = running.end()
    assert code == 1
    assert f"the scheduler {scheduler.address} is gone; run the command again" in stderr
    assert "Traceback" not in stderr


def test_an_address_without_a_scheduler_is_reported():
    patience = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with patience, pytest.raises(RuntimeError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"):
        cluster.connect("tcp://127.0.0.1:1").__enter__()


def test_two_jobs_give_the_results_of_one(command, short_clips, undisturbed, tmp_path):
    code, stdout, stderr = command(short_clips, "-o", tmp_path / "out", "--jobs", "2").end()
    assert code == 1, stderr
    assert "4 of 7 clips done, 3 failed" in stdout
    assert results(tmp_path / "out") == results(undisturbed)
    records = lines(tmp_path / "out")
    assert records.keys() == FOLDERS | BROKEN
    assert "distributed" not in stderr  # dask's own words are for -v


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_while_two_jobs_run_it_leaves_no_process_behind(command, short_clips, undisturbed, tmp_path, number):
    out = tmp_path / "out"
    running = command(short_clips, "-o", out, "--jobs", "2")
    wait_until(lambda: {name for name, _ in being_analyzed(out)} & FOLDERS or running.process.poll() is not None)
    children = family(running.process)
    if number == signal.SIGINT:
        running.signal(number)  # as a terminal does, to all
    else:
        running.process.kill()  # this one alone
    code, _, stderr = running.end()
    assert "Traceback" not in stderr
    if number == signal.SIGINT:
        assert code == 130
        assert "stopped; finished results are kept" in stderr
        assert not has_begun(out)
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert results(out).items() <= results(undisturbed).items()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_clip_that_kills_every_worker_is_tried_four_times(command, short_clips, undisturbed, tmp_path):
    out = tmp_path / "out"
    running = command(short_clips, "-o", out, "--jobs", "2")
    killed = [0]
    for _ in range(1 + cluster.RETRIES):
        killed.append(killed_at("walk", out, running, *killed))
    code, _, stderr = running.end()
    assert code == 1
    assert f"{short_clips / 'monday' / 'walk.mp4'}: 4 workers died while they analyzed it" in stderr
    assert lines(out)["walk"]["status"] == "failed"
    assert results(out) == {name: files for name, files in results(undisturbed).items() if name != "walk"}


def test_every_worker_has_its_share_of_cores_and_a_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    environments = cluster.environments(3, "auto", num_cores=8)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments] == ["3", "5", "3"]
    assert {each["OMP_NUM_THREADS"] for each in environments} == {"2"}
    assert all("CUDA_VISIBLE_DEVICES" not in each for each in cluster.environments(2, "cpu", num_cores=1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "CUDA_VISIBLE_DEVICES" not in cluster.environments(2, "cuda", num_cores=8)[1]


def test_without_dask_two_jobs_name_the_command_that_installs_it(short_clips, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else find_spec(name))
    done = CliRunner().invoke(cli, ["run", str(short_clips), "-o", str(tmp_path / "out"), "--jobs", "2"])
    assert done.exit_code == 2
    assert "pip install -e '.[dist]'" in done.stderr
