"""Batches: results appear complete or not at all, whatever happens; a second run does what is left."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app import pipeline
from app.batch import process_clip
from app.batch.find_videos import discover
from app.batch.run_batch import BatchRequest, print_plan, run_batch
from app.video.reader import probe
from lifter.training.train import save_weights
from tests import bad_media
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
    options, before = dataclasses.replace(batch_options, has_overlay=False), results(undisturbed)["wave"]
    for number in (1, 3):
        threads(number)
        assert batch([short_clips / "wave.ts"], tmp_path / str(number), options) == 0
        pose = json.loads(results(tmp_path / str(number))["wave"]["pose.json"])
        assert pose["people"] == json.loads(before["pose.json"])["people"]


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
    printed = capsys.readouterr().out
    assert "4 of 7 clips are done, same video, options and weights" in printed
    assert "4 of 7 clips done (4 of them earlier), 3 failed" in printed


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
    quick = dataclasses.replace(batch_options, has_overlay=False, formats=("json", "npz"))

    def pose_of(clip: Path, options) -> dict:
        assert batch([clip], out, options) == 0
        return json.loads((out / "wave" / "pose.json").read_text())

    first = pose_of(clip, quick)
    wider = dataclasses.replace(quick, fov_degrees=70.0)
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
    weights = pose_of(clip, dataclasses.replace(quick, lifter=str(other)))["provenance"]["lifter"]["weights"]
    assert weights["sha256"] != first["provenance"]["lifter"]["weights"]["sha256"]
    shutil.copy(clips / "monday" / "walk.mp4", clip)
    assert pose_of(clip, quick)["video"]["sha256"] != first["video"]["sha256"]
    (out / "wave" / "pose.npz").unlink()
    pose_of(clip, quick)
    assert (out / "wave" / "pose.npz").exists()


def test_results_in_an_older_file_format_are_made_anew(short_clips, tmp_path, batch_options, monkeypatch, capsys):
    request = BatchRequest([short_clips / "wave.ts"], tmp_path)
    options = dataclasses.replace(batch_options, has_overlay=False)
    with monkeypatch.context() as older:
        older.setattr(process_clip, "SCHEMA", "posemamba/pose/2")
        run_batch(request, options)
    print_plan(request, options)
    assert "1 of 1 clips would be analyzed, 0 are done" in capsys.readouterr().out


def test_files_that_others_put_beside_results_stay(short_clips, out, batch_options):
    (out / "wave" / "notes.txt").write_text("good take")
    no_overlay = dataclasses.replace(batch_options, has_overlay=False)
    assert batch([short_clips / "wave.ts"], out, no_overlay) == 0
    names = {path.name for path in (out / "wave").iterdir()}
    assert names == {"clip.json", "pose.json", "pose.npz", "viewer.html", "notes.txt"}


def test_a_dry_run_prints_what_would_be_done_and_writes_nothing(short_clips, out, batch_options, capsys):
    shutil.rmtree(out / "walk")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    found = discover([short_clips], out)
    assert print_plan(BatchRequest(found.clips, out), batch_options) == 0
    printed = capsys.readouterr().out
    assert "4 of 7 clips would be analyzed, 3 are done" in printed
    assert f"monday/walk.mp4 -> {out / 'walk'}: no results" in printed
    print_plan(BatchRequest(found.clips, out / "new"), batch_options)
    print_plan(BatchRequest(found.clips, out), dataclasses.replace(batch_options, quality="fast"))
    assert "other options, weights or file format" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_clip_that_a_killed_batch_was_analyzing_comes_last(short_clips, tmp_path, batch_options, capsys):
    (tmp_path / "out" / ".posemamba" / "parts" / "4711-0" / "text").mkdir(parents=True)
    batch([short_clips / "text.mp4", short_clips / "torn.mp4"], tmp_path / "out", batch_options)
    assert list(lines(tmp_path / "out")) == ["torn", "text"]


@pytest.mark.parametrize("torn", ['{"clip": "/x", "folder": "x", "sta', "\0\0\0", '{"clip": "/x"}\n[1]\n', None])
def test_torn_lines_are_removed_and_lost_ones_come_back(short_clips, out, batch_options, torn):
    if torn is None:
        (out / "batch.jsonl").unlink()
        (out / "summary.csv").unlink()
    else:
        (out / "batch.jsonl").write_text((out / "batch.jsonl").read_text() + torn)
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


def test_what_a_kill_leaves_is_deleted(short_clips, out, batch_options):
    before = set(out.rglob("*"))
    for part in (out / ".summary.csv.999999999-0.part", out / ".posemamba" / ".names.json.999999999-0.part"):
        part.touch()
        os.utime(part, (0, 0))
    (out / ".posemamba" / "probe-0123").touch()
    (out / ".posemamba" / "parts" / "4711-0" / "wave").mkdir(parents=True)
    batch([short_clips / "text.mp4"], out, batch_options)
    assert {path for path in out.rglob("*") if path.name not in ("parts", "old")} <= before


# Trouble.


def test_a_batch_reports_bad_files_and_goes_on(batch_options, tmp_path, capsys):
    names = {
        "playlist.mp4", "playlist_of_a_secret.mp4", "concat.mp4", "png.mp4", "zip.mp4", "huge_box.mp4",
        "no_samples.mp4", "index_late_2_mdat_cut_behind.mp4", "boxes_in_boxes.mp4", "claims_20000x20000.avi",
        "garbled.mkv", "sound.ogg",
    }  # fmt: skip
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(bad_media.contents()[name])
    os.mkfifo(folder / "pipe.mp4")
    (folder / "link_to_a_secret.mp4").symlink_to("/etc/passwd")
    names |= {"pipe.mp4", "link_to_a_secret.mp4"}
    (folder / "good.mp4").write_bytes(bad_media.clip())
    clips = [folder / name for name in (*sorted(names), "good.mp4")]
    assert batch(clips, tmp_path / "out", batch_options) == len(names)
    records = lines(tmp_path / "out").values()
    assert {Path(record["clip"]).name for record in records if record["status"] == "failed"} == names
    stdout, stderr = capsys.readouterr()
    assert sum(line.startswith("error: ") for line in stderr.splitlines()) == len(names)
    assert "Traceback" not in stderr
    assert "root:" not in stdout + stderr  # of /etc/passwd
    assert (tmp_path / "out" / "good" / "pose.json").is_file()


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


def check_whole(out: Path, undisturbed: Path) -> None:
    """Check what a killed batch left: complete results or none, lines that are valid but for the last one."""
    assert results(out).items() <= results(undisturbed).items()
    if (out / "batch.jsonl").exists():
        for line in (out / "batch.jsonl").read_bytes().splitlines(keepends=True):
            assert json.loads(line) if line.endswith(b"\n") else True
    if (out / "summary.csv").exists():
        assert rows(out).keys() <= FOLDERS | BROKEN


def finish(short_clips: Path, out: Path, undisturbed: Path, options) -> None:
    """Run the batch to its end and check that nothing is missing."""
    assert batch(short_clips, out, options) == 3
    assert results(out) == results(undisturbed)
    assert lines(out).keys() == FOLDERS | BROKEN
    assert not has_begun(out)


@pytest.mark.process
def test_stopped_and_killed_it_keeps_what_is_done_and_goes_on(
    command, short_clips, tmp_path, undisturbed, batch_options
):
    out = tmp_path / "out"
    running = command(short_clips, "-o", out)
    wait_until(lambda: (any(out.glob("*/pose.json")) and has_begun(out)) or running.process.poll() is not None)
    running.signal(signal.SIGINT)
    code, _, stderr = running.end()
    assert code == 130
    assert "stopped; finished results are kept" in stderr
    assert "Traceback" not in stderr
    assert not has_begun(out)
    check_whole(out, undisturbed)
    running = command(short_clips, "-o", out)
    wait_until(lambda: has_begun(out) or running.process.poll() is not None)
    running.signal(signal.SIGKILL)
    running.end()
    check_whole(out, undisturbed)
    finish(short_clips, out, undisturbed, batch_options)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_at_random_moments_it_goes_on(command, short_clips, tmp_path, undisturbed, batch_options, seed):
    rng, out = random.Random(seed), tmp_path / "out"
    usual = max(record["seconds"] for record in lines(undisturbed).values())
    for _ in range(8):
        running = command(short_clips, "-o", out)
        wait_until(lambda: has_begun(out) or running.process.poll() is not None)  # noqa: B023 - called at once
        time.sleep(rng.uniform(0, 2 * usual))
        running.signal(signal.SIGKILL)
        running.end()
        check_whole(out, undisturbed)
    finish(short_clips, out, undisturbed, batch_options)


FULL_DISK = """
import shutil, sys
from pathlib import Path
from app.batch import output_folder
from app.batch.run_batch import BatchRequest, run_batch
from app.options import Options
output_folder.PROBE_BYTES = 1  # the trial would spare these small results to be cut off
lifter, disk, *clips = sys.argv[1:]
out, ballast = Path(disk, "out"), Path(disk, "ballast")
request = BatchRequest(list(map(Path, clips)), out)
options = Options(detector="mediapipe", lifter=lifter)
for free in range(2**12, 2**12 + 36 * 2**14, 3 * 2**14):
    shutil.rmtree(out, ignore_errors=True)
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - free))
    try:
        failed = run_batch(request, options)
        print("failed", failed)
        records = (out / "batch.jsonl").read_text().splitlines() if (out / "batch.jsonl").exists() else []
        assert sum('"status": "failed"' in line for line in records) <= failed
        assert sum('"status": "done"' in line for line in records) <= len(clips) - failed
    except (RuntimeError, OSError) as error:
        print("refused", str(error).replace(disk, "DISK"))
    whole = [folder for folder in out.glob("*") if folder.is_dir() and not folder.name.startswith(".")]
    assert all((folder / "clip.json").stat().st_size for folder in whole)
    assert not [path for path in out.rglob("*") if path.name.endswith(".part") or "parts" in path.parts[:-1]]
    ballast.unlink()
    assert run_batch(request, options) == 0
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_disk_that_is_full_at_any_moment_costs_only_what_does_not_fit(root, short_clips, tmp_path, batch_options):
    """Space for the files of state, for some of a clip's files, for one clip, for both."""
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-e", "-c")
    if not shutil.which("unshare") or subprocess.run([*namespace, "mount -t tmpfs none /mnt"]).returncode:
        pytest.skip("this machine allows no mounts")
    script = f'mount -t tmpfs -o size=8m none "{tmp_path}"; exec "$@"'
    clips = (short_clips / "monday" / "walk.mp4", short_clips / "wave.ts")
    command = [*namespace, script, "sh", sys.executable, "-c", FULL_DISK, batch_options.lifter, tmp_path, *clips]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = [line for line in done.stdout.splitlines() if line.startswith(("failed", "refused"))]
    assert {"failed 2", "failed 1", "failed 0"} <= set(outcomes)
    assert all("No space left on device" in line for line in outcomes if line.startswith("refused"))
    assert "wave.ts was not finished: No space left on device; its results go to" in done.stderr
    assert "1 of 2 clips done, 1 failed" in done.stdout
