"""Batches: results appear whole or not at all, whatever happens meanwhile; a second run does what is left."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import pipeline
from app.batch import file_lock
from app.batch.find_videos import VIDEO_SUFFIXES, discover
from app.batch.output_folder import OutFolder, part_of
from app.batch.process_clip import ClipTask, analyze, models_of, receive
from app.batch.run_batch import BatchRequest, run_batch, say_plan
from app.video.reader import probe
from lifter.training.train import save_weights
from tests.batches import BROKEN, FOLDERS, has_begun, lines, results, rows, wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def clips(short_clips, tmp_path) -> Path:
    """A copy of the short clips that may be changed."""
    return shutil.copytree(short_clips, tmp_path / "clips")


@pytest.fixture
def out(undisturbed, tmp_path) -> Path:
    """A copy of the results of the short clips that may be changed."""
    return shutil.copytree(undisturbed, tmp_path / "out")


def batch(clips: Path | list[Path], out: Path, options) -> int:
    """Analyze what is in folders or files; return how many clips failed."""
    return run_batch(BatchRequest(discover(clips if isinstance(clips, list) else [clips], out).clips, out), options)


def times(out: Path) -> dict[Path, int]:
    """Return when results were written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("*/*") if not path.parent.name.startswith(".")}


# What a batch leaves behind.


def test_every_clip_is_accounted_for(undisturbed):
    whole = results(undisturbed)
    assert whole.keys() == FOLDERS
    assert all(files.keys() == {"pose.json", "pose.npz", "viewer.html"} for files in whole.values())
    assert all(probe(undisturbed / name / "overlay.mp4").num_frames == 20 for name in whole)
    records = lines(undisturbed)
    assert {name for name, record in records.items() if record["status"] == "done"} == FOLDERS
    assert {name for name, record in records.items() if record["status"] == "failed"} == BROKEN
    assert all("cannot read" in records[name]["error"] for name in BROKEN)
    walk = records["walk"]
    pose = json.loads(whole["walk"]["pose.json"])
    assert (walk["frames"], walk["people"], walk["quality"]) == (20, len(pose["people"]), pose["quality"])
    assert walk["video_sha256"] == pose["video"]["sha256"]
    assert sum(walk["stage_seconds"].values()) <= walk["seconds"]
    table = rows(undisturbed)
    assert table.keys() == records.keys()
    assert table["walk"]["status"] == "done"
    assert float(table["walk"]["height_px"]) == walk["quality"][0]["height_px"]
    assert all(warning in table["walk"]["warnings"] for warning in walk["quality"][0]["warnings"])
    assert table["torn"]["error"] == records["torn"]["error"]
    assert table["Größe 'a\" b_c"]["clip"].endswith("Größe 'a\" b\nc.avi")


def test_nothing_temporary_is_left(undisturbed):
    assert sorted(path.name for path in undisturbed.glob(".posemamba/**/*") if path.is_file()) == ["lock", "names.json"]


def test_results_do_not_depend_on_the_number_of_threads(short_clips, batch_options, undisturbed, tmp_path, threads):
    for number in (1, 3):
        threads(number)
        assert batch([short_clips / "wave.ts"], tmp_path / str(number), batch_options) == 0
        for file in ("pose.json", "pose.npz"):
            assert (tmp_path / str(number) / "wave" / file).read_bytes() == (undisturbed / "wave" / file).read_bytes()


def test_models_are_loaded_once_for_all_clips(short_clips, tmp_path, batch_options):
    for ready in (pipeline.cached_detector, pipeline.cached_lifter):
        ready.cache_clear()
    clips = [short_clips / "wave.ts", short_clips / "monday" / "walk.mp4"]
    assert batch(clips, tmp_path, dataclasses.replace(batch_options, has_overlay=False)) == 0
    assert pipeline.cached_detector.cache_info().misses == pipeline.cached_lifter.cache_info().misses == 1


# A second run.


def test_what_is_done_is_left_alone(short_clips, out, batch_options, capsys):
    before = times(out)
    assert batch(short_clips, out, batch_options) == 3  # broken ones are tried again
    assert times(out) == before
    assert lines(out).keys() == FOLDERS | BROKEN
    said = capsys.readouterr().out
    assert "4 of 7 clips are done, same video, options and weights" in said
    assert "4 of 7 clips done (4 of them earlier), 3 failed" in said


def test_videos_that_were_moved_or_touched_are_not_analyzed_again(clips, tmp_path, batch_options):
    shutil.rmtree(clips / "tuesday")
    (clips / "sunday").mkdir()
    shutil.copy(clips / "wave.ts", clips / "sunday" / "walk.ts")
    assert batch([clips / "monday", clips / "sunday"], tmp_path / "out", batch_options) == 0
    before = times(tmp_path / "out")
    clips = clips.rename(tmp_path / "elsewhere")
    for clip in clips.glob("*/*"):
        clip.touch()
    assert batch([clips / "monday", clips / "sunday"], tmp_path / "out", batch_options) == 0
    assert times(tmp_path / "out") == before
    assert {record["clip"] for record in lines(tmp_path / "out").values()} == set(map(str, clips.glob("*day/*")))


def test_what_matters_makes_a_clip_be_analyzed_again(
    clips, undisturbed, tmp_path, batch_options, tiny_model, tiny_weights
):
    clip, out = clips / "wave.ts", tmp_path / "out"

    def pose_of(clip: Path, options) -> dict:
        assert batch([clip], out, options) == 0
        return json.loads((out / "wave" / "pose.json").read_text())

    first = pose_of(clip, batch_options)
    wider = dataclasses.replace(batch_options, fov_degrees=70.0)
    assert pose_of(clip, wider)["provenance"]["options"]["fov_degrees"] == 70.0
    same = tmp_path / "same.safetensors"
    shutil.copy(tiny_weights, same)
    before = times(out)
    pose_of(clip, dataclasses.replace(wider, lifter=str(same), device="cpu"))
    assert times(out) == before  # weights are known by their hash; the device does not change the numbers
    other = tmp_path / "other.safetensors"
    save_weights(
        {k: 1.01 * v for k, v in tiny_model.state_dict().items()}, {"normalization": "person", "unit": "m"}, other
    )
    weights = pose_of(clip, dataclasses.replace(batch_options, lifter=str(other)))["provenance"]["lifter"]["weights"]
    assert weights["sha256"] != first["provenance"]["lifter"]["weights"]["sha256"]
    shutil.copy(clips / "monday" / "walk.mp4", clip)
    assert pose_of(clip, batch_options)["video"]["sha256"] != first["video"]["sha256"]
    (out / "wave" / "pose.npz").unlink()
    pose_of(clip, batch_options)
    assert (out / "wave" / "pose.npz").exists()


def test_files_that_others_put_beside_results_stay(short_clips, out, batch_options):
    (out / "wave" / "notes.txt").write_text("good take")
    no_overlay = dataclasses.replace(batch_options, has_overlay=False)
    assert batch([short_clips / "wave.ts"], out, no_overlay) == 0
    names = {path.name for path in (out / "wave").iterdir()}
    assert names == {"clip.json", "pose.json", "pose.npz", "viewer.html", "notes.txt"}


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(short_clips, out, batch_options, capsys):
    shutil.rmtree(out / "walk")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    found = discover([short_clips], out)
    assert say_plan(BatchRequest(found.clips, out), batch_options) == 0
    said = capsys.readouterr().out
    assert "4 of 7 clips would be analyzed, 3 are done" in said
    assert f"monday/walk.mp4 -> {out / 'walk'}: no results" in said
    say_plan(BatchRequest(found.clips, out / "new"), batch_options)
    say_plan(BatchRequest(found.clips, out), dataclasses.replace(batch_options, quality="fast"))
    assert "other options or weights" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_clip_that_was_at_work_when_a_batch_died_comes_last(short_clips, tmp_path, batch_options, capsys):
    (tmp_path / "out" / ".posemamba" / "parts" / "4711-0" / "text").mkdir(parents=True)
    batch([short_clips / "text.mp4", short_clips / "torn.mp4"], tmp_path / "out", batch_options)
    assert list(lines(tmp_path / "out")) == ["torn", "text"]


@pytest.mark.parametrize("torn", ['{"clip": "/x", "folder": "x", "sta', "\0\0\0", '{"clip": "/x"}\n[1]\n'])
def test_torn_lines_are_removed(short_clips, out, batch_options, torn):
    with (out / "batch.jsonl").open("a") as file:
        file.write(torn)
    batch([short_clips / "text.mp4"], out, batch_options)
    assert lines(out).keys() == FOLDERS | BROKEN


def test_a_lost_line_comes_back(short_clips, out, batch_options):
    (out / "batch.jsonl").unlink()
    (out / "summary.csv").unlink()
    batch(short_clips, out, batch_options)
    assert lines(out).keys() == rows(out).keys() == FOLDERS | BROKEN


def test_results_half_replaced_are_whole_after_the_next_run(short_clips, out, undisturbed, batch_options):
    old = out / ".posemamba" / "old"
    (old / "1").mkdir(parents=True)
    (old / "2").mkdir()
    (out / "walk").rename(old / "1" / "walk")  # killed before the new ones had the name
    shutil.copytree(out / "wave", old / "2" / "wave")  # killed after
    (old / "2" / "wave" / "notes.txt").write_text("good take")
    batch([short_clips / "text.mp4"], out, batch_options)
    assert (out / "wave" / "notes.txt").read_text() == "good take"
    (out / "wave" / "notes.txt").unlink()
    assert results(out) == results(undisturbed)
    assert not list(old.iterdir())


REPLACE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from app.batch.output_folder import OutFolder, part_of, publish
out = Path(sys.argv[1])
with OutFolder(out).locked():
    for number in itertools.count():
        with part_of(out, "clip") as folder:
            for name in ("pose.json", "pose.npz"):
                (folder / name).write_text(f"{number} " * 1000)
            publish(folder, {"number": number}, out)
        print(number, flush=True)
"""


def test_results_killed_while_they_are_replaced_are_the_old_or_the_new_ones(root, tmp_path):
    rng, folder = random.Random(0), OutFolder(tmp_path)
    for kill in range(12):
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


def test_a_batch_can_begin_while_workers_of_one_that_died_still_end(tmp_path):
    folder, ended = OutFolder(tmp_path), threading.Event()

    def begin_and_end() -> None:
        while not ended.is_set():
            with suppress(OSError), part_of(tmp_path, "wave"):  # the batch that begins tidies it away
                pass

    with ThreadPoolExecutor(4) as workers:
        for _ in range(4):
            workers.submit(begin_and_end)
        try:
            for _ in range(200):
                with folder.locked():
                    pass
        finally:
            ended.set()


def test_what_a_kill_leaves_is_tidied_up(short_clips, out, batch_options):
    before = set(out.rglob("*"))
    (out / ".summary.csv.0123.part").touch()
    (out / ".posemamba" / ".names.json.0123.part").touch()
    (out / ".posemamba" / "probe-0123").touch()
    (out / ".posemamba" / "parts" / "4711-0" / "wave").mkdir(parents=True)
    batch([short_clips / "text.mp4"], out, batch_options)
    assert {path for path in out.rglob("*") if path.name not in ("parts", "old")} <= before


# Names.


def test_names_stay_when_clips_come_and_go(tmp_path):
    folder = OutFolder(tmp_path / "out")
    (tmp_path / "out" / ".posemamba").mkdir(parents=True)

    def names(*clips: str) -> list[str]:
        known = folder.names()
        for clip in clips:
            known.setdefault(clip, folder.new_name(Path(clip), known))
        folder.save_names(known)
        return [known[clip] for clip in clips]

    assert names("/b/walk.mp4", "/b/walk.mov") == ["walk", "walk-2"]
    assert names("/a/Walk.mp4", "/b/walk.mov", "/b/walk.mp4", "/c/walk-2.avi") == [
        "Walk-3",
        "walk-2",
        "walk",
        "walk-2-2",
    ]
    (folder.path / "run").write_text("a file of somebody")
    (folder.path / "jump" / "raw").mkdir(parents=True)
    (folder.path / "sit").mkdir()
    more = names("/a/batch.jsonl.mp4", "/a/run.mp4", "/a/jump.mp4", "/a/sit.mp4")
    assert more == ["batch.jsonl-2", "run-2", "jump-2", "sit"]


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_names_are_safe_and_differ(stems):
    names: dict[str, str] = {}
    for number, stem in enumerate([*stems, "..", ".posemamba", "clip\udcff", "é", "e\u0301", "x" * 250]):
        names[str(number)] = OutFolder(Path("nowhere")).new_name(Path(f"/{number}") / f"{stem}.mp4", names)
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert Path(name).name == name
        assert name.isprintable()
        assert not name.startswith(".")
        assert len(name.encode()) < 255


# What is found.


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_searched_in_order_and_other_files_left_alone(tmp_path):
    touch(tmp_path, "b.MP4", "a.mov", "notes.txt", "sub/c.webm", "out/b/overlay.mp4", "._a.mov", ".cache/d.mp4")
    found = discover([tmp_path], tmp_path / "out")
    assert [path.name for path in found.clips] == ["a.mov", "b.MP4", "c.webm"]
    assert not found.problems
    for out in (tmp_path / "out", tmp_path):
        found = discover([tmp_path / "out"], out)
        assert not found.clips
        assert "is where results go" in found.problems[0]


def test_a_pattern_chooses_by_name_or_by_path(tmp_path):
    touch(tmp_path, "day1/cam1/a.dat", "day1/cam2/a.mp4", "day2/cam1/b.MP4", "day2/cam1/c.txt")
    for pattern, names in {
        "*.mp4": ["a.mp4", "b.MP4"],
        "day1/*": ["a.dat", "a.mp4"],
        "*/cam1/[ab].*": ["a.dat", "b.MP4"],
    }.items():
        assert [path.name for path in discover([tmp_path], tmp_path / "out", pattern).clips] == names


def test_inputs_are_taken_once_and_empty_folders_said(tmp_path):
    touch(tmp_path, "a.mp4", "empty/notes.txt")
    found = discover(
        [tmp_path / "a.mp4", tmp_path, tmp_path / "empty" / ".." / "a.mp4", tmp_path / "empty"], tmp_path / "out"
    )
    assert found.clips == [tmp_path / "a.mp4"]
    assert len(found.problems) == 1
    assert f"no video in {tmp_path / 'empty'}" in found.problems[0]


def test_suffixes_of_clips_of_these_tests_are_known(short_clips):
    assert {path.suffix.lower() for path in short_clips.rglob("*.*")} <= VIDEO_SUFFIXES


# Trouble.


def test_a_fault_of_ours_in_one_clip_does_not_cost_the_next(short_clips, tmp_path, batch_options, monkeypatch, caplog):
    real = pipeline.estimate

    def estimate(path, *rest):
        if path.name == "wave.ts":
            raise ZeroDivisionError("a bug")
        return real(path, *rest)

    monkeypatch.setattr(pipeline, "estimate", estimate)  # no input is known that meets a bug; if one is, use it here
    clips = [short_clips / "wave.ts", short_clips / "monday" / "walk.mp4"]
    assert batch(clips, tmp_path / "out", batch_options) == 1
    assert lines(tmp_path / "out")["wave"]["error"].endswith("wave.ts: ZeroDivisionError: a bug")
    assert lines(tmp_path / "out")["walk"]["status"] == "done"
    assert "please report it" in caplog.text
    assert "Traceback" in caplog.text


def test_two_batches_do_not_write_to_one_folder(short_clips, out, batch_options):
    before = times(out)
    with (
        file_lock.held(out / ".posemamba" / "lock"),
        pytest.raises(RuntimeError, match=f"another batch is writing to .*process {os.getpid()} on .*wait for it"),
    ):
        batch([short_clips / "text.mp4"], out, batch_options)
    assert times(out) == before
    batch([short_clips / "text.mp4"], out, batch_options)


def test_workers_of_a_batch_that_has_ended_write_nothing(short_clips, tmp_path, batch_options):
    folder = OutFolder(tmp_path)
    with folder.locked() as hold:
        job = ClipTask(short_clips / "wave.ts", "wave", tmp_path, hold.token, batch_options, models_of(batch_options))
    with folder.locked():
        outcome = analyze(job)
        assert outcome.files  # to be sent to the batch that wanted them
        assert not list(tmp_path.glob("wave*"))


def test_results_can_be_sent_by_a_worker_that_does_not_see_the_folder(
    short_clips, tmp_path, undisturbed, batch_options
):
    models = models_of(batch_options)
    sent = analyze(ClipTask(short_clips / "wave.ts", "wave", tmp_path / "far away", "token", batch_options, models))
    assert not (tmp_path / "far away").exists()
    (tmp_path / "out").mkdir()
    job = ClipTask(short_clips / "wave.ts", "wave", tmp_path / "out", "token", batch_options, models)
    assert receive(sent, job).record["status"] == "done"
    assert results(tmp_path / "out")["wave"] == results(undisturbed)["wave"]


def test_a_worker_with_other_weights_refuses(short_clips, tmp_path, batch_options):
    models = models_of(batch_options) | {"lifter_weights": "0" * 64}
    outcome = analyze(ClipTask(short_clips / "wave.ts", "wave", tmp_path, "token", batch_options, models))
    assert "which has other models" in outcome.record["error"]


def test_a_clip_that_changes_meanwhile_is_reported(clips, tmp_path, batch_options):
    clip = clips / "wave.ts"
    job = ClipTask(clip, "wave", tmp_path, "token", batch_options, models_of(batch_options))

    def append(items, stage, total):
        with clip.open("ab") as file:
            file.write(bytes(188))
        return items

    outcome = analyze(job, append)
    assert "changed while it was analyzed" in outcome.record["error"]
    assert not outcome.files


def kill_again_and_again(command, clips: Path, out: Path, kills: int, seed: int, undisturbed) -> None:
    """Kill batches at random moments of their clips, check that what is there is whole each time, and finish."""
    rng = random.Random(seed)
    whole = results(undisturbed)
    usual = max(record["seconds"] for record in lines(undisturbed).values())
    for _ in range(kills):
        running = command(clips, "-o", out)
        wait_until(lambda: has_begun(out) or running.process.poll() is not None)  # noqa: B023 - called at once
        time.sleep(rng.uniform(0, 2 * usual))
        running.signal(signal.SIGKILL)
        running.end()
        assert results(out).items() <= whole.items()
        for line in (
            (out / "batch.jsonl").read_bytes().splitlines(keepends=True) if (out / "batch.jsonl").exists() else ()
        ):
            assert json.loads(line) if line.endswith(b"\n") else True
        if (out / "summary.csv").exists():
            assert rows(out).keys() <= FOLDERS | BROKEN
    code, stdout, stderr = command(clips, "-o", out).end()
    assert code == 1, stderr  # three are broken
    assert "4 of 7 clips done" in stdout
    assert results(out) == whole
    assert lines(out).keys() == FOLDERS | BROKEN
    assert not has_begun(out)


def test_killed_at_random_moments_it_goes_on_where_it_stopped(command, short_clips, tmp_path, undisturbed):
    kill_again_and_again(command, short_clips, tmp_path / "out", 2, 0, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_many_times_it_goes_on_where_it_stopped(command, short_clips, tmp_path, undisturbed, seed):
    kill_again_and_again(command, short_clips, tmp_path / "out", 8, seed, undisturbed)


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_else(command, short_clips, tmp_path, undisturbed):
    out = tmp_path / "out"
    running = command(short_clips, "-o", out)
    wait_until(lambda: any(out.glob("*/pose.json")) and has_begun(out))
    running.signal(signal.SIGINT)
    code, _, stderr = running.end()
    assert code == 130
    assert "stopped; finished results are kept" in stderr
    assert "Traceback" not in stderr
    assert results(out).items() <= results(undisturbed).items()
    assert not has_begun(out)


def test_output_that_cannot_be_written_is_reported_at_once(command, short_clips, tmp_path):
    out = tmp_path / "out"
    code, _, stderr = command(short_clips, "-o", out, limit=1000).end()  # no file may be larger
    assert code == 1
    assert f"nothing can be written to {out} (File too large); make room or choose another folder" in stderr
    code, _, stderr = command(short_clips, "-o", short_clips / "text.mp4").end()
    assert code == 1
    assert f"nothing can be written to {short_clips / 'text.mp4'} (Not a directory)" in stderr


@pytest.fixture
def namespace() -> tuple[str, ...]:
    """The beginning of a command that may mount file systems nobody else sees; the rest is a shell script."""
    start = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-e", "-c")
    if (
        not shutil.which("unshare")
        or subprocess.run([*start, "mount -t tmpfs none /mnt"], capture_output=True).returncode
    ):
        pytest.skip("this machine allows no mounts")
    return start


def test_a_read_only_output_is_reported_at_once(command, short_clips, tmp_path, namespace):
    script = f'mount -t tmpfs -o ro none "{tmp_path}"; exec "$@"'
    code, _, stderr = command(short_clips, "-o", tmp_path / "out", inside=(*namespace, script, "sh")).end()
    assert code == 1
    assert f"nothing can be written to {tmp_path / 'out'} (Read-only file system)" in stderr


def test_a_full_disk_costs_the_clips_that_find_no_room(command, short_clips, tmp_path, namespace):
    """Beside a ballast there is room for the trial of 1 MB and what one clip needs, not for the next; then for all."""
    out = tmp_path / "out"
    out.mkdir()
    script = f"""
        mount -t tmpfs -o size=8m none "{out}"
        head -c {7 * 2**20 - 2**15} /dev/zero > "{out}/ballast"
        "$@" && exit 9
        cat "{out}/batch.jsonl"
        rm "{out}/ballast"
        "$@"
        cat "{out}/batch.jsonl"
    """
    inside = (*namespace, script, "sh")
    clips = (short_clips / "monday" / "walk.mp4", short_clips / "wave.ts")
    code, stdout, stderr = command(*clips, "-o", out, "--no-overlay", inside=inside).end()
    assert code == 0, stderr
    records = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
    assert [record["status"] for record in records] == ["done", "failed", "done", "done"]
    assert "wave.ts was not finished: No space left on device; its results go to" in records[1]["error"]
    assert "1 of 2 clips done, 1 failed" in stdout
    assert "2 of 2 clips done (1 of them earlier), 0 failed" in stdout
