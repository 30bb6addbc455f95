"""``Sound``: the sound of a clip on its way into a new MP4, in step with the frames that were chosen."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph

from app.video.decode import open_video
from app.video.video_info import VideoInfo

log = logging.getLogger(__name__)
COPIED = ("aac", "mp3", "mp3float", "opus")  # what browsers play in MP4; the rest becomes AAC
RATE = 48_000  # Hz, of encoded sound


class Sound:
    """Reads the sound that belongs to the frames of ``info`` from ``info.path``. Close it.

    Slow motion is undone by playing faster at the same pitch. Sound that cannot be read ends early, or is missing: it
    never costs the video.

    Args:
        info: The frames.
        output: An MP4 without packets so far; gets a stream of sound if the clip has one.
    """

    def __init__(self, info: VideoInfo, output: av.container.OutputContainer) -> None:
        self._info = info
        self._input = open_video(info.path)
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None
        end = info.timestamps_s[-1] + 1 / info.median_fps
        self._end_s = float(end)  # of the output
        source = self._input.streams.best("audio")
        if isinstance(source, AudioStream) and source.codec_context is not None:
            with contextlib.suppress(av.FFmpegError, ValueError):
                self._packets = self._start(source, output)
        self._next = self._following()

    def close(self) -> None:
        """Close the clip."""
        self._input.close()

    def until(self, time_s: float) -> Iterator[av.Packet]:
        """Yield packets for the output that begin before a time of the output and were not yielded yet."""
        while self._next is not None and _seconds(self._next) < time_s:
            yield self._next
            self._next = self._following()

    def _start(self, source: AudioStream, output: av.container.OutputContainer) -> Iterator[av.Packet]:
        if source.codec_context.name in COPIED and self._info.slow_motion == 1:
            return self._copied(source, output.add_stream_from_template(source))
        target = output.add_stream("aac", rate=RATE, layout="mono" if source.codec_context.channels == 1 else "stereo")
        return self._encoded(source, target)

    def _following(self) -> av.Packet | None:
        try:
            return next(self._packets, None)
        except (av.FFmpegError, ValueError) as error:
            log.warning("the sound of %s ends early: %s", self._info.path.name, error)
            return None

    def _copied(self, source: AudioStream, target: AudioStream) -> Iterator[av.Packet]:
        """Yield packets as they are; the first one may begin before the first frame, players cut it."""
        last = None
        for packet in self._input.demux(source):
            if packet.pts is None or packet.dts is None or packet.time_base is None or not packet.size:
                continue
            offset = round(self._info.file_start_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            if _seconds(packet) >= self._end_s:
                return
            if packet.pts + (packet.duration or 0) < 0 or (last is not None and packet.dts <= last):
                continue
            last = packet.dts
            packet.stream = target
            yield packet

    def _encoded(self, source: AudioStream, target: AudioStream) -> Iterator[av.Packet]:
        graph: Graph | None = None
        for frame in self._input.decode(source):
            if frame.pts is None or frame.time_base is None:
                continue
            time_s = _seconds(frame) - self._info.file_start_s
            if time_s / self._info.slow_motion >= self._end_s:
                break
            if time_s + frame.samples / frame.sample_rate <= 0:
                continue
            frame.pts = round(time_s / frame.time_base)
            graph = graph or self._graph_for(frame, target)
            graph.push(frame)
            yield from self._pull(graph, target)
        if graph is not None:
            graph.push(None)
            yield from self._pull(graph, target)
            yield from target.encode(None)

    def _graph_for(self, frame: AudioFrame, target: AudioStream) -> Graph:
        """Return filters that begin at 0, with silence if the sound begins later, and make the encoder's frames."""
        graph = Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout, time_base=frame.time_base
        )
        nodes = [source, graph.add("aresample", f"{RATE}:async=1:first_pts=0")]
        if self._info.slow_motion != 1:
            nodes.append(graph.add("atempo", f"{self._info.slow_motion:.6f}"))
        form = f"sample_fmts=fltp:sample_rates={RATE}:channel_layouts={target.layout.name}"
        nodes += [graph.add("aformat", form), graph.add("abuffersink")]
        graph.link_nodes(*nodes).configure()
        graph.set_audio_frame_size(target.frame_size or 1024)
        return graph

    def _pull(self, graph: Graph, target: AudioStream) -> Iterator[av.Packet]:
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if isinstance(frame, AudioFrame) and _seconds(frame) < self._end_s:
                yield from target.encode(frame)


def _seconds(item: av.Packet | AudioFrame) -> float:
    return float((item.pts or 0) * (item.time_base or 0))
