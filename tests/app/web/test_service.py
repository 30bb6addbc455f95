"""The job service: what people see while they wait, what they get, and what goes wrong without harm to the next one."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.batch.process_clip import ClipTask, analyze
from app.batch.run_batch import BatchRequest, run_batch
from app.options import FORMATS, Options, ServerOptions
from app.video.reader import probe
from app.web.job import CANCELLED, DONE, FAILED, QUEUED, RUNNING, STAGES, Status
from app.web.service import Service
from tests.bad_media import NAMES
from tests.batches import lines, results, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


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


@pytest.fixture
def busy(service, root, quick):
    """The id of a job at which the worker is for some seconds."""
    job = service.submit(root / "assets" / "walk_wave.mp4", quick)
    wait_until(lambda: service.status(job).stage == "2D" and service.status(job).done > 2)
    yield job
    service.cancel(job)
    ended(service, job)


def ended(service: Service, job: str) -> Status:
    """Return the final status of a job."""
    for status in service.watch(job, 0.01):
        last = status
    assert last.is_final
    return last


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


# What people get.


def test_a_result_equals_that_of_the_command_line(service, walk, batch_options, undisturbed, tmp_path):
    job = service.submit(walk, dataclasses.replace(batch_options, device="cuda:7"))  # jobs do not choose
    status = ended(service, job)
    assert (status.state, status.error) == (DONE, "")
    files = service.files(job)
    assert files.keys() == {"pose.json", "pose.npz", "viewer.html", "overlay.mp4", "walk.zip"}
    for name in ("pose.json", "pose.npz"):
        assert files[name].read_bytes() == results(undisturbed)["walk"][name]
    assert probe(files["overlay.mp4"]).num_frames == 20
    with zipfile.ZipFile(files["walk.zip"]) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"walk/{name}": path.read_bytes() for name, path in files.items() if name != "walk.zip"
        }
    record = lines(undisturbed)["walk"]
    assert status.record["quality"] == record["quality"]
    assert str(tmp_path.parent) not in json.dumps(status.record)
    assert not list(service.file(job, "pose.json").parents[2].glob("*.mp4"))  # the upload is gone


def test_every_format_can_be_had(service, walk, quick):
    job = service.submit(walk, dataclasses.replace(quick, formats=FORMATS))
    assert ended(service, job).state == DONE
    assert {"pose.json", "pose.npz", "pose.csv", "pose.glb", "pose.coco.json", "walk.zip"} <= service.files(job).keys()


# What people see while they wait.


def test_progress_moves_through_the_stages(service, brief_clips, batch_options):
    job = service.submit(brief_clips[3], batch_options)
    seen = list(service.watch(job, 0.01))
    assert [status.state for status in seen][-1] == DONE
    running = [status for status in seen if status.state == RUNNING]
    assert [stage for stage in STAGES if any(status.stage == stage for status in running)] == list(STAGES)
    assert [STAGES.index(status.stage) for status in running] == sorted(STAGES.index(s.stage) for s in running)
    for stage in ("2D", "overlay"):
        counts = [status.done for status in running if status.stage == stage]
        assert counts == sorted(counts)
        assert len(set(counts)) > 2
        assert all(status.total == 80 for status in running if status.stage == stage)
    halfway = next(status for status in running if status.stage == "2D" and status.done > 20)
    assert halfway.rate > 0
    assert halfway.seconds_left >= (80 - halfway.done) / halfway.rate


def test_people_wait_in_order_and_cancelling_moves_them_up(service, busy, walk, quick):
    first, second, third = (service.submit(walk, quick) for _ in range(3))
    assert [service.status(job).position for job in (busy, first, second, third)] == [0, 1, 2, 3]
    service.cancel(second)
    assert service.status(second).state == CANCELLED
    assert [service.status(job).position for job in (first, second, third)] == [1, 0, 2]
    assert service.status(busy).state == RUNNING
    service.cancel(busy)
    order = []
    with ThreadPoolExecutor(2) as people:
        for job in people.map(lambda job: (ended(service, job), order.append(job)) and job, (first, third)):
            assert service.status(job).state == DONE
    assert order == [first, third]


# Stopping.


def test_cancelling_frees_the_worker_which_goes_on_with_the_next_job(service, busy, walk, quick):
    pids = service.worker_pids
    service.cancel(busy)
    assert ended(service, busy).state == CANCELLED
    assert service.files(busy) == {}
    assert ended(service, service.submit(walk, quick)).state == DONE
    assert service.worker_pids == pids  # it stopped by itself: models need not be loaded again


def test_a_worker_that_does_not_listen_is_replaced(service, busy, walk, quick):
    (pid,) = service.worker_pids
    os.kill(pid, signal.SIGSTOP)
    service.cancel(busy)
    assert ended(service, busy).state == CANCELLED
    assert not is_running(pid)
    assert ended(service, service.submit(walk, quick)).state == DONE


def test_a_killed_worker_costs_its_job_only(service, busy, walk, quick):
    waiting = service.submit(walk, quick)
    (pid,) = service.worker_pids
    os.kill(pid, signal.SIGKILL)
    status = ended(service, busy)
    assert status.state == FAILED
    assert status.error.startswith("walk_wave.mp4 was not finished: the process that analyzed it ended (signal 9)")
    assert ended(service, waiting).state == DONE


def test_failures_are_the_sentences_of_the_command_line(service, walk, batch_options, tmp_path):
    options = dataclasses.replace(batch_options, people="7", has_overlay=False)
    assert run_batch(BatchRequest([walk], tmp_path), options) == 1
    status = ended(service, service.submit(walk, options))
    assert status.state == FAILED
    assert status.error == lines(tmp_path)["walk"]["error"].replace(str(walk), "walk.mp4")


def test_memory_that_runs_out_is_said(short_clips, tmp_path, batch_options):
    def hungry(items, stage, total):
        raise MemoryError

    from app.batch.process_clip import models_of

    job = ClipTask(short_clips / "wave.ts", "wave", tmp_path, "token", batch_options, models_of(batch_options))
    assert "wave.ts was not finished: memory ran out; try a shorter clip" in analyze(job, hungry).record["error"]


# Limits and places.


def test_a_full_queue_is_said_and_nothing_is_left_of_those_refused(settings, walk, quick, tmp_path):
    with Service(dataclasses.replace(settings, max_waiting=2, stall_s=3.0), tmp_path) as service:
        jobs = [service.submit(walk, quick)]
        wait_until(lambda: service.status(jobs[0]).state == RUNNING)
        os.kill(service.worker_pids[0], signal.SIGSTOP)
        jobs += [service.submit(walk, quick) for _ in range(2)]
        folders = set(service._rooms.path.iterdir())
        with pytest.raises(RuntimeError, match="the queue is full: 2 clips wait already; try again"):
            service.submit(walk, quick)
        with pytest.raises(RuntimeError, match="the queue is full"):
            service.submit(walk.parents[1] / "text.mp4", quick)
        assert set(service._rooms.path.iterdir()) == folders
        stuck = ended(service, jobs[0])  # and a worker that does not move is given up
        assert "walk.mp4 was given up: nothing moved for 3 s" in stuck.error
        wait_until(lambda: service.status(jobs[1]).state != QUEUED)
        pids = service.worker_pids
    assert not any(map(is_running, pids))
    assert list(tmp_path.iterdir()) == []


def test_refused_uploads_say_why_and_leave_nothing(service, short_clips, quick, tmp_path):
    before = set(service._rooms.path.iterdir())
    (tmp_path / "link.mp4").symlink_to(short_clips / "monday" / "walk.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, said in {
        short_clips / "text.mp4": "text.mp4 is in no container",
        short_clips / "torn.mp4": "cannot read torn.mp4 as a video",
        tmp_path / "link.mp4": "link.mp4 cannot be read",
        tmp_path / "pipe.mp4": "pipe.mp4 is a folder or device",
        tmp_path: "is a folder or device",
        tmp_path / "nowhere.mp4": "nowhere.mp4 cannot be read",
    }.items():
        with pytest.raises(ValueError, match=said) as caught:
            service.submit(path, quick)
        assert str(path) not in str(caught.value)
    for options in (Options(lifter="/etc/passwd"), Options(detector="mediapipe", detector_weights=("/etc/passwd",))):
        with pytest.raises(ValueError, match="unknown weights"):
            service.submit(short_clips / "wave.ts", options)
    assert set(service._rooms.path.iterdir()) == before


def test_no_name_from_outside_leads_out_of_a_job(service, busy, walk, quick):
    names = (
        *NAMES[::3],
        "../../../escaped.mp4",
        "/etc/escaped.mp4",
        "..\\..\\escaped.mp4",
        "..",
        ".",
        "",
        "a/..",
        "\0",
    )
    for name in names:
        job = service.submit(walk, quick, name=name)
        folder = service._rooms.path / job
        (copy,) = folder.iterdir()
        assert copy.resolve().parent == folder.resolve()
        assert copy.read_bytes() == walk.read_bytes()
        assert copy.name.isprintable()
        service.cancel(job)
    assert not list(service._rooms.path.glob("*escaped*")) + list(service._rooms.path.parent.glob("*escaped*"))


def test_files_and_jobs_are_found_by_name_only(service, walk, quick):
    job = service.submit(walk, quick)
    ended(service, job)
    folder = service.file(job, "pose.json").parent
    for room in (service._rooms.path, service._rooms.path / job):
        assert room.stat().st_mode & 0o777 == 0o700
    (folder / "link.json").symlink_to("/etc/passwd")
    for name in (
        "../clip.json", "clip.json", "/etc/passwd", "%2e%2e%2flock", "..%2flock", "pose.json/..", "./pose.json", "",
        "..", "link.json", "pose.json\0", str(folder / "pose.json"), "../../../lock", "POSE.JSON",
    ):  # fmt: skip
        with pytest.raises(KeyError, match="no file"):
            service.file(job, name)
    for other in ("", ".", "..", "lock", f"../{job}", f"{job}/", job.upper(), "%2e", "/", "\0"):
        for call in (service.status, service.files, service.cancel, service.delete):
            with pytest.raises(KeyError, match="no such job"):
                call(other)


def test_results_are_deleted_after_the_stated_time_or_before(settings, service, walk, quick, tmp_path):
    with Service(dataclasses.replace(settings, keep_s=1.0), tmp_path) as short:
        job = short.submit(walk, quick)
        short.cancel(job)
        assert ended(short, job).expires_in_s <= 1.0
        folder = short._rooms.path / job
        wait_until(lambda: not folder.exists())
        with pytest.raises(KeyError, match="results are kept for"):
            short.status(job)
    job = service.submit(walk, quick)
    ended(service, job)
    folder = service.file(job, "pose.json").parents[2]
    assert folder.is_dir()
    service.delete(job)
    assert not folder.exists()


SERVER = """
import sys, time
from pathlib import Path
from app.options import Options, ServerOptions
from app.web.service import Service
service = Service(ServerOptions(weights=(sys.argv[3],)), Path(sys.argv[1]))
job = service.submit(sys.argv[2], Options(detector="mediapipe", lifter=sys.argv[3]))
while service.status(job).state == "queued":
    time.sleep(0.01)
print(*service.worker_pids, flush=True)
time.sleep(600)
"""


def test_a_killed_server_leaves_no_worker_and_the_next_one_tidies_up(root, tiny_weights, settings, tmp_path, quick):
    clip = root / "assets" / "walk_wave.mp4"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path), str(clip), str(tiny_weights)], cwd=root, stdout=subprocess.PIPE
    )
    (pid,) = map(int, server.stdout.readline().split())
    assert is_running(pid)
    server.kill()
    server.communicate()
    wait_until(lambda: not is_running(pid))
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    with Service(settings, tmp_path) as first, Service(settings, tmp_path) as second:  # servers side by side
        assert left[0] not in tmp_path.iterdir()
        assert set(tmp_path.iterdir()) == {first._rooms.path, second._rooms.path}
    assert list(tmp_path.iterdir()) == []
