"""Bad uploads, made the same every time: no videos, false claims, references to other files, cut off, broken."""

from __future__ import annotations

import gzip
import struct
import tempfile
import zipfile
import zlib
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{}</BaseURL></Period></MPD>\n'
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
# Good clips may be called all of this; none may do harm or be lost.
NAMES = (
    "it's a \"walk\".mp4", "line\nbreak.mp4", "\u202egnp.4pm.mp4", "-o.mp4", "concat:a.mp4|b.mp4", "$(touch gone).mp4",
    "a%2e%2e%2fb.mp4", "back\\slash.mp4", " .mp4", "x" * 251 + ".mp4", "file:clip.mp4", "?query#hash.mp4", "%d%05d.mp4",
)  # fmt: skip


def clip(
    kind: str = "mp4",
    codec: str = "libx264",
    size=(96, 64),
    ticks: list[int] | None = None,
    pix_fmt="yuv420p",
    rate: int = 30,
    **options,
) -> bytes:
    """Return a video of 12 pictures at ``rate`` per second, or of one at each tick of 1/1000 s."""
    base = Fraction(1, rate) if ticks is None else Fraction(1, 1000)
    with (
        tempfile.NamedTemporaryFile() as file,  # +faststart reads again what it has written
        av.open(file.name, "w", format=kind, options=options) as container,
    ):
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        for k, tick in enumerate(range(12) if ticks is None else ticks):
            rgb = np.full((size[1], size[0], 3), 20 * k % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = tick, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.close()
        return Path(file.name).read_bytes()


def sound(kind: str, codec: str) -> bytes:
    content = BytesIO()
    with av.open(content, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        for packet in av.AudioResampler(stream.format, stream.layout, 48000).resample(frame):
            container.mux(stream.encode(packet))
        container.mux(stream.encode(None))
    return content.getvalue()


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", 8 + len(content) if size is None else size) + kind + content


def boxes(mp4: bytes) -> list[tuple[bytes, int, int]]:
    """Return (kind, start, end) of the top-level boxes."""
    found, start = [], 0
    while start < len(mp4):
        size = struct.unpack_from(">I", mp4, start)[0]
        found.append((mp4[start + 4 : start + 8], start, start + size))
        start += size
    return found


def patched(content: bytes, after: bytes, offset: int, new: bytes) -> bytes:
    """Return ``content`` with ``new`` at ``offset`` bytes behind the last ``after``."""
    start = content.rindex(after) + len(after) + offset
    return content[:start] + new + content[start + len(new) :]


@cache
def contents() -> dict[str, bytes]:
    """Return files that must be refused, by name."""
    return {**_no_videos(), **_cut_off(), **_wrong_headers(), **_beyond_limits()}


def _no_videos() -> dict[str, bytes]:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("clip.mp4"), clip())
    gray = np.full((64, 96, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    return {
        "empty.mp4": b"",
        "text.mp4": b"this is a text\n" * 400,
        "text_utf16.mp4": ("this is a text\n" * 400).encode("utf-16"),
        "zeros.mp4": bytes(100_000),
        "noise.mp4": rng.bytes(100_000),
        "html.mp4": b"<!DOCTYPE html><title>Not found</title>",
        "playlist.mp4": PLAYLIST.format("good.mp4").encode(),
        "playlist_of_a_secret.mp4": PLAYLIST.format("file:///etc/passwd").encode(),
        "playlist_on_the_net.mp4": PLAYLIST.format("http://127.0.0.1:1/a.ts").encode(),
        "playlist_after_spaces.mp4": b"\xef\xbb\xbf \n" + PLAYLIST.format("good.mp4").encode(),
        "concat.mp4": b"ffconcat version 1.0\nfile 'good.mp4'\n",
        "concat_without_head.mp4": b"file 'good.mp4'\nduration 1\n",
        "dash.mp4": DASH.format("good.mp4").encode(),
        "session.mp4": SDP.encode(),
        "picture_series_%d.mp4": b"\x89PNG\r\n\x1a\n",
        "png.mp4": cv2.imencode(".png", gray)[1].tobytes(),
        "jpeg.mp4": cv2.imencode(".jpg", gray)[1].tobytes(),
        "webp.mp4": cv2.imencode(".webp", gray)[1].tobytes(),
        "heif.mp4": box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(64)),
        "zip.mp4": archive.getvalue(),
        "gzip.mp4": gzip.compress(clip(), mtime=0),
        "pdf.mp4": b"%PDF-1.7\n%%EOF",
        "program.mp4": b"\x7fELF" + bytes(200),
        "pickle.mp4": b"\x80\x04cos\nsystem\n(S'touch gone'\ntR.",
        "sound.mp4": sound("mp4", "aac"),
        "sound.ogg": sound("ogg", "libopus"),
        "sound.wav": sound("wav", "pcm_s16le"),
        "raw.h264": clip("h264"),
    }


def _cut_off() -> dict[str, bytes]:
    late, early = clip(), clip(movflags="+faststart")
    files = {}
    for order, whole in (("late", late), ("early", early)):
        parts = boxes(whole)
        for number, (kind, start, end) in enumerate(parts):
            name = f"index_{order}_{number}_{kind.decode()}"
            files[f"{name}_cut_in_its_size.mp4"] = whole[: start + 3]
            if number < len(parts) - 1:
                files[f"{name}_cut_behind.mp4"] = whole[: end - 1]
    mkv, ts, avi = clip("matroska"), clip("mpegts"), clip("avi", "mpeg4")
    return {
        **files,
        "head_only.mkv": mkv[:60],
        "head_only.avi": avi[: avi.index(b"movi")],
        "tables_only.ts": ts[: 3 * 188],
        "stuffing_only.ts": (b"G\x1f\xff\x10" + bytes(184)) * 20,
        "head_only.flv": b"FLV\x01\x01\0\0\0\x09\0\0\0\0",
        "head_only.wmv": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(14),
        "head_only.mpg": b"\x00\x00\x01\xba" + bytes(20),
        "head_only.gif": b"GIF89a\x10\0\x10\0\0\0\0",
    }


def _wrong_headers() -> dict[str, bytes]:
    good = clip()
    (moov,) = (start for kind, start, _ in boxes(good) if kind == b"moov")
    rng = np.random.default_rng(1)
    garbled = bytearray(good)
    garbled[moov + 8 :] = rng.bytes(len(good) - moov - 8)
    deep = b""
    for _ in range(3000):
        deep = box(b"moov", deep)
    squeezed = zlib.compress(bytes(10_000_000), 9)
    bomb = box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", 0xFFFFFFF0) + squeezed))
    mkv = clip("matroska")
    return {
        "huge_box.mp4": good[:moov] + struct.pack(">I", 0xFFFFFFFF) + b"m00v" + good[moov + 8 :],
        "negative_box.mp4": good[:moov] + struct.pack(">I4sQ", 1, b"moov", (1 << 64) - 16) + good[moov + 8 :],
        "box_smaller_than_its_head.mp4": good[:moov] + struct.pack(">I", 7) + good[moov + 4 :],
        "boxes_in_boxes.mp4": box(b"ftyp", b"isom\0\0\0\0isom") + deep,
        "compressed_index_bomb.mp4": box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"moov", bomb),
        "no_samples.mp4": patched(good, b"stsz", 8, bytes(4)),
        "billions_of_samples.mp4": patched(good, b"stsz", 4, struct.pack(">II", 1, 0xFFFFFFF0)),
        "unknown_codec.mp4": patched(good, b"avc1", -4, b"zzzz"),
        "encrypted.mp4": patched(good, b"avc1", -4, b"encv"),
        "no_parameters.mp4": patched(good, b"avcC", 0, b"\xff" * 30),
        "garbled_index.mp4": bytes(garbled),
        "endless_element.mkv": mkv[:4] + b"\x01\xff\xff\xff\xff\xff\xff\xfe" + mkv[5:],
        "garbled.mkv": mkv[:60] + rng.bytes(len(mkv) - 60),
    }


def _beyond_limits() -> dict[str, bytes]:
    good = clip()
    avi = clip("avi", "rawvideo")
    return {
        "one_pixel.mkv": clip("matroska", "ffv1", (1, 1), pix_fmt="yuv444p"),
        "one_line.mkv": clip("matroska", "ffv1", (4096, 2), pix_fmt="yuv420p"),
        "wide.mkv": clip("matroska", "ffv1", (16400, 16)),
        "claims_20000x20000.avi": patched(avi, b"strf", 8, struct.pack("<II", 20000, 20000)),
        "claims_65535x65535.gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
        "15360_per_second.mp4": patched(good, b"stts", 12, struct.pack(">I", 1)),
        "for_years.mp4": patched(good, b"stts", 12, struct.pack(">I", 0x3FFFFFFF)),
        "clock_of_4_GHz.mp4": patched(good, b"mdhd", 12, struct.pack(">I", 0xFFFFFFFF)),
        "1000_per_second.mkv": clip("matroska", ticks=list(range(12))),
        "long_pause.mkv": clip("matroska", ticks=[0, 33, 400_000]),
    }  # fmt: skip
