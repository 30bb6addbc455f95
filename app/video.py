"""Video in and out: ``VideoReader`` streams upright RGB frames, ``probe`` counts, ``write_video`` encodes H.264."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.container import FALLBACK_FPS, decode, first_frame, open_video, video_stream
from app.results import VideoInfo

VFR_TIME_BASE = Fraction(1, 90_000)

# FFmpeg's numbers, the same in AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic.
BT709 = 1
UNSPECIFIED = 2
LIMITED_RANGE = 1

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


def write_video(path: Path | str, frames: Iterable[np.ndarray], info: VideoInfo, *, threads: int = 0) -> int:
    """Write RGB uint8 (H, W, 3) frames as H.264 in MP4 that browsers play; return the number of frames.

    Frame k is shown at ``info.timestamps_s[k]``: an exact rational rate when it is constant, else per-frame times on a
    1/90000 s grid. An odd width or height grows by one: the last column or row is repeated. The container is MP4
    whatever the name; no file is left behind when an exception passes through.

    Args:
        path: File to write, replaced if it exists.
        frames: ``info.num_frames`` pictures of one size, which need not be that of ``info``.
        info: Gives count, rate and times.
        threads: Encoder threads, 0 for as many as there are cores.

    Raises:
        ValueError: A frame is no uint8 (H, W, 3) array or changes size, or their number is not ``info.num_frames``.
        RuntimeError: The encoder refuses, for instance a picture wider than ``MAX_SIDE``.
        OSError: The disk is full or the folder cannot be written to.
    """
    path = Path(path)
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"cannot write {path}: got 0 frames, expected {info.num_frames}")
    encoder = _Encoder(path, first, info, threads)
    try:
        encoder.add(first)
        for frame in iterator:
            encoder.add(frame)
        encoder.finish()
    except av.FFmpegError as error:
        encoder.discard()
        raise RuntimeError(
            f"cannot write {path}: the encoder says {error.strerror!r}; frames are {first.shape}"
        ) from error
    except BaseException:
        encoder.discard()
        raise
    return encoder.num_frames


class _Encoder:
    """One H.264 MP4 being written."""

    def __init__(self, path: Path, first: np.ndarray, info: VideoInfo, threads: int) -> None:
        self.num_frames = 0
        self._path = path
        self._shape = _checked_shape(first)
        self._info = info
        rate = _as_rational(info.fps)
        if info.has_constant_rate:
            self._time_base = 1 / rate
            self._pts = np.arange(info.num_frames, dtype=np.int64)
        else:
            self._time_base = VFR_TIME_BASE
            self._pts = _strictly_increasing(np.rint(info.timestamps_s / float(VFR_TIME_BASE)).astype(np.int64))
        # A last frame has no successor: it stays for the mean frame time.
        self._durations = np.diff(self._pts, append=self._pts[-1:] + max(1, round(1 / rate / self._time_base)))
        self._container = av.open(str(path.absolute()), "w", format="mp4", options={"movflags": "+faststart"})
        # superfast is 15 % faster and doubles the file (1000x480 overlays). A key frame each 2 s, for scrubbing.
        options = {"crf": "20", "preset": "veryfast", "g": str(max(1, round(2 * info.fps)))}
        self._stream = self._container.add_stream("libx264", rate=rate, options=options)
        self._stream.height, self._stream.width = (side + side % 2 for side in self._shape[:2])
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = self._time_base
        context.thread_count = threads
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE

    def add(self, rgb: np.ndarray) -> None:
        if _checked_shape(rgb) != self._shape:
            raise ValueError(f"frame {self.num_frames} has shape {rgb.shape}, expected that of frame 0: {self._shape}")
        if self.num_frames == self._info.num_frames:
            raise ValueError(f"cannot write {self._path}: got more than the expected {self._info.num_frames} frames")
        height, width = self._shape[:2]
        if height % 2 or width % 2:
            rgb = cv2.copyMakeBorder(rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts = int(self._pts[self.num_frames])
        frame.duration = int(self._durations[self.num_frames])
        frame.time_base = self._time_base
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def finish(self) -> None:
        if self.num_frames != self._info.num_frames:
            raise ValueError(
                f"cannot write {self._path}: got {self.num_frames} frames, expected {self._info.num_frames}"
            )
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def discard(self) -> None:
        with contextlib.suppress(av.FFmpegError):  # the file goes anyway
            self._container.close()
        self._path.unlink(missing_ok=True)


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


def _as_rational(fps: float) -> Fraction:
    """Return the simple fraction that is ``fps``, such as 30000/1001, else one closer than 1e-9 of it."""
    for limit in (1, 1001, 100_000):
        rate = Fraction(fps).limit_denominator(limit)
        if rate and abs(float(rate) - fps) <= 1e-12 * fps:
            break
    return rate or Fraction(1, limit)


def _strictly_increasing(pts: np.ndarray) -> np.ndarray:
    """Return int64 times in which frames that fell on the same tick follow each other by one tick."""
    index = np.arange(len(pts))
    return np.maximum.accumulate(pts - index) + index


def _checked_shape(rgb: np.ndarray) -> tuple[int, ...]:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"a frame must be uint8 RGB of shape (H, W, 3), got {rgb.dtype} {rgb.shape}")
    return rgb.shape
