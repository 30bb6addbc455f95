"""``deinterlaced``: pictures that hold two fields, taken at two moments, become whole pictures of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph
from av.video.frame import VideoFrame

LEAST_SIDE = 4  # px; bwdif takes no smaller picture


def deinterlaced(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield as many frames in the same order, those that are marked as interlaced with their first field made whole.

    By FFmpeg's bwdif. Frames before the first interlaced one pass untouched. Times are not kept.
    """
    graph, shape = None, None
    for frame in frames:
        if graph is not None and shape != _shape(frame):
            yield from _push(graph, None)
            graph = None
        if graph is None and frame.interlaced_frame and min(frame.width, frame.height) >= LEAST_SIDE:
            graph, shape = _graph_for(frame), _shape(frame)
        yield from [frame] if graph is None else _push(graph, frame)
    if graph is not None:
        yield from _push(graph, None)


def _shape(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _graph_for(frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _push(graph: Graph, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """Yield what a graph gives for one more frame, or for the end."""
    graph.vpush(frame)
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
