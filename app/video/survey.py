"""``survey``: what must be known of a whole video before its first frame is shown, from its key frames alone."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.video.decode import SEARCH_MARGIN_S, open_video, seek, video_stream
from app.video.picture.bars import NO_BARS, BarFinder, Bars
from app.video.picture.display import Display
from app.video.picture.orientation import Orientation

MAX_SIZES = 8  # of pictures in which borders are looked for; more are hostile
INTRA_STEP = 30  # of key frames that follow each other, as in MJPEG and ProRes, every so many are decoded


@dataclass(frozen=True, slots=True)
class Survey:
    """What the key frames of a video tell.

    Attributes:
        size: Width and height of the shown picture of most frames.
        orientation: How these are shown.
        bars: Borders burnt into the pictures of this size.
        num_packets: About the number of frames.
    """

    size: tuple[int, int]
    orientation: Orientation
    bars: Bars
    num_packets: int


def survey(path: Path, display: Display, span_s: tuple[float, float], first: VideoFrame) -> Survey:
    """Read all packets of a video, decode its key frames; pictures change their size only there.

    Args:
        path: The video.
        display: Fresh, for this pass.
        span_s: First moment and end, on the file's clock, of the part that counts.
        first: The first frame, for a video without key frames.
    """
    frames: list[tuple[tuple[int, int], Orientation]] = []  # sizes and orientations of key frames
    finders: dict[tuple[int, int], BarFinder] = {}
    weights = [0]  # packets before the first key frame, and from every one to the next

    def see(frame: VideoFrame) -> None:
        size = display.size(frame)
        frames.append((size, display.orientation(frame)))
        if size in finders or len(finders) < MAX_SIZES:
            finders.setdefault(size, BarFinder()).see(partial(display.show, frame))

    with open_video(path) as container:
        stream = video_stream(path, container)
        if span_s[0] > SEARCH_MARGIN_S:
            seek(container, stream, span_s[0])
        _read(container, stream, span_s, weights, see)
    if not frames:
        see(first)
        weights.append(1)
    counts: Counter[tuple[tuple[int, int], Orientation]] = Counter()
    for shown, weight in zip(frames, weights[1:], strict=False):
        counts[shown] += weight
    size, orientation = max(counts, key=lambda shown: counts[shown])
    bars = finders[size].find() if size in finders else NO_BARS
    return Survey(size, orientation, bars, sum(weights))


def _read(
    container: av.container.InputContainer,
    stream: VideoStream,
    span_s: tuple[float, float],
    weights: list[int],
    see: Callable[[VideoFrame], None],
) -> None:
    """Give key frames to ``see``, and count the packets that follow each into ``weights``; stop where damage does."""
    since_decoded = 0
    was_key = False
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            if (time := _time(packet, packet.dts)) is not None and time >= span_s[1]:
                break
            since_decoded += 1
            if packet.size and packet.is_keyframe and (not was_key or since_decoded >= INTRA_STEP):
                weights.append(0)
                since_decoded = 0
                with contextlib.suppress(av.FFmpegError):
                    for frame in stream.decode(packet):
                        see(frame)
            was_key = packet.is_keyframe
            time = _time(packet, packet.pts)
            weights[-1] += packet.size > 0 and (time is None or span_s[0] <= time < span_s[1])
    with contextlib.suppress(av.FFmpegError):
        for frame in stream.decode(None):
            see(frame)


def _time(packet: av.Packet, tick: int | None) -> float | None:
    return None if tick is None or packet.time_base is None else float(tick * packet.time_base)
