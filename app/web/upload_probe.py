"""The guard: a file of a stranger is looked at in a process of its own, within limits, before anything else opens it.

``inspect`` is what a server calls. ``python -m app.web.upload_probe PATH LIMITS`` is the process it starts: it reads
the file as the container that its first bytes name, follows no reference, counts the packets and decodes one picture.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import stat
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.options import UploadLimits
from app.video.file_signatures import container_of

if sys.platform != "win32":
    import resource
if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]  # what holds the package app
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MAX_OPEN_FILES = 64
DEFAULTS = UploadLimits()
KNOWN = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, OGV or GIF"


@dataclass(frozen=True)
class UploadInfo:
    """What a video is, as counted without decoding it.

    Attributes:
        container: FFmpeg's name of it.
        width: Pixels of the upright picture.
        height: Pixels of the upright picture.
        fps: Frames per second between most neighbors.
        duration_s: From the first picture to the end of the last.
        num_frames: Packets of the video stream; damaged ones may not decode.
    """

    container: str
    width: int
    height: int
    fps: float
    duration_s: float
    num_frames: int


def inspect(path: Path, limits: UploadLimits = DEFAULTS, name: str | None = None) -> UploadInfo:
    """Return what a file holds, from a process with time and memory limits that reads nothing but this file.

    Args:
        path: The file; links are not followed.
        limits: What is allowed.
        name: What the user calls the file; default the path's last part.

    Raises:
        ValueError: A sentence for the user: it is no video, cannot be read, or goes beyond a limit.
    """
    path = path.absolute()
    name = path.name if name is None else name
    try:
        _check_file(path, limits)
        return _looked_at(path, limits)
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror}); upload it again") from error
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), name)) from error


def _check_file(path: Path, limits: UploadLimits) -> None:
    """Raise ValueError unless a path is a file of an allowed size in a container that is known by its first bytes."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is a folder, link or device, expected a video file; choose the file itself")
    if status.st_size > limits.max_bytes:
        raise ValueError(
            f"{path} has {status.st_size / 1e6:.0f} MB, expected at most {limits.max_bytes / 1e6:.0f} MB; cut it into "
            "shorter clips or compress it more"
        )
    if container_of(path) is None:
        raise ValueError(f"{path} is in no container that is known here, expected {KNOWN}; convert it to MP4")


def _looked_at(path: Path, limits: UploadLimits) -> UploadInfo:
    """Return what the process finds out that looks at a file."""
    command = [sys.executable, "-m", "app.web.upload_probe", str(path), json.dumps(asdict(limits))]
    too_much = (
        f"{path} cannot be read within {limits.inspect_s:g} s and {limits.inspect_bytes >> 20} MB of memory, as "
        "damaged or hostile files cannot; convert it to MP4"
    )
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=limits.inspect_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ValueError(too_much) from error
    if done.returncode == 0:
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise ValueError(answer["error"])
        return UploadInfo(**answer)
    log.warning("looking at %s ended with %d:\n%s", path, done.returncode, done.stderr.decode(errors="replace"))
    raise ValueError(too_much)


def main() -> None:
    """Print what is known of a file as JSON: a report, or an error."""
    from app.video.decode import open_video  # noqa: F401 - what is imported later falls under the limits

    path, limits = Path(sys.argv[1]), UploadLimits(**json.loads(sys.argv[2]))
    _limit_this_process(limits)
    try:
        answer: dict[str, Any] = asdict(_look(path, limits))
    except (ValueError, FileNotFoundError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{path} needs more than {limits.inspect_bytes >> 20} MB of memory; scale it down first"}
    sys.stdout.write(json.dumps(answer))


def _limit_this_process(limits: UploadLimits) -> None:
    if sys.platform == "win32":  # has none of these; the parent's clock remains
        return
    seconds = math.ceil(limits.inspect_s)
    for kind, value in (
        (resource.RLIMIT_AS, limits.inspect_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def _look(path: Path, limits: UploadLimits) -> UploadInfo:
    from app.video.decode import FALLBACK_FPS, first_frame, open_video, video_stream

    with open_video(path) as container:
        stream = video_stream(path, container)
        if stream.width and stream.height:  # else they are known from the first picture only
            _check_picture(path, stream.width, stream.height, limits)
        times_s, num_frames = _times_s(path, container, stream, limits)
        nominal_fps = float(stream.guessed_rate or stream.average_rate or FALLBACK_FPS)
        kind = container.format.name
    first = first_frame(path)
    _check_picture(path, first.width, first.height, limits)
    fps = 1 / statistics.median(steps) if (steps := _steps(times_s)) else nominal_fps
    if fps > limits.max_fps:
        raise ValueError(
            f"{path} has {fps:.6g} frames per second, expected at most {limits.max_fps:g}; export it with fewer"
        )
    is_turned = round(first.rotation / 90) % 2 == 1
    width, height = (first.height, first.width) if is_turned else (first.width, first.height)
    span_s = max(times_s) - min(times_s) if times_s else (num_frames - 1) / fps
    return UploadInfo(kind, width, height, fps, span_s + 1 / fps, num_frames)


def _times_s(
    path: Path, container: InputContainer, stream: VideoStream, limits: UploadLimits
) -> tuple[list[float], int]:
    """Return the times that packets carry, seconds, and the number of packets; give up where a limit is passed."""
    times_s: list[float] = []
    first_s = last_s = 0.0
    num_frames = 0
    for packet in _packets(container, stream):
        num_frames += packet.size > 0
        tick = packet.dts if packet.pts is None else packet.pts
        if tick is not None and packet.size > 0:
            times_s.append(float(tick * packet.time_base))
            first_s = min(first_s, times_s[-1]) if len(times_s) > 1 else times_s[-1]
            last_s = max(last_s, times_s[-1]) if len(times_s) > 1 else times_s[-1]
        if num_frames > limits.max_frames:
            raise ValueError(
                f"{path} has more than {limits.max_frames} frames, expected at most that; cut it into shorter clips"
            )
        if last_s - first_s > limits.max_duration_s:
            raise ValueError(
                f"{path} lasts longer than {limits.max_duration_s:g} s, expected at most that; cut it into shorter "
                "clips"
            )
    return times_s, num_frames


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Yield packets up to the end or to damage that nothing can be read beyond."""
    import av

    with contextlib.suppress(av.FFmpegError):
        yield from container.demux(stream)


def _steps(times_s: list[float]) -> list[float]:
    ordered = sorted(times_s)
    return [b - a for a, b in itertools.pairwise(ordered) if b > a]


def _check_picture(path: Path, width: int, height: int, limits: UploadLimits) -> None:
    if min(width, height) < limits.min_side_px or width * height > limits.max_pixels:
        raise ValueError(
            f"the picture of {path} is {width} x {height} px, expected at least {limits.min_side_px} px a side and at "
            f"most {limits.max_pixels / 1e6:.1f} million px; scale the video first"
        )


if __name__ == "__main__":
    main()
