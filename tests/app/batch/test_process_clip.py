"""One clip in a worker: where its results go, and what makes it fail."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil

import pytest

from app.batch.output_folder import OutFolder
from app.batch.process_clip import ClipTask, analyze, cache_key, models_of, receive
from app.options import Options
from tests.batches import results


@pytest.fixture
def task(short_clips, tmp_path, batch_options) -> ClipTask:
    """A task whose output folder its worker does not see; its clip may be changed."""
    clip = shutil.copy(short_clips / "wave.ts", tmp_path / "wave.ts")
    return ClipTask(clip, "wave", tmp_path / "far away", "token", batch_options, models_of(batch_options))


def test_workers_of_a_batch_that_has_ended_write_nothing(task, tmp_path):
    folder = OutFolder(tmp_path / "out")
    with folder.locked() as lock:
        task = dataclasses.replace(task, out=folder.path, token=lock.token)
    with folder.locked():
        assert analyze(task).files  # to be sent to the batch that wanted them
        assert not list(folder.path.glob("wave*"))


def test_results_can_be_sent_by_a_worker_that_does_not_see_the_folder(task, tmp_path):
    sent = analyze(task)
    assert not task.out.exists()
    (tmp_path / "out").mkdir()
    assert receive(sent, dataclasses.replace(task, out=tmp_path / "out")).record["status"] == "done"
    files = {name: content for name, content in sent.files.items() if name != "overlay.mp4"}
    assert results(tmp_path / "out") == {"wave": files}
    assert files.keys() == {"pose.json", "pose.npz", "viewer.html"}


def test_a_worker_with_other_weights_refuses(task):
    models = {**task.models, "lifter_weights": "0" * 64}
    assert "which has other models" in analyze(dataclasses.replace(task, models=models)).record["error"]


def test_memory_that_runs_out_is_reported(task):
    def hungry(items, stage, total):
        raise MemoryError

    assert "wave.ts was not finished: memory ran out; try a shorter clip" in analyze(task, hungry).record["error"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("wave.ts", "cannot read {0}/wave.ts: Permission denied; check the file"),
        ("weights.tflite", "{0}/wave.ts was not finished: Permission denied; {0}/weights.tflite"),
        (None, "{0}/wave.ts was not finished: Permission denied; its results go to {0}/far away"),
    ],
)
def test_the_file_that_cannot_be_used_is_blamed(task, tmp_path, name, sentence):
    def deny(items, stage, total):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), name and str(tmp_path / name))

    assert analyze(task, deny).record["error"].startswith(sentence.format(tmp_path))


def test_a_clip_that_changes_during_the_analysis_is_reported(task):
    def append(items, stage, total):
        with task.clip.open("ab") as file:
            file.write(bytes(188))
        return items

    outcome = analyze(task, append)
    assert "changed while it was analyzed" in outcome.record["error"]
    assert not outcome.files


def test_another_part_turn_or_speed_makes_other_results():
    chosen = [{}, {"start": "1"}, {"stop": "1"}, {"rotate": 90}, {"slow_motion": 2.0}]
    assert len({cache_key("0" * 64, Options(**settings), {}) for settings in chosen}) == len(chosen)
