"""The queue of jobs, without any worker: admission, order, progress, cancelling and expiry."""

from __future__ import annotations

import itertools
import threading
import time

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


def test_watching_ends_with_the_job(jobs, add):
    add("b")
    seen = []
    watcher = threading.Thread(target=lambda: seen.extend(jobs.watch("b", 0.0)))
    watcher.start()
    job = jobs.next_job()
    jobs.update_progress(job, "2D", 10, 90)
    assert (jobs.status("b").done, jobs.status("b").total) == (10, 100)  # counted, not what the container says
    jobs.finish(job, FAILED, "a reason")
    watcher.join(timeout=10)
    assert (seen[-1].state, seen[-1].error) == (FAILED, "a reason")
    assert list(jobs.watch("b")) == [jobs.status("b")]
    assert all(before != after for before, after in itertools.pairwise(seen))


@pytest.fixture
def clock(monkeypatch):
    """A function that lets seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


TIMES = {"models": 1.0, "2D": 20.0, "tracks": 1.0, "3D": 8.0, "export": 2.0, "overlay": 6.0, "files": 0.5}


def work(jobs: JobQueue, clock, pace: float) -> list[tuple[float, float, float]]:
    """Do a job at a pace; return (true share of the time, progress, error of the time left in seconds) of moments."""
    job, spent, total, seen = jobs.next_job(), 0.0, pace * sum(TIMES.values()), []
    for stage, seconds in TIMES.items():
        for step in range(11):
            items = {"2D": (10 * step, 100), "overlay": (10 * step, 100), "3D": (step // 5, 2)}.get(stage, (0, None))
            jobs.update_progress(job, stage, *items)
            status = jobs.status(job.id)
            seen.append((spent / total, status.progress, status.seconds_left - (total - spent)))
            if step < 10:
                clock(pace * seconds / 10)
                spent += pace * seconds / 10
    jobs.finish(job, DONE, "")
    return seen


def test_one_bar_goes_over_the_whole_job_and_the_time_left_is_honest_from_the_first_job_on(jobs, add, clock):
    add("a")
    first = work(jobs, clock, pace=1.0)  # six times slower than USUAL_S_PER_FRAME says
    add("b")
    second = work(jobs, clock, pace=1.0)  # by now it is known
    for seen in (first, second):
        progress = [share for _, share, _ in seen]
        assert progress == sorted(progress)
        assert progress[0] < 0.05
        assert progress[-1] > 0.98
    assert all(abs(share - true) < 0.25 for true, share, _ in first)
    assert all(abs(share - true) < 0.06 for true, share, _ in second)
    assert all(abs(error) < 8 for true, _, error in first if true > 0.45)  # of 38.5 s, where 7 s are usual
    assert all(abs(error) < 5 for _, _, error in second)
    for stage in ("tracks", "export"):  # nothing is counted there, but the bar moves
        start = list(TIMES).index(stage) * 11
        assert second[start + 9][1] > second[start][1]


def test_ended_jobs_expire(jobs, add):
    for name in "ab":
        add(name)
    jobs.cancel("b")
    assert jobs.remove_expired(0.0) == []
    assert 59 < jobs.status("b").expires_in_s <= 60
    jobs._jobs["b"].ended_at -= 61.0  # a minute later
    assert [job.id for job in jobs.remove_expired(0.0)] == ["b"]
    with pytest.raises(KeyError, match="it was deleted, as results are after 1 minutes"):
        jobs.status("b")
    assert jobs.status("a").state == QUEUED


@pytest.mark.parametrize("other", ["", ".", "..", "lock", "../a", "a/", "A", "%2e", "/", "\0"])
def test_jobs_are_found_by_their_id_only(jobs, add, other):
    add("a")
    for call in (jobs.status, jobs.files, jobs.cancel, jobs.family):
        with pytest.raises(KeyError, match="no such job"):
            call(other)


def test_who_deletes_a_choice_deletes_the_video_but_no_example_and_nothing_of_others(jobs, add):
    sources = [add("a"), add("b")]
    sources[1].is_example = True
    for name in ("a1", "a2", "b1"):
        jobs.next_job()
        add(name).source = sources[name[0] == "b"]
    assert {job.id for job in jobs.family("a1")} == {job.id for job in jobs.family("a")} == {"a", "a1", "a2"}
    assert [job.id for job in jobs.family("b1")] == ["b1"]
