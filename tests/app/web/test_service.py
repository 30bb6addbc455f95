"""The job service with a worker process: progress, results, and failures that cost no other job."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.batch.run_batch import BatchRequest, run_batch
from app.options import FORMATS, Options, ServerOptions
from app.video.reader import probe
from app.web.job import CANCELLED, DONE, FAILED, RUNNING, STAGES, Status
from app.web.job_folders import JobFolders, open_upload, store_upload
from app.web.service import Service
from tests.bad_media import NAMES
from tests.batches import lines, wait_until

pytestmark = [pytest.mark.process, pytest.mark.skipif(sys.platform == "win32", reason="sends signals")]


@pytest.fixture(scope="module")
def settings(tiny_weights) -> ServerOptions:
    return ServerOptions(num_workers=1, weights=(str(tiny_weights),), cancel_s=2.0)


@pytest.fixture(scope="module")
def service(settings, tmp_path_factory):
    with Service(settings, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def quick(batch_options) -> Options:
    return dataclasses.replace(batch_options, has_overlay=False, formats=("json",))


@pytest.fixture
def walk(short_clips) -> Path:
    return short_clips / "monday" / "walk.mp4"


def start(service: Service, root: Path, options: Options) -> str:
    """Return the id of a job that the worker analyzes for some seconds."""
    job = service.submit(root / "assets" / "walk_wave.mp4", options)
    wait_until(lambda: service.queue.status(job).stage == "2D" and service.queue.status(job).done > 2)
    return job


@pytest.fixture
def busy(service, root, quick):
    job = start(service, root, quick)
    yield job
    service.queue.cancel(job)
    final(service, job)


def final(service: Service, job: str) -> Status:
    """Return the final status of a job."""
    *_, last = service.queue.watch(job, 0.01)
    return last


def folders(service: Service) -> set[Path]:
    """Return the folders of all jobs."""
    return set(service.folder.iterdir())


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_progress_passes_all_stages_and_results_equal_those_of_a_batch(service, walk, batch_options, tmp_path):
    clip, options = walk, dataclasses.replace(batch_options, formats=FORMATS)
    job = service.submit(clip, dataclasses.replace(options, device="cuda:7"))  # jobs do not choose
    seen = list(service.queue.watch(job, 0.01))
    assert (seen[-1].state, seen[-1].error) == (DONE, "")
    running = [status for status in seen if status.state == RUNNING]
    assert list(dict.fromkeys(status.stage for status in running)) == list(STAGES)
    for stage in ("2D", "overlay"):
        counts = [status.done for status in running if status.stage == stage]
        assert counts == sorted(counts)
        assert counts[0] == 0
        assert counts[-1] == 20 or stage == "2D"  # the next stage comes at once after the last frame
        assert all(status.total == 20 for status in running if status.stage == stage)

    assert run_batch(BatchRequest([clip], tmp_path), options) == 0
    files = service.queue.files(job)
    expected = {path.name: path for path in (tmp_path / "walk").iterdir() if path.name != "clip.json"}
    assert files.keys() == {*expected, "walk.zip"}
    for name in expected.keys() - {"overlay.mp4"}:
        assert files[name].read_bytes() == expected[name].read_bytes(), name
    assert probe(files["overlay.mp4"]).num_frames == 20
    with zipfile.ZipFile(files["walk.zip"]) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"walk/{name}": path.read_bytes() for name, path in files.items() if name != "walk.zip"
        }
    assert seen[-1].record["quality"] == lines(tmp_path)["walk"]["quality"]
    assert str(service.folder) not in json.dumps(seen[-1].record)

    where = str(Path(options.lifter).parent).encode()  # weights that are given as a path: files tell no folders
    assert not [name for name, path in files.items() if where in path.read_bytes()]

    folder = service.folder / job
    assert not (folder / "upload").exists()
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}


def test_cancelling_frees_the_worker_and_failures_are_the_sentences_of_a_batch(service, busy, walk, quick, tmp_path):
    pids, options = service.worker_pids, dataclasses.replace(quick, people="7")
    waiting = service.submit(walk, options)
    service.queue.cancel(busy)
    assert final(service, busy).state == CANCELLED
    assert service.queue.files(busy) == {}
    assert not (service.folder / busy).exists()
    status = final(service, waiting)
    assert service.worker_pids == pids  # it stopped by itself: models need not be loaded again
    assert run_batch(BatchRequest([walk], tmp_path), options) == 1
    error = lines(tmp_path)["walk"]["error"].replace(str(walk), "walk.mp4")
    assert (status.state, status.error) == (FAILED, error)


def test_what_is_deleted_is_gone_when_the_call_returns(service, root, walk, quick):
    busy = start(service, root, quick)
    waiting, done = service.submit(walk, quick), service.submit(walk, quick)
    service.delete(waiting)
    service.delete(busy)
    for job in (busy, waiting):
        assert not (service.folder / job).exists()
        with pytest.raises(KeyError, match="no such job"):
            service.queue.status(job)
    assert final(service, done).state == DONE
    service.delete(done)
    assert not (service.folder / done).exists()


def test_a_killed_worker_costs_its_job_only(service, busy, walk, quick):
    waiting = service.submit(walk, quick)
    (pid,) = service.worker_pids
    os.kill(pid, signal.SIGKILL)
    status = final(service, busy)
    assert status.state == FAILED
    assert status.error.startswith("walk_wave.mp4 was not finished: the process that analyzed it ended (signal 9)")
    assert final(service, waiting).state == DONE


@pytest.mark.slow
def test_a_worker_that_does_not_respond_is_replaced(settings, root, walk, quick, tmp_path):
    with Service(dataclasses.replace(settings, stall_s=30.0), tmp_path) as service:
        for end in (CANCELLED, FAILED):
            job = service.submit(root / "assets" / "walk_wave.mp4", quick)
            wait_until(lambda: service.queue.status(job).done > 2)  # noqa: B023 - called at once
            (pid,) = service.worker_pids
            os.kill(pid, signal.SIGSTOP)
            if end == CANCELLED:
                service.queue.cancel(job)
            status = final(service, job)
            assert status.state == end
            assert not is_running(pid)
        assert "walk_wave.mp4 was given up: nothing moved for 30 s" in status.error
        assert final(service, service.submit(walk, quick)).state == DONE
        pids = service.worker_pids
    assert not any(map(is_running, pids))
    assert list(tmp_path.iterdir()) == []


def test_refused_uploads_leave_nothing(service, short_clips, quick, tmp_path):
    before = folders(service)
    (tmp_path / "link.mp4").symlink_to(short_clips / "monday" / "walk.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with (tmp_path / "large.mp4").open("wb") as large:
        large.truncate(600_000_000)  # sparse
    for path, error in {
        short_clips / "text.mp4": "text.mp4 is in no container",
        short_clips / "torn.mp4": "cannot read torn.mp4 as a video",
        tmp_path / "link.mp4": "link.mp4 cannot be read",
        tmp_path / "pipe.mp4": "pipe.mp4 is a folder or device",
        tmp_path / "large.mp4": "large.mp4 has 600 MB, expected at most 500 MB",
        tmp_path: "is a folder or device",
        tmp_path / "nowhere.mp4": "nowhere.mp4 cannot be read",
        Path("/dev/zero"): "zero is a folder or device",
    }.items():
        with pytest.raises(ValueError, match=error) as caught:
            service.submit(path, quick)
        assert f"{path.parent}/" not in str(caught.value)
    for options in (Options(lifter="/etc/passwd"), Options(detector="mediapipe", detector_weights=("/etc/passwd",))):
        with pytest.raises(ValueError, match="unknown weights"):
            service.submit(short_clips / "wave.ts", options)
    assert folders(service) == before


@pytest.mark.parametrize("name", [*NAMES, "..\\..\\escaped.mp4", ".posemamba", "..mp4", "batch.jsonl"], ids=repr)
def test_no_name_from_outside_leads_out_of_a_job(tmp_path, name):
    (tmp_path / "job").mkdir()
    (tmp_path / name).write_text("a video")
    with open_upload(tmp_path / name) as source:
        copy = store_upload(source, name, tmp_path / "job", 1 << 30)
    assert list((tmp_path / "job").rglob("*")) == [tmp_path / "job" / "upload", copy]
    assert set(tmp_path.iterdir()) == {tmp_path / "job", tmp_path / name}
    assert copy.read_text() == "a video"
    assert copy.name.isprintable()


SERVER = """
import sys, time
from pathlib import Path
from app.web.service import Service
service = Service(root=Path(sys.argv[1]))
while not service.worker_pids:
    time.sleep(0.01)
print(*service.worker_pids, flush=True)
time.sleep(600)
"""


def test_a_killed_server_leaves_no_worker_and_the_next_one_deletes_its_folder(root, tmp_path):
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE)
    (pid,) = map(int, server.stdout.readline().split())
    assert is_running(pid)
    server.kill()
    server.communicate()
    wait_until(lambda: not is_running(pid))
    (left,) = tmp_path.iterdir()
    first, second = JobFolders(tmp_path), JobFolders(tmp_path)  # servers side by side
    assert set(tmp_path.iterdir()) == {first.path, second.path}
    assert left not in (first.path, second.path)
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []
