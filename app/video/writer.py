"""``write_video`` encodes RGB frames as H.264 in MP4 that browsers play, with the sound of the clip they are from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from app.video.sound import Sound
from app.video.video_info import VideoInfo

VFR_TIME_BASE = Fraction(1, 90_000)

# FFmpeg's numbers, the same in AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic.
BT709 = 1
LIMITED_RANGE = 1


def write_video(
    path: Path | str, frames: Iterable[np.ndarray], info: VideoInfo, *, has_sound: bool = False, threads: int = 0
) -> int:
    """Write RGB uint8 (H, W, 3) frames as H.264 in MP4 that browsers play; return the number of frames.

    Frame k is shown at ``info.timestamps_s[k]``: an exact rational rate when it is constant, else per-frame times on a
    1/90000 s grid. An odd width or height grows by one: the last column or row is repeated. The container is MP4
    whatever the name; no file is left behind when an exception passes through.

    Args:
        path: File to write, replaced if it exists.
        frames: ``info.num_frames`` pictures of one size, which need not be that of ``info``.
        info: Gives count, rate and times.
        has_sound: Whether to take the sound that belongs to these frames from ``info.path``, if it has any.
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
    encoder = _Encoder(path, first, info, has_sound=has_sound, threads=threads)
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

    def __init__(self, path: Path, first: np.ndarray, info: VideoInfo, *, has_sound: bool, threads: int) -> None:
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
        self._sound = Sound(info, self._container) if has_sound else None

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
        self._add_sound(float(self._info.timestamps_s[self.num_frames]))
        self.num_frames += 1

    def finish(self) -> None:
        if self.num_frames != self._info.num_frames:
            raise ValueError(
                f"cannot write {self._path}: got {self.num_frames} frames, expected {self._info.num_frames}"
            )
        self._container.mux(self._stream.encode(None))
        self._add_sound(math.inf)
        self._container.close()
        if self._sound is not None:
            self._sound.close()

    def _add_sound(self, until_s: float) -> None:
        if self._sound is not None:
            for packet in self._sound.until(until_s):
                self._container.mux(packet)

    def discard(self) -> None:
        if self._sound is not None:
            self._sound.close()
        with contextlib.suppress(av.FFmpegError):  # the file goes anyway
            self._container.close()
        self._path.unlink(missing_ok=True)


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
