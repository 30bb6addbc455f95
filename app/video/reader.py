"""``VideoReader`` streams a video as upright RGB frames, one by one; ``probe`` counts them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.options import Options
from app.video.decode import FALLBACK_FPS, decode, first_frame, open_video, video_stream
from app.video.picture.colors import RgbConverter
from app.video.picture.deinterlacing import deinterlaced
from app.video.picture.display import Display, letterboxed
from app.video.survey import survey
from app.video.timing import FrameClock, frame_rate, num_faulty, repaired_timestamps, time_of
from app.video.video_info import VideoInfo


class VideoReader:
    """Streams a video as RGB uint8 (H, W, 3) frames as players show them; every ``for`` loop is a fresh pass.

    Only a few frames are held. The whole display matrix is applied, mirrors too; interlaced pictures become whole ones;
    HDR is mapped to ordinary screens; pictures of another size than most are letterboxed. A damaged or cut-off file
    yields the frames that decode and leaves a sentence in ``info.warnings``. Playlists are refused: one path reads one
    file.

    Args:
        path: The file.
        options: For ``rotate``, ``start``, ``stop`` and ``slow_motion``.

    Attributes:
        path: The file.
        width: Pixels of the shown picture.
        height: Pixels of the shown picture.
        rotation: Degrees counter-clockwise by which stored pictures are turned: 0, 90, 180 or 270.
        bars: Borders burnt into the shown picture.
        approx_num_frames: As counted in packets; good for progress bars only.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Not a video, no video stream, no frame decodes, or the picture is larger than ``MAX_SIDE`` px a
            side or ``MAX_PIXELS`` px in all.
    """

    def __init__(self, path: Path | str, options: Options = Options()) -> None:
        self.path = Path(path)
        self._options = options
        self._info: VideoInfo | None = None
        self._converter = RgbConverter()
        first = first_frame(self.path)
        with open_video(self.path) as container:
            stream = video_stream(self.path, container)
            self._pixel_aspect = _pixel_aspect(stream)
            self._rates = [rate for rate in (stream.guessed_rate, stream.average_rate) if rate]
        self._first_s = time_of(first)
        span_s = (self._first_s + options.start_s, self._first_s + options.stop_s)
        self._survey = survey(self.path, self._display(), span_s, first)
        self.width, self.height = self._survey.size
        self.bars = self._survey.bars
        self.rotation = self._survey.orientation.rotation
        self.approx_num_frames = self._survey.num_packets or None

    @property
    def info(self) -> VideoInfo:
        """The video as counted in the last complete pass; RuntimeError before there was one."""
        if self._info is None:
            raise RuntimeError(f"info of {self.path} is known only after all its frames were read once")
        return self._info

    def __iter__(self) -> Iterator[np.ndarray]:
        display, clock, warnings = self._display(), self._clock(), list[str]()
        for frame in deinterlaced(self._frames(clock, warnings)):
            yield letterboxed(display.show(frame), self._survey.size)
        self._info = self._summary(clock, display, warnings)

    def count(self) -> VideoInfo:
        """Return ``info`` after a pass in which pictures are neither turned nor converted."""
        display, clock, warnings = self._display(), self._clock(), list[str]()
        for frame in self._frames(clock, warnings):
            display.size(frame)
        self._info = self._summary(clock, display, warnings)
        return self._info

    def _display(self) -> Display:
        return Display(self._pixel_aspect, self._options.rotate, self._converter)

    def _clock(self) -> FrameClock:
        nominal_fps = float(self._rates[0]) if self._rates else FALLBACK_FPS
        return FrameClock(self._first_s, nominal_fps, self._options.start_s, self._options.stop_s)

    def _frames(self, clock: FrameClock, warnings: list[str]) -> Iterator[VideoFrame]:
        """Yield the stored frames of the chosen part."""
        start_s = self._first_s + self._options.start_s
        with contextlib.closing(decode(self.path, warnings, start_s if self._options.start_s else 0.0)) as frames:
            for frame in frames:
                is_chosen = clock.note(frame)
                if is_chosen is None:
                    return
                if is_chosen:
                    yield frame

    def _summary(self, clock: FrameClock, display: Display, warnings: list[str]) -> VideoInfo:
        if not clock.pts:
            raise ValueError(
                f"{self.path} has no frame in the chosen part, expected one from {self._options.start_s:g} s on; its "
                f"last one is at {clock.last_s:.3f} s: choose an earlier part (--from, --to)"
            )
        warnings = [*warnings, *self._converter.warnings]
        if any(self.bars):
            inner = "{} x {}".format(*self.bars.inner_size(self.width, self.height))
            warnings.append(
                f"Borders are burnt into {self.path.name}: the {inner} px inside them count for field of view and size."
            )
        if len(display.sizes) > 1:
            warnings.append(
                f"The picture size changes within {self.path.name}; frames of another size than "
                f"{self.width} x {self.height} were fitted into it, with black bars."
            )
        pts = min(clock.pts, clock.dts, key=num_faulty)
        timestamps_s, num_repaired = repaired_timestamps(pts, clock.time_base, clock.frame_s)
        if num_repaired:
            warnings.append(
                f"{num_repaired} of {len(pts)} frames of {self.path.name} carry no usable time; "
                f"they were put {clock.frame_s:.4f} s after the frame before."
            )
        fps, is_constant = frame_rate(timestamps_s, float(clock.time_base), self._rates)
        slow_motion = self._options.slow_motion
        return VideoInfo(
            path=self.path,
            width=self.width,
            height=self.height,
            fps=fps * slow_motion,
            num_frames=len(pts),
            rotation=self.rotation,
            timestamps_s=timestamps_s / slow_motion,
            has_constant_rate=is_constant,
            warnings=tuple(warnings),
            is_mirrored=self._survey.orientation.is_mirrored,
            start_s=clock.start_s,
            slow_motion=slow_motion,
            file_start_s=self._first_s + clock.start_s,
            bars=self.bars,
        )


def probe(path: Path | str, options: Options = Options()) -> VideoInfo:
    """Return what is known about a video after decoding all of it once, without converting a picture to RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As for ``VideoReader``.
    """
    return VideoReader(path, options).count()


def _pixel_aspect(stream: VideoStream) -> float:
    """Return width over height of a pixel: 1 but for DV, DVD, HDV and the like; nonsense counts as 1."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.2 < aspect < 5 else 1.0
