"""The probe of uploads: bad ones end in a sentence, good ones in their numbers, and nothing else is opened."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.options import UploadLimits
from app.web.upload_probe import UploadInfo, probe_upload, read_info
from tests.bad_media import NAMES, clip, contents

DEFAULTS = UploadLimits()
EXPECTED = {  # one of each kind, and a part of its sentence
    "text.mp4": "is in no container that is known here",
    "playlist_of_a_secret.mp4": "playlist, which names other files",
    "png.mp4": "it is a PNG picture",
    "sound.ogg": "holds no video stream, only audio",
    "index_late_2_mdat_cut_behind.mp4": "cannot read",
    "compressed_index_bomb.mp4": "cannot read",
    "unknown_codec.mp4": "its video codec is unknown",
    "claims_20000x20000.avi": "cannot read",
    "one_pixel.mkv": "is 1 x 1 px, expected at least 32 px",
    "1000_per_second.mkv": "has 1000 frames per second, expected at most 240",
    "long_pause.mkv": "lasts longer than 300 s",
}


@pytest.fixture
def good(tmp_path) -> Path:
    path = tmp_path / "good.mp4"
    path.write_bytes(clip())
    return path


def outcome(path: Path, limits: UploadLimits = DEFAULTS) -> str | UploadInfo:
    """Return the sentence of a refusal, or what the video is; no other exception may come."""
    try:
        return probe_upload(path, limits)
    except ValueError as error:
        return str(error)


@pytest.mark.process
@pytest.mark.parametrize(
    "names", [list(EXPECTED), pytest.param(list(contents()), marks=pytest.mark.slow)], ids=["one of each kind", "all"]
)
def test_bad_uploads_end_in_a_sentence_and_the_next_good_one_is_accepted(names, good, tmp_path):
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(contents()[path.name])
    with ThreadPoolExecutor(2) as threads:
        answers = dict(zip(paths, threads.map(outcome, paths), strict=True))
    for path, answer in answers.items():
        assert isinstance(answer, str), path.name
        assert path.name in answer
        assert EXPECTED.get(path.name, "") in answer
        assert not any(part in answer for part in ("\n", "Traceback", str(path.parent) + "/"))
    assert outcome(good).num_frames == 12


def test_the_numbers_of_a_video(root):
    info = read_info(root / "assets" / "walk_wave.mp4")
    assert (info.width, info.height, info.num_frames) == (640, 480, 257)
    assert info.fps == pytest.approx(30)


@pytest.mark.parametrize(
    "kind", ["mp4", "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "gif", "webm", "ogg"]
)
def test_usual_containers_are_known_by_their_content(kind, tmp_path):
    codecs = {"gif": ("gif", "rgb8"), "webm": ("libvpx", "yuv420p"), "ogg": ("libvpx", "yuv420p")}
    codec, pix_fmt = codecs.get(kind, ("mpeg2video" if kind == "mpeg" else "libx264", "yuv420p"))
    path = tmp_path / "a name without meaning.txt"
    path.write_bytes(clip(kind, codec, pix_fmt=pix_fmt))
    info = read_info(path)
    assert (info.width, info.height) == (96, 64)
    assert 11 <= info.num_frames <= 13  # what a header is in one container is a packet in another


@pytest.mark.process
def test_names_can_be_anything(tmp_path):
    paths = [tmp_path / name for name in NAMES]
    for path in paths:
        path.write_bytes(clip())
    assert [read_info(path).num_frames for path in paths] == [12] * len(NAMES)
    assert probe_upload(tmp_path / "line\nbreak.mp4").num_frames == 12
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"min_side_px": 65}, "is 96 x 64 px, expected at least 65 px a side"),
        ({"max_pixels": 6000}, "is 96 x 64 px, expected at least 32 px a side and at most 0.0 million px"),
        ({"max_fps": 28}, "has 30 frames per second, expected at most 28"),
        ({"max_frames": 11}, "has more than 11 frames"),
        ({"max_duration_s": 0.3}, "lasts longer than 0.3 s"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_limits_are_named_with_the_value(good, limits, text):
    with pytest.raises(ValueError, match=text):
        read_info(good, UploadLimits(**limits))


@pytest.mark.process
def test_limits_of_time_and_frames_hold_for_the_chosen_part(tmp_path):
    path = tmp_path / "long.mp4"
    path.write_bytes(clip(ticks=list(range(0, 400_000, 500))))  # 400 s, two pictures a second
    limits = UploadLimits(max_frames=100)
    assert probe_upload(path, limits, (350.0, 380.0)).num_frames == 60
    assert probe_upload(path, UploadLimits(), (150.0, math.inf)).num_frames == 500
    for part, text in (
        ((0.0, math.inf), "has more than 100 frames, expected at most that; choose a part of it"),
        ((10.0, 100.0), "has more than 100 frames"),
        ((500.0, math.inf), "has no frame from 500 s on"),
    ):
        with pytest.raises(ValueError, match=text):
            probe_upload(path, limits, part)
    with pytest.raises(ValueError, match="lasts longer than 300 s, expected at most that; choose a part"):
        probe_upload(path)


@pytest.mark.process
@pytest.mark.parametrize(
    ("limits", "text"),
    [({"inspect_s": 0.001}, "cannot be read within 0.001 s"), ({"inspect_bytes": 90_000_000}, "memory")],
)
def test_the_probe_has_limits_itself(good, limits, text):
    answer = outcome(good, UploadLimits(**limits))
    assert isinstance(answer, str)
    assert text in answer
    assert "good.mp4" in answer


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_240_frames_per_second_are_accepted_however_the_container_rounds_times(kind, tmp_path):
    path = tmp_path / "fast.mp4"
    ticks = [round(1000 * number / 240) for number in range(48)]  # milliseconds: most neighbors are 4 ms apart
    path.write_bytes(clip(kind, rate=240) if kind == "mp4" else clip(kind, ticks=ticks))
    assert read_info(path).fps == pytest.approx(240 if kind == "mp4" else 250)
    path.write_bytes(clip(kind, rate=300) if kind == "mp4" else clip(kind, ticks=list(range(0, 144, 3))))
    with pytest.raises(ValueError, match="frames per second, expected at most 240"):
        read_info(path)


@pytest.mark.slow
@pytest.mark.process
def test_flipped_bits_end_in_numbers_or_a_sentence(tmp_path):
    rng, paths = np.random.default_rng(0), []
    for number in range(12):
        content = bytearray(clip(("mp4", "matroska", "avi", "mpegts")[number % 4], "mpeg4"))
        for place in rng.integers(0, len(content), 40):
            content[place] ^= 1 << int(rng.integers(8))
        paths.append(tmp_path / f"flipped_{number}.mp4")
        paths[-1].write_bytes(content)
    with ThreadPoolExecutor(2) as threads:
        for path, answer in zip(paths, threads.map(outcome, paths), strict=True):
            assert isinstance(answer, UploadInfo) or path.name in answer
