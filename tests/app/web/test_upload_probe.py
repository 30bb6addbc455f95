"""The guard: hostile and broken uploads end in a sentence, good ones in a report, and nothing else is opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.options import UploadLimits
from app.web.upload_probe import UploadInfo, inspect
from tests.bad_media import NAMES, clip, write

DEFAULTS = UploadLimits()


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> list[Path]:
    """Bad uploads."""
    return write(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def good(tmp_path) -> Path:
    path = tmp_path / "good.mp4"
    path.write_bytes(clip())
    return path


def said(path: Path, limits: UploadLimits = DEFAULTS) -> str | UploadInfo:
    try:
        return inspect(path, limits)
    except ValueError as error:  # nothing else may come
        return str(error)


def test_every_bad_upload_ends_in_a_sentence_and_the_next_good_one_is_taken(bad, good):
    assert len(bad) > 70
    with ThreadPoolExecutor(2) as threads:
        answers = dict(zip(bad, threads.map(said, bad), strict=True))
    for path, answer in answers.items():
        assert isinstance(answer, str), path.name
        assert path.name in answer
        assert str(path.parent) + "/" not in answer  # places on the server are nobody's business
        assert "\n" not in answer
        assert "Traceback" not in answer
    assert {path.name for path, answer in answers.items() if "playlist, which names other files" in answer} == {
        "playlist.mp4", "playlist_of_a_secret.mp4", "playlist_on_the_net.mp4", "concat.mp4",
    }  # fmt: skip
    assert "has 600 MB, expected at most 500 MB" in answers[bad[0].parent / "large.mp4"]
    assert "is 1 x 1 px, expected at least 32 px" in answers[bad[0].parent / "one_pixel.mkv"]
    assert "lasts longer than 300 s" in answers[bad[0].parent / "long_pause.mkv"]
    assert "has 1000 frames per second, expected at most 240" in answers[bad[0].parent / "1000_per_second.mkv"]
    assert isinstance(said(good), UploadInfo)


def test_a_report_says_what_the_video_is(root):
    report = inspect(root / "assets" / "walk_wave.mp4")
    assert (report.width, report.height, report.num_frames) == (640, 480, 257)
    assert report.fps == pytest.approx(30)
    assert report.duration_s == pytest.approx(257 / 30)


@pytest.mark.parametrize(
    "kind", ["mp4", "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "gif", "webm", "ogg"]
)
def test_usual_containers_are_known_by_their_content(kind, tmp_path):
    codecs = {"gif": ("gif", "rgb8"), "webm": ("libvpx", "yuv420p"), "ogg": ("libvpx", "yuv420p")}
    codec, pix_fmt = codecs.get(kind, ("mpeg2video" if kind == "mpeg" else "libx264", "yuv420p"))
    path = tmp_path / "a name that says nothing.txt"
    path.write_bytes(clip(kind, codec, pix_fmt=pix_fmt))
    report = inspect(path)
    assert (report.width, report.height) == (96, 64)
    assert 11 <= report.num_frames <= 13  # what a header is in one container is a packet in another


def test_names_can_be_anything(tmp_path):
    paths = [tmp_path / name for name in NAMES]
    for path in paths:
        path.write_bytes(clip())
    with ThreadPoolExecutor(2) as threads:
        assert [answer.num_frames for answer in threads.map(inspect, paths)] == [12] * len(NAMES)
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_bytes": 1000}, "MB, expected at most 0 MB; cut it"),
        ({"min_side_px": 65}, "is 96 x 64 px, expected at least 65 px a side"),
        ({"max_pixels": 6000}, "is 96 x 64 px, expected at least 32 px a side and at most 0.0 million px"),
        ({"max_fps": 29}, "has 30 frames per second, expected at most 29"),
        ({"max_frames": 11}, "has more than 11 frames"),
        ({"max_duration_s": 0.3}, "lasts longer than 0.3 s"),
        ({"inspect_s": 0.001}, "cannot be read within 0.001 s"),
        ({"inspect_bytes": 90_000_000}, "memory"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_limits_are_said_with_the_value(good, limits, text):
    answer = said(good, UploadLimits(**limits))
    assert isinstance(answer, str)
    assert text in answer
    assert answer.startswith(("good.mp4", "the picture of good.mp4", "cannot read good.mp4"))


def test_flipped_bits_end_in_a_report_or_a_sentence(tmp_path):
    rng, paths = np.random.default_rng(0), []
    for number in range(12):
        content = bytearray(clip(("mp4", "matroska", "avi", "mpegts")[number % 4], "mpeg4"))
        for place in rng.integers(0, len(content), 40):
            content[place] ^= 1 << int(rng.integers(8))
        paths.append(tmp_path / f"flipped_{number}.mp4")
        paths[-1].write_bytes(content)
    with ThreadPoolExecutor(2) as threads:
        for path, answer in zip(paths, threads.map(said, paths), strict=True):
            assert isinstance(answer, UploadInfo) or path.name in answer


def test_the_command_line_says_the_same_kind_of_thing_and_goes_on(bad, good, command, tmp_path):
    names = {
        "playlist.mp4", "playlist_of_a_secret.mp4", "concat.mp4", "png.mp4", "zip.mp4", "huge_box.mp4",
        "no_samples.mp4", "index_late_2_mdat_cut_behind.mp4", "boxes_in_boxes.mp4", "claims_20000x20000.avi",
        "garbled.mkv", "sound.ogg", "pipe.mp4", "link_to_a_secret.mp4",
    }  # fmt: skip
    sample = [path for path in bad if path.name in names]
    assert len(sample) == len(names)
    code, stdout, stderr = command(*sample, good, "-o", tmp_path / "out", "--no-overlay").end()
    assert code == 1
    assert f"1 of {len(names) + 1} clips done, {len(names)} failed" in stdout
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert all(any(name in error for error in errors) for name in names)
    assert "Traceback" not in stderr
    assert "root:" not in stdout + stderr  # of /etc/passwd
    assert (tmp_path / "out" / "good" / "pose.json").is_file()
