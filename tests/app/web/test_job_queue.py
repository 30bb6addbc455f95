"""The queue of jobs, without any worker: admission, order, progress, cancelling and expiry."""

from __future__ import annotations

import itertools
import threading

import pytest

from app.options import Options
from app.web.job import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Job
from app.web.job_queue import JobQueue


@pytest.fixture
def jobs(tmp_path) -> JobQueue:
    return JobQueue(max_waiting=3, keep_s=60.0)


@pytest.fixture
def add(jobs, tmp_path):
    """A function that adds a job of 100 frames."""

    def add(name: str, options: Options = Options()) -> Job:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "clip.mp4").touch()
        return jobs.add(lambda: Job(name, f"{name}.mp4", folder, folder / "clip.mp4", options, num_frames=100))

    return add


def positions(jobs: JobQueue, *ids: str) -> list[int]:
    return [jobs.status(job_id).position for job_id in ids]


def test_jobs_run_in_order_and_cancelling_moves_the_others_up(jobs, add):
    for name in "abc":
        add(name)
    assert positions(jobs, *"abc") == [1, 2, 3]
    jobs.cancel("b")
    assert jobs.status("b").state == CANCELLED
    assert positions(jobs, *"abc") == [1, 0, 2]
    first = jobs.next_job()
    assert (first.id, jobs.status("a").state, positions(jobs, *"ac")) == ("a", RUNNING, [0, 1])
    jobs.cancel("a")  # its worker is asked to stop
    assert first.is_cancel_requested
    assert jobs.status("a").state == RUNNING
    assert jobs.next_job().id == "c"


def test_a_full_or_closed_queue_refuses_and_keeps_nothing(jobs, add, tmp_path):
    for name in "abc":
        add(name)
    with pytest.raises(RuntimeError, match="the queue is full: 3 clips wait already; try again"):
        jobs.add(lambda: pytest.fail("a refused job must not be prepared"))
    jobs.next_job()

    def fail() -> Job:
        with pytest.raises(RuntimeError, match="the queue is full"):  # the place of this one is reserved
            add("e")
        raise ValueError("no video")

    with pytest.raises(ValueError, match="no video"):
        jobs.add(fail)
    add("f")

    jobs.next_job()
    folder = tmp_path / "late"
    folder.mkdir()

    def close_during_upload() -> Job:
        jobs.close()
        return Job("late", "late.mp4", folder, folder / "clip.mp4", Options(), num_frames=1)

    with pytest.raises(RuntimeError, match="the server is stopping"):
        jobs.add(close_during_upload)
    assert not folder.exists()
    assert [jobs.status(name).state for name in "acf"] == [RUNNING, CANCELLED, CANCELLED]
    assert jobs.next_job() is None
    with pytest.raises(RuntimeError, match="the server is stopping"):
        add("g")


def test_watching_ends_with_the_job_and_time_left_comes_from_earlier_jobs(jobs, add):
    add("a", Options(has_overlay=False))
    job = jobs.next_job()
    jobs.update_progress(job, "2D", 10, 90)
    assert (jobs.status("a").done, jobs.status("a").total) == (10, 100)  # counted, not what the container says
    assert jobs.status("a").rate > 0
    job.record = {"frames": 100, "stage_seconds": {"2D": 1.0, "3D": 2.0, "overlay": 100.0}}
    jobs.finish(job, DONE, "")

    add("b", Options(has_overlay=False))
    seen = []
    watcher = threading.Thread(target=lambda: seen.extend(jobs.watch("b", 0.0)))
    watcher.start()
    job = jobs.next_job()
    jobs.update_progress(job, "2D", 0, None)
    assert jobs.status("b").seconds_left == pytest.approx(3.0)
    jobs.update_progress(job, "3D", 0, None)
    assert jobs.status("b").seconds_left == pytest.approx(2.0)
    jobs.update_progress(job, "files", 0, None)
    assert jobs.status("b").seconds_left == 0
    jobs.finish(job, FAILED, "a reason")
    watcher.join(timeout=10)
    assert (seen[-1].state, seen[-1].error) == (FAILED, "a reason")
    assert list(jobs.watch("b")) == [jobs.status("b")]
    assert all(before != after for before, after in itertools.pairwise(seen))


def test_ended_jobs_expire(jobs, add):
    for name in "ab":
        add(name)
    jobs.cancel("b")
    assert jobs.remove_expired(0.0) == []
    jobs._jobs["b"].ended_at -= 61.0  # a minute later
    assert [job.id for job in jobs.remove_expired(0.0)] == ["b"]
    with pytest.raises(KeyError, match="results are kept for 1 minutes"):
        jobs.status("b")
    assert jobs.status("a").state == QUEUED


@pytest.mark.parametrize("other", ["", ".", "..", "lock", "../a", "a/", "A", "%2e", "/", "\0"])
def test_jobs_are_found_by_their_id_only(jobs, add, other):
    add("a")
    for call in (jobs.status, jobs.files, jobs.cancel):
        with pytest.raises(KeyError, match="no such job"):
            call(other)
