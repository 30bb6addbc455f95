"""The command as a user types it: exit codes, one clear sentence per failure, other clips go on."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import typer

from app.cli.main import cli
from app.console import one_line, printable
from app.options import BACKENDS, FORMATS, Options
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from detectors import QUALITIES
from lifter import scan


@pytest.fixture(scope="module")
def posemamba(root):
    """A function that runs the command in a process of its own."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "app", *map(str, arguments)], cwd=root, capture_output=True, text=True, check=False
        )

    return run


def gray_video(path, count=6):
    info = VideoInfo(path, 96, 64, 25.0, count, 0, np.arange(count) / 25.0)
    write_video(path, (np.full((64, 96, 3), 90, np.uint8) for _ in range(count)), info)
    return path


def test_one_bad_clip_does_not_stop_the_others(posemamba, tmp_path, tiny_weights):
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    folder = tmp_path / "clips"
    folder.mkdir()
    gray_video(folder / "a.mp4")
    (folder / "b.mp4").write_text("not a video")
    gray_video(folder / "c.mp4")
    answer = posemamba("run", folder, "-o", tmp_path / "out", "--lifter", tiny_weights)
    assert answer.returncode == 1
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "b.mp4" in errors[0]
    assert "Traceback" not in answer.stderr
    assert "2 of 3 clips done, 1 failed" in answer.stdout
    for name in "ac":
        files = sorted(p.name for p in (tmp_path / "out" / name).iterdir())
        assert files == ["clip.json", "overlay.mp4", "pose.json", "pose.npz", "viewer.html"]
        assert json.loads((tmp_path / "out" / name / "pose.json").read_text())["people"] == []  # nobody: still exit 0
    assert not (tmp_path / "out" / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("run", "nowhere.mp4", "-o", "out"), 1, "nowhere.mp4"),
        (("run", "nowhere.mp4"), 2, "--out"),
        (("run", "x.mp4", "-o", "out", "--detector", "openpose"), 2, "openpose"),
        (("run", "x.mp4", "-o", "out", "--detector-weights", "yolo26n"), 2, "--detector"),
        (("run", "x.mp4", "-o", "out", "--quality", "ultra"), 2, "balanced"),
        (("run", "x.mp4", "-o", "out", "--height", "17"), 2, "meters"),
        (("run", "x.mp4", "-o", "out", "--people", "tallest"), 2, "largest"),
        (("run", "x.mp4", "-o", "out", "--jobs", "0"), 2, "--jobs"),
        (("run", "x.mp4", "-o", "out", "--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"), 2, "give one of them"),
        (("run", "docs", "-o", "out", "--pattern", "*.mov"), 1, "no video in docs; expected files matching *.mov"),
        (("run", "x.mp4", "-o", "out", "--min-track-seconds", "-1"), 2, "seconds"),
        (("run", "x.mp4", "-o", "out", "--formats", "json,fbx"), 2, "fbx"),
        (("run", "x.mp4", "-o", "out", "--smooth", "0"), 2, "Hz"),
        (("run", "x.mp4", "-o", "out", "--up", "x"), 2, "up"),
        (("run", "assets/walk_wave.mp4", "-o", "out", "--lifter", "nothing-s"), 1, "nothing-s"),
        (
            ("run", "assets/walk_wave.mp4", "-o", "out", "--detector", "yolo-hrnet", "--detector-weights", "a.tflite"),
            1,
            "'yolo-hrnet' takes one of yolo26m",
        ),
        (("run", "assets/walk_wave.mp4", "-o", "out", "--backend", "abacus"), 2, "abacus"),
        (("evaluate",), 2, "--motion"),
        (("evaluate", "a.mp4", "b.mp4", "--truth", "README.md"), 2, "--truth"),
        (("evaluate", "assets/empty_room.mp4"), 1, "--truth"),
        (("evaluate", "--motion", "assets", "--detector-errors"), 2, "--stills"),
        (("evaluate", "--stills", "README.md"), 1, "no COCO keypoints file"),
        (("evaluate", "--h36m", "README.md"), 1, "was not read"),
        (("evaluate", "--h36m", "assets"), 1, "h36m*.pkl"),
        (("evaluate", "--mpi-inf-3dhp", "README.md"), 1, "no npz file"),
        (("train", "nowhere", "-o", "out", "--minutes", "1"), 1, "nowhere"),
        (("train", "nowhere", "-o", "out", "--minutes", "nan"), 1, "finite"),
        (("train", "nowhere", "-o", "out", "--minutes", "1", "--with", "warp"), 1, "has no extra 'warp'"),
        (("evaluate", "assets/walk_wave.mp4", "--truth", "README.md"), 1, "h36m_cam"),
        (("dance",), 2, "dance"),
    ],
)
def test_failures_say_what_is_wrong(posemamba, tmp_path, arguments, code, text):
    arguments = [tmp_path / "out" if a == "out" else a for a in arguments]
    answer = posemamba(*arguments)
    assert answer.returncode == code, answer.stderr
    assert text in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.glob("out/[!.]*/*"))  # no results; batch.jsonl may say what failed


def test_doctor_gives_a_reason_for_every_backend(posemamba):
    answer = posemamba("doctor")
    assert answer.returncode == 0, answer.stderr
    for backend in ("cpu", "torch", "reference"):
        assert f"scan backend {backend} on cpu: " in answer.stdout
    assert "detector mediapipe: " in answer.stdout
    assert "detector auto: " in answer.stdout
    for quality in QUALITIES:
        assert f"quality {quality}: " in answer.stdout
    assert "weights yolo26n: " in answer.stdout
    assert "weights posemamba-s: " in answer.stdout


def test_models_counts_parameters(posemamba):
    answer = posemamba("models")
    assert answer.returncode == 0, answer.stderr
    for text in ("1,470,211", "4,742,659", "9,450,499", "yolo-hrnet", "hrnet-w48-384x288", "AGPL-3.0"):
        assert text in answer.stdout


def test_file_names_that_are_no_text_can_be_printed():
    assert printable("clip \udcff.mp4") == "clip \\udcff.mp4"


def test_file_names_cannot_command_the_terminal():
    assert printable("\x1b[2Jclip.mp4") == "\\x1b[2Jclip.mp4"
    assert one_line("two\nlines.mp4") == "two\\nlines.mp4"


def test_help_loads_no_heavy_package():
    code = (
        "import sys, app.cli.main; app.cli.main.cli(['--help'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'cv2', 'av', 'mediapipe', 'matplotlib') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_defaults_of_run_are_those_of_options():
    command = typer.main.get_command(cli).commands["run"]
    flags = {p.name: p.default for p in command.params}
    names = {"height": "height_m", "fov": "fov_degrees", "rigid_bones": "has_rigid_bones",
             "smooth": "smooth_hz", "max_gap": "max_gap_s", "min_track": "min_track_s", "upright": "is_upright",
             "overlay": "has_overlay"}  # fmt: skip
    from_flags = {names.get(flag, flag): getattr(value, "value", value) for flag, value in flags.items()}
    from_flags["detector_weights"] = tuple(from_flags["detector_weights"])  # typer has lists only
    from_flags["formats"] = tuple(from_flags["formats"].split(","))
    for field in dataclasses.fields(Options):
        assert from_flags[field.name] == field.default, field.name


def test_options_know_every_scan():
    assert set(BACKENDS) == {"auto", *scan.BACKENDS}


def test_options_know_every_format():
    from app.export import WRITERS

    assert tuple(WRITERS) == FORMATS
