"""Probes an uploaded file before anything else opens it: in a process of its own, within limits of time and memory.

``probe_upload`` is what a server calls. ``python -m app.web.upload_probe PATH LIMITS PART`` is the process it starts:
it reads the file as the container that its first bytes name, follows no reference, counts packets, decodes one picture.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.options import UploadLimits
from app.video.file_signatures import container_of

if sys.platform != "win32":
    import resource
if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package app
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MAX_OPEN_FILES = 64
FPS_TOLERANCE = 1.05  # containers round times: in steps of 1 ms, pictures at 240 per second seem to come at 250
DEFAULTS = UploadLimits()
Part = tuple[float, float]  # first second of a clip and the second before which a part ends
ALL: Part = (0.0, math.inf)
SHORTER = "choose a part of it (From, To), or cut it into shorter clips"
CONTAINERS = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, OGV or GIF"


@dataclass(frozen=True)
class UploadInfo:
    """What a video, or the chosen part of it, is, as counted without decoding it.

    Attributes:
        width: Pixels of the upright picture.
        height: Pixels of the upright picture.
        fps: Frames per second, from the median time between neighbors.
        num_frames: Packets of the video stream; damaged ones may not decode.
    """

    width: int
    height: int
    fps: float
    num_frames: int


def probe_upload(path: Path, limits: UploadLimits = DEFAULTS, part_s: Part = ALL) -> UploadInfo:
    """Return what an uploaded file holds, from a process with limits of time and memory that reads only this file.

    Args:
        path: The server's own copy, a plain file; see ``app.web.job_folders.copy_upload``.
        limits: What is allowed.
        part_s: First second of the clip that is used, and the second before which it ends; only this part has to keep
            to the limits of duration and frames.

    Raises:
        ValueError: A sentence for the user: it is no video, or goes beyond a limit.
        OSError: It cannot be read.
    """
    path = path.absolute()
    try:
        if container_of(path) is None:
            raise ValueError(f"{path} is in no container that is known here, expected {CONTAINERS}; convert it to MP4")
        return _run_probe(path, limits, part_s)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error


def _run_probe(path: Path, limits: UploadLimits, part_s: Part) -> UploadInfo:
    """Return what the probe process finds."""
    command = [
        sys.executable, "-m", "app.web.upload_probe", str(path), json.dumps(asdict(limits)), json.dumps(part_s),
    ]  # fmt: skip
    error = (
        f"{path} cannot be read within {limits.inspect_s:g} s and {limits.inspect_bytes >> 20} MB of memory, as "
        "damaged or hostile files cannot; convert it to MP4"
    )
    try:
        process = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=limits.inspect_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as timeout:
        raise ValueError(error) from timeout
    if process.returncode != 0:
        stderr = process.stderr.decode(errors="replace")
        log.warning("the probe of %s ended with code %d:\n%s", path, process.returncode, stderr)
        raise ValueError(error)
    answer = json.loads(process.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    return UploadInfo(**answer)


def main() -> None:
    """Print what a file holds as JSON: an ``UploadInfo``, or an error."""
    from app.video.decode import open_video  # noqa: F401 - what is imported later falls under the limits

    path, limits = Path(sys.argv[1]), UploadLimits(**json.loads(sys.argv[2]))
    start_s, stop_s = json.loads(sys.argv[3])
    _limit_this_process(limits)
    try:
        answer: dict[str, Any] = asdict(read_info(path, limits, (start_s, stop_s)))
    except (ValueError, FileNotFoundError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{path} needs more than {limits.inspect_bytes >> 20} MB of memory; scale it down first"}
    sys.stdout.write(json.dumps(answer))


def _limit_this_process(limits: UploadLimits) -> None:
    if sys.platform == "win32":  # has none of these; the parent's time limit remains
        return
    for kind, value in (
        (resource.RLIMIT_AS, limits.inspect_bytes),
        (resource.RLIMIT_CPU, math.ceil(limits.inspect_s)),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def read_info(path: Path, limits: UploadLimits = DEFAULTS, part_s: Part = ALL) -> UploadInfo:
    """Return what a video holds; this runs in the probe process, hostile files may take all time and memory.

    Raises:
        FileNotFoundError, ValueError: As ``app.video.decode``, or it goes beyond a limit.
    """
    from app.video.decode import FALLBACK_FPS, first_frame, open_video, video_stream

    with open_video(path) as container:
        stream = video_stream(path, container)
        if stream.width and stream.height:  # else they are known from the first picture only
            _check_picture(path, stream.width, stream.height, limits)
        times_s, num_frames = _read_times(path, container, stream, limits, part_s)
        nominal_fps = float(stream.guessed_rate or stream.average_rate or FALLBACK_FPS)
    first = first_frame(path)
    _check_picture(path, first.width, first.height, limits)
    if not num_frames and part_s != ALL:
        raise ValueError(f"{path} has no frame from {part_s[0]:g} s on; choose an earlier part, or all of it")
    steps_s = [after - before for before, after in itertools.pairwise(sorted(times_s)) if after > before]
    fps = 1 / statistics.median(steps_s) if steps_s else nominal_fps
    if fps > limits.max_fps * FPS_TOLERANCE:
        raise ValueError(
            f"{path} has {fps:.6g} frames per second, expected at most {limits.max_fps:g}; export it with fewer"
        )
    is_turned = round(first.rotation / 90) % 2 == 1
    width, height = (first.height, first.width) if is_turned else (first.width, first.height)
    return UploadInfo(width, height, fps, num_frames)


def _read_times(
    path: Path, container: InputContainer, stream: VideoStream, limits: UploadLimits, part_s: Part
) -> tuple[list[float], int]:
    """Return the times that packets of a part carry, seconds, and their number; stop where a limit is passed."""
    import av

    times_s: list[float] = []
    begin_s, first_s, last_s = None, math.inf, -math.inf
    num_frames = 0
    with contextlib.suppress(av.FFmpegError):  # damage that nothing can be read beyond
        for packet in container.demux(stream):
            if not packet.size:
                continue
            tick = packet.dts if packet.pts is None else packet.pts
            if tick is not None:
                time_s = float(tick * packet.time_base)
                begin_s = time_s if begin_s is None else begin_s
                if not part_s[0] <= time_s - begin_s < part_s[1]:
                    continue
                times_s.append(time_s)
                first_s, last_s = min(first_s, time_s), max(last_s, time_s)
            num_frames += 1
            if num_frames > limits.max_frames:
                raise ValueError(f"{path} has more than {limits.max_frames} frames, expected at most that; {SHORTER}")
            if last_s - first_s > limits.max_duration_s:
                raise ValueError(
                    f"{path} lasts longer than {limits.max_duration_s:g} s, expected at most that; {SHORTER}"
                )
    return times_s, num_frames


def _check_picture(path: Path, width: int, height: int, limits: UploadLimits) -> None:
    if min(width, height) < limits.min_side_px or width * height > limits.max_pixels:
        raise ValueError(
            f"the picture of {path} is {width} x {height} px, expected at least {limits.min_side_px} px a side and at "
            f"most {limits.max_pixels / 1e6:.1f} million px; scale the video first"
        )


if __name__ == "__main__":
    main()
