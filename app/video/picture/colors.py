"""``RgbConverter``: decoded frames to RGB pictures as screens show them, whatever their color tags say."""

from __future__ import annotations

import threading

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

# FFmpeg's numbers: AVColorSpace, AVColorPrimaries, AVColorTransferCharacteristic.
BT709, UNSPECIFIED, BT2020 = 1, 2, 9
WIDE_GAMUT = (10, 13, 14)  # BT.2020 constant luminance, chroma-derived constant luminance, ICtCp
NAMES = {
    3: "reserved", 8: "YCgCo", 10: "BT.2020 constant luminance", 11: "SMPTE 2085",
    12: "chroma-derived non-constant luminance", 13: "chroma-derived constant luminance", 14: "ICtCp", 15: "IPT-C2",
    16: "YCgCo-Re", 17: "YCgCo-Ro",
}  # fmt: skip
HDR = (16, 18)  # transfer characteristics: PQ, HLG
RANGES = (0, 1, 2)  # unspecified, limited, full


class RgbConverter:
    """Turns frames into RGB uint8, in any thread; keeps the tables of FFmpeg's scaler, which take seconds for HDR.

    HDR (PQ or HLG, BT.2020) is mapped to the range and gamut of ordinary screens by FFmpeg, perceptually. A color
    matrix that FFmpeg cannot undo is taken for the nearest one that it can, with a warning.

    Attributes:
        warnings: Sentences about colors that may be off.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._reformatter = VideoReformatter()
        self._lock = threading.Lock()

    def convert(self, frame: VideoFrame) -> np.ndarray:
        """Return the stored picture (H, W, 3), not turned."""
        is_hdr = frame.color_trc in HDR
        # Untagged pictures are BT.709 from 720 lines on, BT.601 below: what cameras write and players assume.
        if frame.colorspace == UNSPECIFIED and (is_hdr or min(frame.width, frame.height) >= 720):
            frame.colorspace = BT2020 if is_hdr else BT709
        with self._lock:
            for attempt in (self._warn_of_matrix, self._neutralize, None):
                try:
                    rgb = self._reformat(frame)
                    break
                except OSError as error:
                    if attempt is None or isinstance(error, av.error.MemoryError):
                        raise
                    attempt(frame)
        return np.asarray(rgb.to_ndarray(), np.uint8)

    def _reformat(self, frame: VideoFrame) -> VideoFrame:
        if frame.color_trc not in HDR:
            return self._reformatter.reformat(frame, format="rgb24")
        if frame.color_primaries == UNSPECIFIED:
            frame.color_primaries = BT2020
        return self._reformatter.reformat(frame, format="rgb24", dst_color_trc=BT709, dst_color_primaries=BT709)

    def _warn_of_matrix(self, frame: VideoFrame) -> None:
        """Replace a color matrix that FFmpeg refuses, with a warning."""
        name = NAMES.get(frame.colorspace, f"number {frame.colorspace}")
        text = f"Its colors are coded in a way that cannot be undone exactly ({name}): they may look wrong."
        if text not in self.warnings:
            self.warnings.append(text)
        frame.colorspace = BT2020 if frame.colorspace in WIDE_GAMUT or frame.color_trc in HDR else UNSPECIFIED

    def _neutralize(self, frame: VideoFrame) -> None:
        """Remove the other tags that FFmpeg may have refused."""
        frame.color_trc = frame.color_primaries = UNSPECIFIED
        frame.color_range = frame.color_range if frame.color_range in RANGES else 0
