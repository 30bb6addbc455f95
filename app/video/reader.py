"""Video in and out: ``VideoReader`` streams upright RGB frames, ``probe`` counts, ``write_video`` encodes H.264."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.video.decode import FALLBACK_FPS, decode, first_frame, open_video, video_stream
from app.video.video_info import VideoInfo

UNSPECIFIED = 2

_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


class VideoReader:
    """Streams a video as upright RGB uint8 (H, W, 3) frames; every ``for`` loop is a fresh pass over the same frames.

    Only one frame is held. The rotation flag of phones is applied. A damaged or cut-off file yields the frames that
    decode and leaves a sentence in ``info.warnings``. Playlists are refused: one path reads one file.

    Attributes:
        path: The file.
        width: Pixels of the upright picture.
        height: Pixels of the upright picture.
        rotation: Degrees counter-clockwise by which stored pictures are turned: 0, 90, 180 or 270.
        approx_num_frames: What the container claims, None if it claims nothing; good for progress bars only.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Not a video, no video stream, no frame decodes, or the picture is larger than ``MAX_SIDE`` px a
            side or ``MAX_PIXELS`` px in all.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._info: VideoInfo | None = None
        first = first_frame(self.path)
        with open_video(self.path) as container:
            stream = video_stream(self.path, container)
            aspect = _pixel_aspect(stream)
            self.approx_num_frames = _approx_num_frames(stream, container.duration)
            self._rates = [rate for rate in (stream.guessed_rate, stream.average_rate) if rate]
        self._stored_size = (first.width, first.height)
        self._shown_size = (max(1, round(first.width * aspect)), first.height)
        self.rotation = round(first.rotation / 90) * 90 % 360
        self.width, self.height = self._shown_size[:: -1 if self.rotation in (90, 270) else 1]

    @property
    def info(self) -> VideoInfo:
        """The video as counted in the last complete pass; RuntimeError before there was one."""
        if self._info is None:
            raise RuntimeError(f"info of {self.path} is known only after all its frames were read once")
        return self._info

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.decoded():
            rgb = _to_rgb(frame, self._shown_size)
            yield cv2.rotate(rgb, _TURNS[self.rotation]) if self.rotation else rgb

    def decoded(self) -> Iterator[VideoFrame]:
        """Yield the stored pictures neither turned nor converted; ``info`` is known when it is exhausted."""
        warnings: list[str] = []
        pts: list[int | None] = []
        dts: list[int | None] = []
        time_base = Fraction(1)
        sizes = set()
        for frame in decode(self.path, warnings):
            pts.append(frame.pts)
            dts.append(frame.dts)
            time_base = frame.time_base or time_base
            sizes.add((frame.width, frame.height))
            yield frame
        if sizes - {self._stored_size}:
            warnings.append(
                f"The picture size changes within {self.path.name}; all frames were resized to the first one's."
            )
        self._info = self._summary(min(pts, dts, key=_num_faulty), time_base, warnings)

    def _summary(self, pts: list[int | None], time_base: Fraction, warnings: list[str]) -> VideoInfo:
        nominal_fps = float(self._rates[0]) if self._rates else FALLBACK_FPS
        timestamps_s, num_repaired = _timestamps_s(pts, time_base, 1 / nominal_fps)
        if num_repaired:
            warnings.append(
                f"{num_repaired} of {len(pts)} frames of {self.path.name} carry no usable time; "
                f"they were put {1 / nominal_fps:.4f} s after the frame before."
            )
        fps, is_constant = _frame_rate(timestamps_s, float(time_base), self._rates)
        return VideoInfo(
            path=self.path,
            width=self.width,
            height=self.height,
            fps=fps,
            num_frames=len(pts),
            rotation=self.rotation,
            timestamps_s=timestamps_s,
            has_constant_rate=is_constant,
            warnings=tuple(warnings),
        )


def probe(path: Path | str) -> VideoInfo:
    """Return what is known about a video after decoding all of it once, without converting a picture to RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As for ``VideoReader``.
    """
    reader = VideoReader(path)
    for _ in reader.decoded():
        pass
    return reader.info


def _to_rgb(frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Return the picture as RGB uint8 (H, W, 3) of ``size`` (width, height)."""
    # Untagged pictures are BT.709 from 720 lines on, BT.601 below: what cameras write and players assume.
    is_untagged_hd = frame.colorspace == UNSPECIFIED and min(frame.width, frame.height) >= 720
    rgb = np.asarray(frame.to_ndarray(format="rgb24", src_colorspace="ITU709" if is_untagged_hd else None), np.uint8)
    if (frame.width, frame.height) == size:
        return rgb
    shrinks = size[0] < frame.width or size[1] < frame.height
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def _pixel_aspect(stream: VideoStream) -> float:
    """Return width over height of a pixel: 1 but for DV, DVD, HDV and the like; nonsense counts as 1."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.2 < aspect < 5 else 1.0


def _approx_num_frames(stream: VideoStream, duration_us: int | None) -> int | None:
    if stream.frames:
        return stream.frames
    if not stream.average_rate:
        return None
    if stream.duration and stream.time_base:
        return max(1, round(stream.duration * stream.time_base * stream.average_rate))
    return max(1, round(duration_us / 1e6 * stream.average_rate)) if duration_us else None


def _num_faulty(ticks: list[int | None]) -> int:
    """Return how many times are missing or not later than the last one; AVI has good ``dts`` where ``pts`` jump."""
    num_faulty, last = 0, None
    for tick in ticks:
        if tick is None or (last is not None and tick <= last):
            num_faulty += 1
        else:
            last = tick
    return num_faulty


def _timestamps_s(pts: list[int | None], time_base: Fraction, frame_s: float) -> tuple[np.ndarray, int]:
    """Return (T,) float64 seconds from the first frame on, strictly increasing, and how many had to be repaired.

    A time that is missing or not later than the one before becomes the one before plus ``frame_s``.
    """
    start = next((p for p in pts if p is not None), 0)
    times: list[float] = []
    num_repaired = 0
    for p in pts:
        # Integer arithmetic up to one rounded division: the double nearest to the true time.
        time = None if p is None else (p - start) * time_base.numerator / time_base.denominator
        if time is None or (times and time <= times[-1]):
            time = times[-1] + frame_s if times else 0.0
            num_repaired += 1
        times.append(time)
    return np.array(times, np.float64), num_repaired


def _frame_rate(timestamps_s: np.ndarray, tick_s: float, rates: list[Fraction]) -> tuple[float, bool]:
    """Return mean frames per second and whether the rate is constant.

    A rate named by the container is taken as it is (30000/1001 stays exact) if every time agrees with it to one tick
    of the container's clock. Otherwise it is the mean, constant if no frame or interval is a tenth of a frame off.
    """
    index = np.arange(len(timestamps_s))
    if len(index) == 1:
        return (float(rates[-1]) if rates else FALLBACK_FPS), True
    for rate in rates:
        if np.abs(timestamps_s - index / float(rate)).max() <= 1.001 * tick_s:
            return float(rate), True
    fps = (len(index) - 1) / float(timestamps_s[-1])
    drift = np.abs(timestamps_s * fps - index).max()
    jitter = np.abs(np.diff(timestamps_s) * fps - 1).max()
    return fps, bool(max(drift, jitter) < 0.1)
