"""The command as a user types it: exit codes, one clear sentence per failure, other clips go on."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from app.cli.main import main
from app.console import one_line, printable
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from detectors import QUALITIES


@pytest.fixture
def posemamba(root, monkeypatch, capsys):
    """A function that runs the command in this process and returns exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.chdir(root)
        monkeypatch.setattr(sys, "argv", ["posemamba", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


def gray_video(path, count=6):
    info = VideoInfo(path, 96, 64, 25.0, count, 0, np.arange(count) / 25.0)
    write_video(path, (np.full((64, 96, 3), 90, np.uint8) for _ in range(count)), info)
    return path


def test_one_bad_clip_does_not_stop_the_others(root, tmp_path, tiny_weights):
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    folder = tmp_path / "clips"
    folder.mkdir()
    gray_video(folder / "a.mp4")
    (folder / "b.mp4").write_text("not a video")
    gray_video(folder / "c.mp4")
    command = [sys.executable, "-m", "app", "run", folder, "-o", tmp_path / "out", "--lifter", tiny_weights]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
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


RUN = ("run", "x.mp4", "-o", "out")
SAMPLE = ("run", "assets/walk_wave.mp4", "-o", "out")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("dance",), 2, "dance"),
        (("run", "x.mp4"), 2, "--out"),
        (("run", "nowhere.mp4", "-o", "out"), 1, "nowhere.mp4"),
        (("run", "docs", "-o", "out", "--glob", "*.mov"), 1, "no video in docs; expected files matching *.mov"),
        ((*RUN, "--detector", "openpose"), 2, "openpose"),
        ((*RUN, "--detector-weights", "yolo26n"), 2, "--detector"),
        ((*RUN, "--height", "17"), 2, "height must lie between 0.4 and 2.8 meters"),
        ((*RUN, "--people", "tallest"), 2, "largest"),
        ((*RUN, "--formats", "json,fbx"), 2, "fbx"),
        ((*RUN, "--jobs", "0"), 2, "--jobs"),
        ((*RUN, "--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"), 2, "give one of them"),
        ((*SAMPLE, "--lifter", "nothing-s"), 1, "nothing-s"),
        (
            (*SAMPLE, "--detector", "yolo-hrnet", "--detector-weights", "a.tflite"),
            1,
            "'yolo-hrnet' takes one of yolo26m",
        ),
        (("evaluate",), 2, "mpi-inf-3dhp"),  # the help
        (("evaluate", "clips", "a.mp4", "b.mp4", "--ground-truth", "README.md"), 2, "--ground-truth"),
        (("evaluate", "clips", "assets/empty_room.mp4"), 1, "--ground-truth"),
        (("evaluate", "clips", "assets/walk_wave.mp4", "--ground-truth", "README.md"), 1, "h36m_cam"),
        (("evaluate", "mocap", "docs"), 1, "no validation motion"),
        (("evaluate", "stills", "README.md"), 1, "no COCO keypoints file"),
        (("evaluate", "h36m", "README.md"), 1, "was not read"),
        (("evaluate", "h36m", "assets"), 1, "h36m*.pkl"),
        (("evaluate", "mpi-inf-3dhp", "README.md"), 1, "no npz file"),
        (("train", "nowhere", "-o", "out", "--minutes", "1"), 1, "nowhere"),
        (("train", "nowhere", "-o", "out", "--minutes", "nan"), 2, "finite"),
        (("train", "nowhere", "-o", "out", "--minutes", "1", "--variant", "warp"), 1, "has no extra 'warp'"),
    ],
)
def test_failures_say_what_is_wrong(posemamba, tmp_path, arguments, code, text):
    arguments = [tmp_path / "out" if a == "out" else a for a in arguments]
    returned, out, err = posemamba(*arguments)
    assert returned == code, err
    assert text in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in err
    assert not list(tmp_path.glob("out/[!.]*/*"))  # no results; batch.jsonl may say what failed


def test_doctor_gives_a_reason_for_every_backend(posemamba):
    code, out, err = posemamba("doctor")
    assert code == 0, err
    backends = [f"scan backend {name} on cpu: " for name in ("cpu", "torch", "reference")]
    qualities = [f"quality {name}: " for name in QUALITIES]
    weights = ["weights yolo26n: ", "weights posemamba-s: "]
    for text in (*backends, *qualities, *weights, "detector mediapipe: ", "detector auto: "):
        assert text in out


def test_models_counts_parameters(posemamba):
    code, out, err = posemamba("models")
    assert code == 0, err
    for text in ("1,470,211", "4,742,659", "9,450,499", "yolo-hrnet", "hrnet-w48-384x288", "AGPL-3.0"):
        assert text in out


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("clip \udcff.mp4") == "clip \\udcff.mp4"
    assert printable("\x1b[2Jclip.mp4") == "\\x1b[2Jclip.mp4"
    assert one_line("two\nlines.mp4") == "two\\nlines.mp4"


def test_help_loads_no_heavy_package():
    code = (
        "import sys, app.cli.main; app.cli.main.cli(['--help'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'cv2', 'av', 'mediapipe', 'matplotlib', 'gradio') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
