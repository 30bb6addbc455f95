"""The folder of results: complete after any kill, for one batch at a time."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from app.batch import file_lock
from app.batch.output_folder import OutFolder, temporary_folder

REPLACE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from app.batch.output_folder import OutFolder, publish, temporary_folder
out = Path(sys.argv[1])
with OutFolder(out).locked():
    for number in itertools.count():
        with temporary_folder(out, "clip") as folder:
            for name in ("pose.json", "pose.npz"):
                (folder / name).write_text(f"{number} " * 1000)
            publish(folder, {"number": number}, out)
        print(number, flush=True)
"""


@pytest.mark.process
@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_results_killed_while_they_are_replaced_are_the_old_or_the_new_ones(root, tmp_path, kills):
    rng, folder = random.Random(0), OutFolder(tmp_path)
    for kill in range(kills):
        running = subprocess.Popen(
            [sys.executable, "-c", REPLACE_FOR_EVER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE
        )
        running.stdout.readline()
        time.sleep(rng.uniform(0, 0.03))
        running.kill()
        running.communicate()
        if (tmp_path / "clip").exists():  # not between the two names
            assert folder.record("clip")
        with folder.locked():
            number = folder.record("clip")["number"]
        for name in ("pose.json", "pose.npz"):
            assert (tmp_path / "clip" / name).read_text() == f"{number} " * 1000
        if kill == 0:
            (tmp_path / "clip" / "notes.txt").touch()
        assert (tmp_path / "clip" / "notes.txt").exists()
        assert not [*tmp_path.glob(".posemamba/parts/*"), *tmp_path.glob(".posemamba/old/*")]


def test_a_batch_can_start_while_workers_of_a_killed_one_still_end(tmp_path):
    folder, ended = OutFolder(tmp_path), threading.Event()

    def start_and_end() -> None:
        while not ended.is_set():
            with suppress(OSError), temporary_folder(tmp_path, "wave"):  # the batch that starts deletes it
                pass

    with ThreadPoolExecutor(4) as workers:
        for _ in range(4):
            workers.submit(start_and_end)
        try:
            for _ in range(50):
                with folder.locked():
                    pass
        finally:
            ended.set()


def test_two_batches_do_not_write_to_one_folder(tmp_path):
    folder = OutFolder(tmp_path)
    with folder.locked():
        pass
    error = f"another batch is writing to .*process {os.getpid()} on .*wait for it"
    with (
        file_lock.locked(tmp_path / ".posemamba" / "lock"),
        pytest.raises(RuntimeError, match=error),
        folder.locked(),
    ):
        pass
    with folder.locked():
        pass


def test_without_locks_in_the_file_system_a_batch_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(file_lock, "_lock", refuse)  # no file system of this machine does that
    with OutFolder(tmp_path).locked() as lock:
        assert file_lock.read_token(tmp_path / ".posemamba" / "lock") == lock.token
    assert "file system without locks: let only one process write there" in caplog.text
    with pytest.raises(OSError, match="not supported"), file_lock.locked(tmp_path / "needed"):
        pass


@contextmanager
def file_size_limit(limit: int):
    """No file may become larger."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_output_that_cannot_be_written_is_reported_at_once(tmp_path):
    advice = "free some space or choose another folder"
    with (
        file_size_limit(1000),
        pytest.raises(RuntimeError, match=rf"nothing can be written to {tmp_path} \(File too large\); {advice}"),
        OutFolder(tmp_path).locked(),
    ):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(RuntimeError, match=rf"nothing can be written to {tmp_path}/file \(Not a directory\)"),
        OutFolder(tmp_path / "file").locked(),
    ):
        pass
