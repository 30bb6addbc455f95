"""Reading and writing video: counts, times, rotation and damage, on files made here with PyAV."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from app.video.reader import VideoReader, probe
from app.video.video_info import VideoInfo
from app.video.writer import write_video

WIDTH, HEIGHT = 96, 64
NTSC = Fraction(30000, 1001)
# 4:2:0 and quantization: a flat color comes back within a few of 255 levels.
COLOR_TOLERANCE = 4


def picture(k: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a textured picture whose top left quarter is red and which changes with k."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    gray = ((x * 3 + y * 2 + 9 * k) % 200).astype(np.uint8)
    rgb = np.stack([gray, gray, gray], axis=-1)
    rgb[: height // 2, : width // 2] = (200, 20, 20)
    return rgb


def make_video(
    path: Path,
    num_frames: int,
    rate: Fraction = NTSC,
    ticks: list[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    codec: str = "libx264",
) -> Path:
    """Write ``num_frames`` pictures; ``ticks`` are their times in 1/1000 s, None the constant rate."""
    time_base = 1 / rate if ticks is None else Fraction(1, 1000)
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        stream.codec_context.time_base = time_base
        for k in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(k, *size), format="rgb24")
            frame.pts = k if ticks is None else ticks[k]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def set_rotation(path: Path, degrees_clockwise: int) -> None:
    """Overwrite the display matrix in an MP4's track header, as a phone writes it (ISO 14496-12, 8.3.2)."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees_clockwise]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    one = 1 << 16
    content[start : start + 36] = struct.pack(">9i", a * one, b * one, 0, -b * one, a * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def info_for(num_frames: int, fps: float = 30.0, timestamps_s: np.ndarray | None = None) -> VideoInfo:
    is_constant = timestamps_s is None
    times = np.arange(num_frames) / fps if timestamps_s is None else timestamps_s
    return VideoInfo(Path("made up"), WIDTH, HEIGHT, fps, num_frames, 0, times, is_constant)


@pytest.fixture
def ntsc_clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "clip.mp4", 30)


def test_29_97_fps_survives_with_exact_times(ntsc_clip: Path) -> None:
    info = probe(ntsc_clip)
    assert info.fps == 30000 / 1001
    assert info.has_constant_rate
    assert info.num_frames == 30
    np.testing.assert_allclose(info.timestamps_s, np.arange(30) * 1001 / 30000, rtol=0, atol=1e-12)
    assert info.warnings == ()


def test_two_passes_give_the_same_frames(ntsc_clip: Path) -> None:
    reader = VideoReader(ntsc_clip)
    for first, second in zip(reader, list(reader), strict=True):
        np.testing.assert_array_equal(first, second)


def test_frames_are_upright_rgb(ntsc_clip: Path) -> None:
    frame = next(iter(VideoReader(ntsc_clip)))
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame.dtype == np.uint8
    np.testing.assert_allclose(frame[10, 10], (200, 20, 20), atol=10)


def test_size_is_known_before_and_info_only_after_a_pass(ntsc_clip: Path) -> None:
    reader = VideoReader(ntsc_clip)
    assert (reader.width, reader.height, reader.rotation) == (WIDTH, HEIGHT, 0)
    assert reader.approx_num_frames == 30
    frames = iter(reader)
    next(frames)
    with pytest.raises(RuntimeError, match="after all its frames"):
        _ = reader.info
    assert sum(1 for _ in frames) == 29
    assert reader.info.num_frames == 30


# Where the red corner of the stored picture must be seen: (row, column) as shares of the upright picture.
@pytest.mark.parametrize(
    ("clockwise", "corner"), [(90, (0.2, 0.8)), (180, (0.8, 0.8)), (270, (0.8, 0.2))], ids=["90", "180", "270"]
)
def test_rotation_flag_is_applied(tmp_path: Path, clockwise: int, corner: tuple[float, float]) -> None:
    path = make_video(tmp_path / "phone.mp4", 3)
    set_rotation(path, clockwise)
    reader = VideoReader(path)
    frame = next(iter(reader))
    assert frame.shape[:2] == ((HEIGHT, WIDTH) if clockwise == 180 else (WIDTH, HEIGHT))
    assert frame.shape[:2] == (reader.height, reader.width)
    assert reader.rotation == 360 - clockwise
    row, column = (int(share * side) for share, side in zip(corner, frame.shape[:2], strict=True))
    np.testing.assert_allclose(frame[row, column], (200, 20, 20), atol=10)


def test_odd_size_is_read_and_written_padded_to_even(tmp_path: Path) -> None:
    reader = VideoReader(make_video(tmp_path / "odd.mp4", 4, size=(97, 63)))
    assert (reader.width, reader.height) == (97, 63)
    frames = list(reader)
    written = tmp_path / "even.mp4"
    write_video(written, frames, reader.info)
    copy = VideoReader(written)
    assert (copy.width, copy.height) == (98, 64)
    padded = next(iter(copy)).astype(int)
    # H.264 at crf 20 blurs the texture by a few levels on average.
    assert np.abs(padded[:63, :97] - frames[0]).mean() < 5
    assert np.abs(padded[:63, 97] - frames[0][:, 96]).mean() < 10


@pytest.mark.parametrize("name", ["vfr.mkv", "vfr.mp4"])
def test_variable_rate_keeps_every_time(tmp_path: Path, name: str) -> None:
    ticks = [0, 33, 67, 167, 200, 400, 433, 467, 500, 900]
    info = probe(make_video(tmp_path / name, len(ticks), ticks=ticks))
    assert not info.has_constant_rate
    np.testing.assert_allclose(info.timestamps_s, np.array(ticks) / 1000, atol=1e-9)
    assert info.fps == pytest.approx(9 / 0.9)


def test_a_dropped_frame_makes_the_rate_variable(tmp_path: Path) -> None:
    ticks = [40 * k for k in range(40) if k != 35]
    assert not probe(make_video(tmp_path / "drop.mp4", len(ticks), Fraction(25), ticks=ticks)).has_constant_rate


def test_millisecond_containers_keep_29_97(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "clip.mkv", 40))
    assert info.fps == 30000 / 1001
    assert info.has_constant_rate


def test_missing_times_are_repaired_with_the_frame_duration(tmp_path: Path) -> None:
    # A raw H.264 stream carries no times at all.
    info = probe(make_video(tmp_path / "raw.h264", 12, Fraction(25)))
    np.testing.assert_allclose(info.timestamps_s, np.arange(12) / 25)
    assert "no usable time" in info.warnings[0]


def test_single_frame(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "one.mp4", 1))
    assert info.num_frames == 1
    assert info.timestamps_s.tolist() == [0.0]
    assert info.fps == pytest.approx(float(NTSC))


@pytest.mark.parametrize("share", [0.35, 0.7, 0.95])
def test_truncated_file_gives_what_decodes_and_says_so(tmp_path: Path, share: float) -> None:
    whole = make_video(tmp_path / "whole.mp4", 60).read_bytes()
    start = whole.index(b"mdat")  # the index before it stays, else nothing opens
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: start + int(share * (len(whole) - start))])
    info = probe(path)
    assert 0 < info.num_frames < 60
    assert "damaged or cut off" in info.warnings[0]
    assert sum(1 for _ in VideoReader(path)) == info.num_frames


def test_damage_in_the_middle_does_not_end_the_clip(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", 60)
    content = bytearray(path.read_bytes())
    middle = (len(content) + content.index(b"mdat")) // 2
    content[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(content)
    info = probe(path)
    assert info.num_frames > 40
    assert info.timestamps_s[-1] == pytest.approx(59 * 1001 / 30000)


def test_changed_picture_size_is_brought_to_the_first(tmp_path: Path) -> None:
    # Two raw streams one after the other: the decoder switches at the second one's parameter sets.
    small = make_video(tmp_path / "a.h264", 5)
    large = make_video(tmp_path / "b.h264", 5, size=(160, 128))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    reader = VideoReader(path)
    assert [frame.shape for frame in reader] == [(HEIGHT, WIDTH, 3)] * 10
    assert any("size changes" in warning for warning in reader.info.warnings)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
        VideoReader(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize(
    "content", [b"", b"this is a text\n" * 50, b"\x00\x00\x00\x20ftypisom"], ids=["empty", "text", "head"]
)
def test_what_is_no_video_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.mp4"):
        VideoReader(path)


def test_folder_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        VideoReader(tmp_path)


def test_audio_only_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="no video stream, only audio"):
        VideoReader(path)


def test_unknown_codec_is_a_value_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", 3)
    content = path.read_bytes()
    at = content.rindex(b"avc1")  # the sample description; an earlier one is the file's brand
    path.write_bytes(content[:at] + b"zzzz" + content[at + 4 :])
    with pytest.raises(ValueError, match="codec"):
        VideoReader(path)


def test_no_decodable_frame_is_a_value_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", 5)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(ValueError, match="no frame that decodes"):
        VideoReader(path)


def test_huge_picture_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "wide.mkv", 1, size=(16400, 16), codec="ffv1")
    with pytest.raises(ValueError, match="16400 x 16"):
        VideoReader(path)


def test_playlist_does_not_open_other_files(ntsc_clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{ntsc_clip.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(ValueError, match="as a video"):
        VideoReader(path)


@pytest.mark.parametrize("fps", [30000 / 1001, 24000 / 1001, 25.0, 12.5, 10.0, 29.871234])
def test_written_constant_rate_comes_back(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "overlay.mp4.part"  # the name does not choose the container
    assert write_video(path, map(picture, range(20)), info_for(20, fps)) == 20
    info = probe(path)
    # 1e-9: rates that are no simple fraction are written as one with a denominator below 100 000.
    assert info.fps == pytest.approx(fps, rel=1e-9)
    assert info.has_constant_rate
    assert info.num_frames == 20
    np.testing.assert_allclose(info.timestamps_s, np.arange(20) / fps, atol=1e-6)


def test_written_variable_rate_comes_back(tmp_path: Path) -> None:
    times = np.array([0, 0.033, 0.1, 0.1001, 0.5, 0.51, 2.0])
    path = tmp_path / "vfr.mp4"
    write_video(path, map(picture, range(7)), info_for(7, 6 / 2.0, times))
    info = probe(path)
    assert not info.has_constant_rate
    np.testing.assert_allclose(info.timestamps_s, times, atol=1 / 90_000)


@pytest.mark.parametrize("times", [None, np.array([0, 0.03, 0.2, 0.21, 0.4])], ids=["constant", "variable"])
def test_first_written_frame_is_at_zero(tmp_path: Path, times: np.ndarray | None) -> None:
    path = tmp_path / "out.mp4"
    write_video(path, map(picture, range(5)), info_for(5, 12.0, times))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).pts == 0


@pytest.mark.parametrize(
    "color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 146, 43), (120, 120, 120), (255, 255, 255)]
)
@pytest.mark.parametrize("size", [(64, 96), (720, 1280)], ids=["SD", "HD"])
def test_colors_survive(tmp_path: Path, color: tuple[int, int, int], size: tuple[int, int]) -> None:
    path = tmp_path / "flat.mp4"
    write_video(path, [np.full((*size, 3), color, np.uint8)] * 2, info_for(2))
    for frame in VideoReader(path):
        assert np.abs(frame.astype(int) - color).max() <= COLOR_TOLERANCE


def test_written_file_is_tagged_bt709_and_starts_fast(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write_video(path, map(picture, range(5)), info_for(5))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("num_given", [0, 4, 6])
def test_wrong_number_of_frames_leaves_no_file(tmp_path: Path, num_given: int) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(ValueError, match=r"expected.* 5"):
        write_video(path, map(picture, range(num_given)), info_for(5))
    assert not path.exists()


def test_exception_while_drawing_leaves_no_file(tmp_path: Path) -> None:
    def frames():
        yield picture(0)
        yield picture(1)
        raise KeyboardInterrupt

    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        write_video(path, frames(), info_for(5))
    assert not path.exists()


def test_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frame 1 has shape"):
        write_video(tmp_path / "out.mp4", [picture(0), picture(1, 32, 32)], info_for(2))


def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path):
    path = tmp_path / "anamorphic.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 144, 108, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)  # 4:3 stored, 16:9 meant
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((108, 144, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    assert {frame.shape for frame in reader} == {(108, 192, 3)}
    assert (reader.info.width, reader.info.height) == (192, 108)
