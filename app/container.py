"""The door to video files: what kind a file is, by its first bytes, its stream of pictures, and the pictures in it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import av
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

MAX_SIDE = 16384  # px; libx264 encodes nothing larger
MAX_PIXELS = 40_000_000  # 8K; a header that claims more is damaged or hostile
HEAD_BYTES = 4096

# Containers that are one file. Playlists (HLS, DASH, concat) are left out: they make the reader open other files.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,mxf,nut,ivf,dv,rm,wtv,"
    "h264,hevc,m4v"
)
# FFmpeg's name of the container, by bytes at a place of the file; all of a row must be there.
SIGNATURES: tuple[tuple[str, dict[int, bytes]], ...] = (
    *(("mov", {4: kind}) for kind in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")),
    ("matroska", {0: b"\x1a\x45\xdf\xa3"}),
    ("avi", {0: b"RIFF", 8: b"AVI "}),
    ("mpegts", {0: b"G", 188: b"G", 376: b"G"}),
    ("mpegts", {4: b"G", 196: b"G", 388: b"G"}),  # Blu-ray and AVCHD: a time before every packet
    ("mpeg", {0: b"\x00\x00\x01\xba"}),
    ("flv", {0: b"FLV\x01"}),
    ("asf", {0: b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"}),
    ("ogg", {0: b"OggS"}),
    ("gif", {0: b"GIF8"}),
)
# What people, or attackers, give instead. A playlist is text that begins with its format's name.
OTHERS: tuple[tuple[str, dict[int, bytes]], ...] = (
    ("a playlist, which names other files", {0: b"#EXTM3U"}),
    ("a playlist, which names other files", {0: b"ffconcat"}),
    ("a PNG picture", {0: b"\x89PNG"}),
    ("a JPEG picture", {0: b"\xff\xd8\xff"}),
    ("a WebP picture", {0: b"RIFF", 8: b"WEBP"}),
    *(("a HEIF picture", {4: b"ftyp" + brand}) for brand in (b"heic", b"heix", b"avif", b"mif1")),
    ("a sound file", {0: b"RIFF", 8: b"WAVE"}),
    ("a sound file", {0: b"ID3"}),
    ("a sound file", {0: b"fLaC"}),
    ("an archive", {0: b"PK\x03\x04"}),
    ("an archive", {0: b"PK\x05\x06"}),
    ("an archive", {0: b"\x1f\x8b"}),
    ("an archive", {0: b"7z\xbc\xaf"}),
    ("an archive", {257: b"ustar"}),
    ("a PDF document", {0: b"%PDF"}),
    ("a program", {0: b"\x7fELF"}),
    ("a program", {0: b"MZ"}),
)
ADVICE = "expected a complete MP4, MOV, MKV, WebM or AVI file: check that it plays, or convert it to MP4"


def container_of(path: Path) -> str | None:
    """Return FFmpeg's name of a file's container by its first bytes, whatever it is called; None if they tell nothing.

    Raises:
        ValueError: The file is empty, or known to be something else.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise ValueError(f"cannot read {path} as a video: it is empty; {ADVICE}")
    for what, signature in OTHERS:
        if _is_at(head, signature):
            raise ValueError(f"cannot read {path} as a video: it is {what}; {ADVICE}")
    return next((name for name, signature in SIGNATURES if _is_at(head, signature)), None)


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
    """Return the first stream of moving pictures (cover art is none), ready for threaded decoding.

    Raises:
        ValueError: There is none, its codec is unknown, or its pictures are larger than ``MAX_SIDE``, ``MAX_PIXELS``.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise ValueError(f"{path} holds no video stream, only {kinds}; expected moving pictures: choose a video file")
    # FFmpeg knows a stream whose codec it cannot decode, PyAV then gives it no context.
    stream = next((s for s in streams if s.codec_context is not None), None)
    if stream is None:
        raise ValueError(
            f"cannot read {path}: its video codec is unknown, damaged or not supported; expected one such as H.264, "
            "HEVC, VP9 or AV1: convert it to H.264"
        )
    _check_size(path, stream.width, stream.height)
    # Not by frame: then how much of a damaged file decodes depends on timing, and two passes may differ.
    stream.thread_type = "SLICE"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def decode(path: Path, warnings: list[str]) -> Generator[VideoFrame, None, None]:
    """Yield all frames that decode, in order of display; add a sentence to ``warnings`` if some did not.

    Raises:
        FileNotFoundError, ValueError: As ``open_video`` and ``video_stream``.
    """
    num_damaged = 0
    problem = ""
    with open_video(path) as container:
        stream = video_stream(path, container)
        packets = container.demux(stream)
        is_open = True
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
    if num_damaged:
        problem = problem or f"{num_damaged} piece(s) of its video could not be decoded"
    if problem:
        warnings.append(f"{path.name} is damaged or cut off: {problem}; the frames that decode were used.")


def _is_at(head: bytes, signature: dict[int, bytes]) -> bool:
    return all(head.startswith(content, place) for place, content in signature.items())


def _check_size(path: Path, width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ValueError(
            f"the picture of {path} is {width} x {height} px, expected at most {MAX_SIDE} px a side and "
            f"{MAX_PIXELS // 1_000_000} million px; scale the video down first"
        )
