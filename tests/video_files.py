"""Small video files of every kind that people have, made the same every time."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

FPS = 30
INTERLACED = (1 << 18) | (1 << 29)  # flags of FFmpeg's encoders: fields in DCT and in motion


def sample_frames(root: Path, first: int = 80, last: int = 140, step: int = 1) -> list[np.ndarray]:
    """Return RGB frames (480, 640, 3) of the sample clip: the walk ends, the wave begins."""
    with av.open(str(root / "assets" / "walk_wave.mp4")) as clip:
        return [f.to_ndarray(format="rgb24") for k, f in enumerate(clip.decode(video=0)) if first <= k < last][::step]


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: int | Fraction = FPS,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    **settings: Any,
) -> Path:
    """Write RGB uint8 frames, or uint16 ones of ``pix_fmt`` that is RGB; ``tags`` are colors, ``settings`` flags."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        for number, frame in enumerate(frames):
            if not number:
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], pix_fmt
                for name, value in {**(tags or {}), **settings}.items():
                    setattr(stream.codec_context, name, value)
            picture = frame
            if isinstance(frame, np.ndarray):
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def join(path: Path, parts: Sequence[Path]) -> Path:
    """Write the packets of several files one after the other as one stream."""
    shown = 0
    with av.open(str(path), "w") as container:
        stream = None
        for part in parts:
            with av.open(str(part)) as source:
                stream = stream or container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = round(shown / FPS / packet.time_base)
                        packet.stream = stream
                        container.mux(packet)
                        shown += 1
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Overwrite the display matrix in an MP4's or MOV's track header (ISO 14496-12, 8.3.2)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    one = 1 << 16
    content[start : start + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def with_bars(frame: np.ndarray, left: int, top: int, color: int) -> np.ndarray:
    """Return a frame between equal bars of a gray."""
    return cv2.copyMakeBorder(frame, top, top, left, left, cv2.BORDER_CONSTANT, value=(color,) * 3)


def with_blurred_sides(frame: np.ndarray, width: int) -> np.ndarray:
    """Return a frame in the middle of itself, enlarged to ``width`` and blurred."""
    scale = width / frame.shape[1]
    large = cv2.resize(frame, None, fx=scale, fy=scale)
    top, left = (large.shape[0] - frame.shape[0]) // 2, (width - frame.shape[1]) // 2
    out = cv2.GaussianBlur(large[top : top + frame.shape[0]], (0, 0), 12)
    out[:, left : left + frame.shape[1]] = frame
    return out


def flash_and_click(path: Path, audio_codec: str, at_s: float = 1.5, num_frames: int = 90) -> Path:
    """Write gray pictures, three of them bright from ``at_s`` on, and a beep of 0.1 s at the same time."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream(audio_codec, rate=48000, layout="mono")
        wave = np.zeros(48000 * num_frames // FPS, np.float32)
        begin = int(48000 * at_s)
        wave[begin : begin + 4800] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(4800) / 48000)
        context = audio.codec_context
        resampler = av.AudioResampler(context.format, "mono", 48000, context.frame_size or 1024)
        for start in range(0, len(wave) - 960, 960):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 960], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            for part in resampler.resample(frame):
                container.mux(audio.encode(part))
        for part in resampler.resample(None):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
        for number in range(num_frames):
            level = 230 if 0 <= number - at_s * FPS < 3 else 60
            picture = av.VideoFrame.from_ndarray(np.full((64, 96, 3), level, np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return path


def flash_and_click_times(path: Path) -> tuple[float, float]:
    """Return when the first bright picture and the beep begin, in seconds on the file's clock."""
    with av.open(str(path)) as container:
        flash = next(f.time for f in container.decode(video=0) if f.to_ndarray(format="rgb24").mean() > 150)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()).max(axis=0) > 0.2)
            if len(loud):
                return flash, frame.time + loud[0] / frame.sample_rate
    raise ValueError(f"{path} holds no beep")
