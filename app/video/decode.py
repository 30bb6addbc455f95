"""The door to video files: an opened container, its stream of moving pictures, and the pictures that decode."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import av
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.video.file_signatures import ADVICE, container_of

MAX_SIDE = 16384  # px; libx264 encodes nothing larger
MAX_PIXELS = 40_000_000  # 8K; a header that claims more is damaged or hostile
FALLBACK_FPS = 25.0  # only for a single picture or a stream without any timing
SEARCH_MARGIN_S = 10.0  # how far before a moment decoding begins; key frames are rarely farther apart
NO_VIDEO = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails

# Containers that are one file. Playlists (HLS, DASH, concat) are left out: they make the reader open other files.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,mxf,nut,ivf,dv,rm,wtv,"
    "h264,hevc,m4v"
)


def open_video(path: Path) -> av.container.InputContainer:
    """Return an opened video file, read as what its first bytes say; close it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no video, or a kind that makes the reader open other files.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no video at {path}; check the path")
    if not path.is_file():
        raise ValueError(f"cannot read {path}: it is a folder or device, expected a video file; name the file itself")
    try:
        # An absolute path is never taken for a protocol such as "concat:".
        return av.open(
            str(path.absolute()),
            format=container_of(path),
            options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise ValueError(f"cannot read {path} as a video ({error.strerror}); {ADVICE}") from error


def video_stream(path: Path, container: av.container.InputContainer) -> VideoStream:
    """Return the stream with the most pictures (cover art and thumbnails are none), ready for threaded decoding.

    Raises:
        ValueError: There is none, its codec is unknown, or its pictures are larger than ``MAX_SIDE``, ``MAX_PIXELS``.
    """
    streams = [s for s in container.streams.video if not s.disposition & NO_VIDEO]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams}))
        what = f"no video stream, only {kinds}" if kinds else "no video stream, nor any other"
        raise ValueError(f"{path} holds {what}; expected moving pictures: choose a video file")
    # FFmpeg knows a stream whose codec it cannot decode, PyAV then gives it no context.
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise ValueError(
            f"cannot read {path}: its video codec is unknown, damaged or not supported; expected one such as H.264, "
            "HEVC, VP9 or AV1: convert it to H.264"
        )
    stream = streams[0]
    if len(streams) > 1:
        counts = {s.index: s.frames for s in streams}
        if not all(counts.values()):
            counts = _count_packets(path)
        stream = max(streams, key=lambda s: (counts[s.index], s.width * s.height))
    _check_size(path, stream.width, stream.height)
    # Not by frame: then how much of a damaged file decodes depends on timing, and two passes may differ.
    stream.thread_type = "SLICE"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def _count_packets(path: Path) -> Counter[int]:
    """Return how many packets every stream of a file holds, by its index, as far as the file can be read."""
    counts: Counter[int] = Counter()
    with open_video(path) as container, contextlib.suppress(av.FFmpegError):
        for packet in container.demux(*container.streams.video):
            counts[packet.stream_index] += packet.size > 0
    return counts


def decode(path: Path, warnings: list[str], start_s: float = 0.0) -> Generator[VideoFrame, None, None]:
    """Yield frames that decode, in order of display; add a sentence to ``warnings`` if some did not.

    Args:
        path: The file.
        warnings: Gets its sentence when the frames end or the generator is closed.
        start_s: On the stream's clock. If the file can be searched, frames long before this are left out.

    Raises:
        FileNotFoundError, ValueError: As ``open_video`` and ``video_stream``.
    """
    if start_s > SEARCH_MARGIN_S:
        met: list[str] = []
        with contextlib.closing(_decode(path, met, start_s - SEARCH_MARGIN_S)) as frames:
            first = next(frames, None)
            if first is not None and first.pts is not None and first.time <= start_s:
                yield first
                yield from frames
                warnings += met
                return
    yield from _decode(path, warnings, None)


def seek(container: av.container.InputContainer, stream: VideoStream, start_s: float) -> None:
    """Go to the key frame before a time on the stream's clock; stay where the file cannot be searched."""
    if stream.time_base:
        with contextlib.suppress(av.FFmpegError):
            container.seek(int(start_s / stream.time_base), stream=stream)


def _decode(path: Path, warnings: list[str], start_s: float | None) -> Generator[VideoFrame, None, None]:
    num_damaged = 0
    problem = ""
    with open_video(path) as container:
        stream = video_stream(path, container)
        if start_s is not None:
            seek(container, stream, start_s)
        packets = container.demux(stream)
        is_open = True
        try:
            while is_open:
                try:
                    packet = next(packets, None)
                except av.FFmpegError as error:  # nothing can be read beyond this point
                    packet, problem = None, f"reading stopped early ({error.strerror})"
                is_open = packet is not None
                num_damaged += packet is not None and packet.is_corrupt
                try:
                    frames = stream.decode(packet)
                except av.error.EOFError:  # the demuxer's own last, empty packet has already drained the decoder
                    continue
                except av.FFmpegError:  # one damaged packet; the next key frame makes the picture whole again
                    num_damaged += not (packet is not None and packet.is_corrupt)
                    continue
                for frame in frames:
                    _check_size(path, frame.width, frame.height)
                    yield frame
        finally:
            if num_damaged:
                problem = problem or f"{num_damaged} piece(s) of its video could not be decoded"
            if problem:
                warnings.append(f"{path.name} is damaged or cut off: {problem}; the frames that decode were used.")


def first_frame(path: Path) -> VideoFrame:
    """Return the first picture that decodes.

    Raises:
        FileNotFoundError, ValueError: As ``decode``, or there is none.
    """
    with contextlib.closing(decode(path, [])) as frames:
        first = next(frames, None)
    if first is None:
        raise ValueError(
            f"cannot read {path}: its video stream holds no frame that decodes; expected at least one: "
            "the file is damaged or cut off, copy or export it again"
        )
    return first


def _check_size(path: Path, width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ValueError(
            f"the picture of {path} is {width} x {height} px, expected at most {MAX_SIDE} px a side and "
            f"{MAX_PIXELS // 1_000_000} million px; scale the video down first"
        )
