"""Pictures as players show them: orientation, size, colors, fields and burnt-in borders, on files made here."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from app.options import Options
from app.video.picture.bars import BarFinder
from app.video.reader import VideoReader, probe
from tests.video_files import (
    FPS,
    INTERLACED,
    encode,
    join,
    sample_frames,
    set_display_matrix,
    with_bars,
    with_blurred_sides,
)

CORNERS = ((200, 20, 20), (20, 160, 20), (20, 20, 200), (90, 90, 90))  # top left, top right, bottom left, bottom right
MATRICES = [(a, 0, 0, d) for a, d in itertools.product((1, -1), repeat=2)] + [
    (0, b, c, 0) for b, c in itertools.product((1, -1), repeat=2)
]


def quarters(width: int = 96, height: int = 64) -> np.ndarray:
    frame = np.zeros((height, width, 3), np.uint8)
    for number, color in enumerate(CORNERS):
        y, x = divmod(number, 2)
        frame[y * height // 2 : (y + 1) * height // 2, x * width // 2 : (x + 1) * width // 2] = color
    return frame


def seen_corners(frame: np.ndarray) -> list[int]:
    """Return which of CORNERS is seen at top left, top right, bottom left and bottom right."""
    height, width = frame.shape[:2]
    colors = [frame[height * y // 4, width * x // 4].astype(int) for y, x in itertools.product((1, 3), repeat=2)]
    return [int(np.abs(np.array(CORNERS) - color).sum(axis=1).argmin()) for color in colors]


@pytest.fixture(scope="module")
def frames(root) -> list[np.ndarray]:
    return sample_frames(root, step=4)


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_whole_display_matrix_is_applied(tmp_path: Path, suffix: str, matrix: tuple[int, int, int, int]) -> None:
    path = encode(tmp_path / f"clip{suffix.replace('mkv', 'mp4')}", [quarters()] * 2)
    set_display_matrix(path, *matrix)
    if suffix == ".mkv":  # has no matrix but angles: FFmpeg writes those of the stream that it copies
        path = join(tmp_path / "clip.mkv", [path])
    reader = VideoReader(path)
    frame = next(iter(reader))
    a, b, c, d = matrix
    points = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)])  # corners of the stored picture, y down
    shown = points @ np.array([[a, b], [c, d]])
    expected = [int(np.flatnonzero((shown == point).all(axis=1))[0]) for point in points]
    assert seen_corners(frame) == expected
    assert frame.shape == (reader.height, reader.width, 3)
    info = probe(path)
    assert info.is_mirrored == (a * d - b * c < 0)
    undone = np.rot90(frame[:, ::-1] if info.is_mirrored else frame, -info.rotation // 90)
    assert seen_corners(undone) == [0, 1, 2, 3]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotate_turns_clockwise_what_the_file_shows(tmp_path: Path, degrees: int) -> None:
    path = encode(tmp_path / "clip.mp4", [quarters()] * 2)
    set_display_matrix(path, -1, 0, 0, 1)  # mirrored
    shown = next(iter(VideoReader(path)))
    turned = next(iter(VideoReader(path, Options(rotate=degrees))))
    np.testing.assert_array_equal(turned, np.rot90(shown, -degrees // 90))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_call_that_begins_small_is_read_in_the_size_of_most_frames(tmp_path, frames, codec):
    small = [cv2.resize(f, (96, 72), interpolation=cv2.INTER_AREA) for f in frames[:4]]
    options = {"crf": "20", "b": "400k", "deadline": "realtime", "cpu-used": "8"}
    parts = [
        encode(tmp_path / f"{k}.webm", part, codec=codec, options=options) for k, part in enumerate((small, frames))
    ]
    reader = VideoReader(join(tmp_path / "call.webm", parts))
    seen = list(reader)
    assert [frame.shape for frame in seen] == [(480, 640, 3)] * 19
    assert np.abs(seen[6].astype(int) - frames[2]).mean() < 6
    assert np.abs(seen[0].astype(int) - frames[0]).mean() < 15  # enlarged
    (warning,) = reader.info.warnings
    assert "size changes" in warning
    assert "640 x 480" in warning


def test_a_phone_that_is_turned_while_it_records_keeps_the_proportions(tmp_path):
    disk = np.full((160, 90, 3), 40, np.uint8)
    cv2.circle(disk, (45, 80), 30, (220, 220, 220), -1)
    parts = [
        encode(tmp_path / f"{k}.ts", [frame] * count, options={"crf": "16"})
        for k, (frame, count) in enumerate(((disk, 12), (np.ascontiguousarray(disk.transpose(1, 0, 2)), 5)))
    ]
    path = tmp_path / "turned.h264"
    path.write_bytes(b"".join(_annex_b(part) for part in parts))
    seen = list(VideoReader(path))
    assert {frame.shape for frame in seen} == {(160, 90, 3)}
    for frame in (seen[0], seen[-1]):
        bright = np.argwhere(frame[..., 0] > 130)
        height, width = np.ptp(bright, axis=0) + 1
        assert height == pytest.approx(width, abs=2)
    assert seen[-1][:30].max() < 30  # black above what was fitted in


def _annex_b(path: Path) -> bytes:
    """Return the raw H.264 of a transport stream."""
    with av.open(str(path)) as container:
        return b"".join(bytes(packet) for packet in container.demux(video=0))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_track_with_the_most_pictures_is_the_video(tmp_path, suffix):
    path = tmp_path / f"two{suffix}"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=FPS) for codec in ("mjpeg", "libx264")]
        for stream, size, kind in zip(streams, ((64, 36), (96, 64)), ("yuvj420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, kind
        for stream, count in zip(streams, (3, 20), strict=True):
            for _ in range(count):
                picture = av.VideoFrame.from_ndarray(quarters(stream.width, stream.height), format="rgb24")
                container.mux(stream.encode(picture.reformat(format=stream.pix_fmt)))
            container.mux(stream.encode(None))
    info = probe(path)
    assert (info.width, info.height, info.num_frames) == (96, 64, 20)


# FFmpeg's numbers of color matrices that its scaler refuses, and of one for which it has a relative.
@pytest.mark.parametrize(
    ("matrix", "name"), [(8, "YCgCo"), (10, "BT.2020 constant"), (14, "ICtCp"), (11, "SMPTE 2085")]
)
def test_color_matrices_that_cannot_be_undone_are_decoded_with_a_warning(tmp_path, matrix, name):
    path = encode(tmp_path / "odd.mp4", [quarters()] * 3, tags={"colorspace": matrix})
    reader = VideoReader(path)
    seen = list(reader)
    assert len(seen) == 3
    assert seen_corners(seen[0]) == [0, 1, 2, 3]
    (warning,) = reader.info.warnings
    assert name in warning


def _hdr(rgb: np.ndarray, transfer: int) -> av.VideoFrame:
    """Return an SDR picture as BT.2020 HDR whose white has 203 cd/m^2 (ITU-R BT.2408), by BT.2100's formulas."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
    nits = 203 * (rgb / 255.0) ** 2.4 @ to_2020.T
    if transfer == 16:  # PQ
        y = (nits / 10_000) ** (2610 / 16384)
        signal = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    else:  # HLG on a display of 1000 cd/m^2
        luminance = np.maximum(nits @ [0.2627, 0.678, 0.0593], 1e-6)[..., None]
        scene = nits / 1000 * (luminance / 1000) ** (1 / 1.2 - 1)
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    frame = av.VideoFrame.from_ndarray((signal.clip(0, 1) * 65535).astype(np.uint16), format="rgb48le")
    return frame.reformat(format="yuv420p10le", dst_colorspace="BT2020", dst_color_range="MPEG")


@pytest.mark.parametrize(("transfer", "matrix"), [(16, 9), (18, 10)], ids=["PQ", "HLG in another matrix"])
def test_hdr_looks_as_the_sdr_picture_that_it_was_made_of(tmp_path, frames, transfer, matrix):
    small = cv2.resize(frames[0], (160, 120), interpolation=cv2.INTER_AREA)
    tags = {"colorspace": matrix, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    path = tmp_path / "hdr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p10le"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for _ in range(2):
            container.mux(stream.encode(_hdr(small, transfer)))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    seen, _ = reader
    assert len(reader.info.warnings) == (matrix != 9)
    # Without tone mapping the mean difference is 32 (PQ) and 19 (HLG) of 255 levels; chroma subsampling alone costs 1.
    assert np.abs(seen.astype(int) - small).mean() < 4


def test_interlaced_pictures_become_whole_and_none_is_lost(tmp_path):
    def at(x: float) -> np.ndarray:
        frame = np.full((96, 160, 3), 60, np.uint8)
        frame[20:76, round(x) : round(x) + 30] = 220
        return frame

    woven = []
    for k in range(12):
        frame = at(8 * k)
        frame[1::2] = at(8 * k + 4)[1::2]
        woven.append(frame)
    options = {"crf": "14", "x264-params": "tff=1"}
    reader = VideoReader(encode(tmp_path / "fields.ts", woven, rate=25, options=options, flags=INTERLACED))
    seen = list(reader)
    assert len(seen) == reader.info.num_frames == 12
    np.testing.assert_allclose(reader.info.timestamps_s, np.arange(12) / 25, atol=1e-6)
    combs = [np.abs(np.diff(each[22:74, :, 0].astype(int), axis=0)).mean() for each in (woven[6], seen[6])]
    assert combs[1] < 0.1 * combs[0]
    assert len(list(VideoReader(encode(tmp_path / "one.ts", woven[:1], options=options, flags=INTERLACED)))) == 1


@pytest.mark.parametrize(("left", "top", "color"), [(107, 0, 0), (0, 60, 255), (80, 40, 32)])
def test_bars_around_the_picture_are_found(tmp_path, frames, left, top, color):
    path = encode(tmp_path / "bars.mp4", [with_bars(frame, left, top, color) for frame in frames[:4]])
    info = probe(path)
    np.testing.assert_allclose(info.bars, (left, top, left, top), atol=2)
    assert any("Borders" in warning for warning in info.warnings)


def test_blurred_sides_are_found(tmp_path, frames):
    portrait = [np.ascontiguousarray(frame[:, 200:470]) for frame in frames[:4]]
    path = encode(tmp_path / "blurred.mp4", [with_blurred_sides(frame, 854) for frame in portrait])
    np.testing.assert_allclose(VideoReader(path).bars, (292, 0, 292, 0), atol=2)


@pytest.mark.parametrize("color", [0, 128, 255])
def test_a_plain_background_is_no_border(frames, color):
    finder = BarFinder()
    for k, _ in enumerate(frames[:4]):
        plain = np.full((240, 320, 3), color, np.uint8)
        cv2.ellipse(plain, (150 + 5 * k, 120), (30, 90), 0, 0, 360, (90, 140, 200), -1)  # somebody before a plain wall
        finder.see(lambda plain=plain: plain)
    assert not any(finder.find())


def test_the_sample_clip_has_no_borders(root):
    assert not any(VideoReader(root / "assets" / "walk_wave.mp4").bars)
