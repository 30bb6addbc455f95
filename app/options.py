"""Every setting, its default, range and meaning, once: ``Options`` of a user, ``ServerOptions`` of who runs a server.

Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from detectors import AUTO, BALANCED, DETECTORS, FAST, QUALITIES

BACKENDS = ("auto", "triton", "mamba_ssm", "cpu", "torch", "reference")  # of lifter.scan, which would import torch
PEOPLE = ("all", "largest", "longest")  # or ids
FORMATS = ("json", "npz", "csv", "trc", "bvh", "glb", "coco", "viewer")  # of app.export, which would import torch
UP_AXES = ("y", "z")


@dataclass(frozen=True)
class Options:
    """Settings of one run; the command line reads its defaults from here.

    Attributes:
        quality: One of QUALITIES, which of the networks that are here make the numbers. fast: the smallest weights of
            the detector, and no flip averaging; balanced: MediaPipe's own network, the largest weights of others;
            best: MediaPipe's heavy network where it was fetched, else as balanced. Given weights come first.
        detector: 2D pose estimator, a name in ``detectors.DETECTORS``; auto is the best one whose package and weights
            are here: yolo-hrnet, yolo-pose, mediapipe.
        detector_weights: Names of ``posemamba fetch`` or files, one for every network of the detector; empty for what
            ``quality`` takes of those fetched.
        detection_interval: People are looked for in every so many frames and their boxes moved between; keypoints are
            read in all of them. For detectors that find boxes first (yolo-hrnet).
        lifter: Name in ``lifter.LIFTERS``, of ``posemamba fetch``, or path of a weights file.
        device: Where the lifter runs: auto (a CUDA GPU if the scan has a kernel for it, else the CPU), cpu, cuda, ...
        backend: Scan backend, one of BACKENDS.
        height_m: Known body height of the person in meters; None keeps the nominal adult (1.70 m).
        fov_degrees: Assumed field of view of the camera along the longer side of the picture.
        has_rigid_bones: Give every bone its median length over the clip, the same left and right. Files with a skeleton
            (bvh, glb) have rigid bones in any case.
        smooth_hz: Cut-off of a zero-phase low-pass over the joints and the trajectory in Hz; None leaves them as they
            are.
        max_gap_s: Longest time without a detection that is filled by interpolation.
        min_track_s: People seen for less than this are dropped (but never the only frame of a clip).
        people: Who goes on to 3D: all, largest (in the picture), longest (seen), or ids such as "0,2".
        formats: Which files are written, names in FORMATS.
        up: The axis that points up in files with world coordinates, one of UP_AXES.
        is_upright: Turn world coordinates and the 3D panel so that gravity, as estimated, points down; if not, the
            camera is taken to be level.
        has_overlay: Write overlay.mp4.
    """

    quality: str = BALANCED
    detector: str = AUTO
    detector_weights: tuple[str, ...] = ()
    detection_interval: int = 1
    lifter: str = "posemamba-s"
    device: str = "auto"
    backend: str = "auto"
    height_m: float | None = None
    fov_degrees: float = 55.0
    has_rigid_bones: bool = False
    smooth_hz: float | None = None
    max_gap_s: float = 0.5
    min_track_s: float = 0.3
    people: str = "all"
    formats: tuple[str, ...] = ("json", "npz", "viewer")
    up: str = "y"
    is_upright: bool = True
    has_overlay: bool = True

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise ValueError(f"unknown quality {self.quality!r}; choose one of {', '.join(QUALITIES)}")
        if self.backend not in BACKENDS:
            raise ValueError(f"unknown backend {self.backend!r}; choose one of {', '.join(BACKENDS)}")
        if self.detector not in (AUTO, *DETECTORS):
            raise ValueError(f"unknown detector {self.detector!r}; choose one of {', '.join((AUTO, *DETECTORS))}")
        if self.detector_weights and self.detector == AUTO:
            raise ValueError("detector-weights belong to one detector; name it with --detector")
        if self.height_m is not None:
            _check("height", self.height_m, 0.4, 2.8, "meters")
        _check("detection-interval", self.detection_interval, 1, 30, "frames")
        _check("fov", self.fov_degrees, 10, 150, "degrees")
        _check("max-gap", self.max_gap_s, 0, 60, "seconds")
        _check("min-track-seconds", self.min_track_s, 0, 3600, "seconds")
        if self.smooth_hz is not None:
            _check("smooth", self.smooth_hz, 0.1, 100, "Hz")
        if unknown := [name for name in self.formats if name not in FORMATS]:
            raise ValueError(f"unknown format {unknown[0]!r}; choose from {', '.join(FORMATS)}")
        if self.up not in UP_AXES:
            raise ValueError(f"up must be one of {', '.join(UP_AXES)}, got {self.up!r}")
        if self.people not in PEOPLE:
            person_ids(self.people)

    @property
    def use_flip(self) -> bool:
        """Whether networks also see the mirrored input, and the answers are averaged: twice the work, smoother."""
        return self.quality != FAST


def person_ids(people: str) -> list[int]:
    """Return the ids in a text such as "0,2"; ValueError if it is none."""
    ids = [part.strip() for part in people.split(",")]
    if not all(part.isascii() and part.isdigit() for part in ids):
        raise ValueError(f"people must be {', '.join(PEOPLE)} or ids such as 0,2; got {people!r}")
    return [int(part) for part in ids]


def _check(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise ValueError(f"{name} must lie between {low} and {high} {unit}, got {value}")


@dataclass(frozen=True)
class UploadLimits:
    """What a video may be that strangers upload; who runs ``posemamba run`` on files of his own has none of these.

    Attributes:
        max_bytes: Size of the file.
        min_side_px: Width and height of the picture.
        max_pixels: Of the picture; the default is 4K, as cinemas have it.
        max_duration_s: From the first picture to the last.
        max_fps: Pictures per second, as most neighbors are apart.
        max_frames: Pictures in all.
        inspect_s: Seconds that the look at a file may take, before any model sees it.
        inspect_bytes: Memory that the look may take.
    """

    max_bytes: int = 500_000_000
    min_side_px: int = 32
    max_pixels: int = 4096 * 2304
    max_duration_s: float = 300.0
    max_fps: float = 240.0
    max_frames: int = 18_000
    inspect_s: float = 8.0
    inspect_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _check(name, value, 1e-3, 1 << 50, "(a limit)")


@dataclass(frozen=True)
class ServerOptions:
    """Settings of whoever runs the job service.

    Attributes:
        limits: What uploads may be.
        device: Where lifters run, as in ``Options``; jobs cannot choose.
        num_workers: Processes that analyze; None is one per GPU, or one for the CPU.
        max_waiting: Jobs that may wait; more are refused.
        keep_s: Seconds after which a job that ended is deleted, results and all.
        cancel_s: Seconds a worker gets to stop by itself before it is killed.
        stall_s: Seconds without progress after which a job is given up and its worker killed.
        weights: Files that jobs may name as lifter or as weights of the detector, besides the names everybody knows.
    """

    limits: UploadLimits = UploadLimits()
    device: str = Options.device
    num_workers: int | None = None
    max_waiting: int = 40
    keep_s: float = 3600.0
    cancel_s: float = 3.0
    stall_s: float = 600.0
    weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_workers is not None:
            _check("num_workers", self.num_workers, 1, 256, "processes")
        _check("max_waiting", self.max_waiting, 1, 100_000, "jobs")
        _check("keep_s", self.keep_s, 1, 30 * 86400, "seconds")
        _check("cancel_s", self.cancel_s, 0, 600, "seconds")
        _check("stall_s", self.stall_s, 1, 86400, "seconds")
