"""A part of a clip, slow motion, and the sound that goes with both."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from app.options import Options, seconds_of
from app.video.reader import VideoReader, probe
from app.video.writer import write_video
from tests.video_files import encode, flash_and_click, flash_and_click_times

RATE = 25
SECONDS = 16  # more than what is searched for a key frame before a part


def numbered(k: int) -> np.ndarray:
    """Return a picture whose eight bars spell k in bits."""
    bits = [230 if k >> bit & 1 else 25 for bit in range(9)]
    return np.repeat(np.repeat(np.array(bits, np.uint8), 8)[None], 32, axis=0)[..., None].repeat(3, axis=2)


def number_of(frame: np.ndarray) -> int:
    return sum(1 << bit for bit in range(9) if frame[16, 8 * bit + 4, 0] > 128)


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts", "avi", "h264"])
def long_clip(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / f"clip.{request.param}"
    codec, options = (
        ("mpeg4", {"g": "12"}) if request.param == "avi" else ("libx264", {"g": "30", "preset": "veryfast"})
    )
    return encode(path, map(numbered, range(SECONDS * RATE)), rate=RATE, codec=codec, options=options)


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [
        (None, "0.2", 0, 4),
        ("1", "2", 25, 49),
        ("0:12", "13.0", 300, 324),
        ("15.5", None, 388, 399),
        ("0.99", "1.01", 25, 25),
    ],
)
def test_a_part_holds_every_frame_from_its_first_moment_to_its_end(long_clip, start, stop, first, last):
    reader = VideoReader(long_clip, Options(start=start, stop=stop))
    assert [number_of(frame) for frame in reader] == list(range(first, last + 1))
    info = reader.info
    np.testing.assert_allclose(info.timestamps_s, np.arange(last - first + 1) / RATE, atol=1.1e-3)
    assert info.start_s == pytest.approx(first / RATE, abs=1.1e-3)
    assert info.fps == pytest.approx(RATE)


def test_a_part_without_frames_is_a_value_error(tmp_path):
    path = encode(tmp_path / "short.mp4", map(numbered, range(10)), rate=RATE)
    with pytest.raises(ValueError, match=r"short.mp4 has no frame in the chosen part, .* from 3 s on; .* 0.360 s"):
        probe(path, Options(start="3"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1:30.5", 90.5), (" 0:07 ", 7), ("1:02:03", 3723), (".5", 0.5)]
)
def test_times_are_seconds_or_minutes_and_seconds(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:2:3:4", "nan", "inf", "1e5", "1:", "5s", "99999999999"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="seconds or minutes:seconds"):
        Options(stop=text)


def test_slow_motion_divides_times_and_multiplies_the_rate(tmp_path):
    path = encode(tmp_path / "slow.mp4", map(numbered, range(20)), rate=Fraction(30000, 1001))
    info = probe(path, Options(slow_motion=8.0))
    assert info.num_frames == 20
    assert info.fps == pytest.approx(8 * 30000 / 1001)
    np.testing.assert_allclose(info.timestamps_s, np.arange(20) * 1001 / 30000 / 8)


# AAC, MP3 and Opus are copied as they are, from MPEG-TS with another wrapping; the others become AAC.
SOUNDS = {"aac.mp4": "aac", "aac.ts": "aac", "mp3.mkv": "libmp3lame", "opus.webm": "libopus", "pcm.mov": "pcm_s16le"}
PARTS = [{}, {"start": "1.2", "stop": "2.2"}, {"start": "0.7", "slow_motion": 2.0}]


@pytest.mark.parametrize("name", SOUNDS)
def test_a_written_video_keeps_the_sound_in_step(tmp_path, name):
    clip = flash_and_click(tmp_path / name, SOUNDS[name])
    for part in PARTS:
        options = Options(**part)
        reader = VideoReader(clip, options)
        frames = list(reader)
        write_video(tmp_path / "out.mp4", frames, reader.info, has_sound=True)
        flash, click = flash_and_click_times(tmp_path / "out.mp4")
        assert flash == pytest.approx((1.5 - options.start_s) / options.slow_motion, abs=0.002)
        assert click == pytest.approx(flash, abs=0.015)  # a change of tempo moves sounds by some milliseconds
        assert probe(tmp_path / "out.mp4").num_frames == len(frames)
        with av.open(str(tmp_path / "out.mp4")) as written:
            (sound,) = written.streams.audio
            is_copied = options.slow_motion == 1 and not name.startswith("pcm")
            assert sound.codec_context.name == (name.split(".")[0].replace("mp3", "mp3float") if is_copied else "aac")
            assert sound.duration * sound.time_base <= len(frames) / reader.info.fps + 0.1


def test_sound_that_cannot_be_read_costs_no_picture(tmp_path):
    clip = flash_and_click(tmp_path / "clip.mov", "pcm_s16le")
    content = clip.read_bytes()
    clip.write_bytes(content.replace(b"sowt", b"zzzz"))
    reader = VideoReader(clip)
    assert write_video(tmp_path / "out.mp4", list(reader), reader.info, has_sound=True) == 90
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert not written.streams.audio


def test_a_clip_without_sound_gives_a_video_without(tmp_path):
    clip = encode(tmp_path / "silent.mp4", map(numbered, range(5)))
    reader = VideoReader(clip)
    write_video(tmp_path / "out.mp4", list(reader), reader.info, has_sound=True)
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert [stream.type for stream in written.streams] == ["video"]
