"""What a file is by its first bytes, whatever it is called. Imports nothing that reads video."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 4096
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


def _is_at(head: bytes, signature: dict[int, bytes]) -> bool:
    return all(head.startswith(content, place) for place, content in signature.items())
