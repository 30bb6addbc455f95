"""What every test shares: thread settings, the hypothesis profile and small fixtures."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep instead of spinning
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: their threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import hypothesis
import numpy as np
import pytest
import torch

from app.batch.find_videos import discover
from app.batch.run_batch import BatchRequest, run_batch
from app.options import Options
from checkpoints import manifest
from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.training.mocap.library import MotionLibrary, load_motion
from lifter.training.train import save_weights
from tests.batches import Command
from tests.people import Filmed, film, waving, write_mocap
from tests.weights_server import serving

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]


ALLOWED_SKIPS = (
    "needs a CUDA GPU",
    "needs a CUDA device",
    "needs MMPose",
    "mamba_ssm is not installed",
)  # no machine of CI has these


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --strict-skips: a test that is skipped for a reason CI does not know fails the run."""
    parser.addoption("--strict-skips", action="store_true", help="fail if a test is skipped for an unexpected reason")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if something that matters was skipped; with xdist in the process that collects the reports."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not session.config.option.strict_skips or reporter is None or hasattr(session.config, "workerinput"):
        return
    reasons = [str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])]
    unexpected = sorted({text for text in reasons if not any(allowed in text for allowed in ALLOWED_SKIPS)})
    if unexpected:
        reporter.write_line(f"unexpected skips: {'; '.join(unexpected)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU or MMPose where there is none."""
    reasons = {}
    if not torch.cuda.is_available():
        reasons["requires_cuda"] = "needs a CUDA GPU"
    if importlib.util.find_spec("mmpose") is None:
        reasons["requires_mmpose"] = "needs MMPose, installed as docs/mmpose.md says"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random inputs are the same whatever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data beside the checkout that is too large for it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder.name}/ beside the checkout")
    return folder


@pytest.fixture(scope="session")
def recipe():
    """The golden recipe: ``fill(state_dict, seed)`` and ``checksum(state_dict)``."""
    spec = importlib.util.spec_from_file_location("golden_recipe", ROOT / "tests" / "golden" / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_model(recipe) -> PoseMamba:
    """A PoseMamba of width 16 and depth 1 with weights that make every part matter; do not change it."""
    model = PoseMamba(PoseMambaConfig(width=16, depth=1))
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    return model.eval().requires_grad_(False)


@pytest.fixture
def threads():
    """``torch.set_num_threads`` that is undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_weights(tiny_model, tmp_path_factory) -> Path:
    """A weights file of ``tiny_model`` that claims our conventions (person normalization, meters)."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(tiny_model.state_dict(), {"normalization": "person", "unit": "m"}, path)
    return path


@pytest.fixture
def weights_server():
    """A server of weights on this machine, without files."""
    with serving() as server:
        yield server


@pytest.fixture
def downloaded(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of checkpoints/downloaded."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    monkeypatch.setattr(manifest, "DOWNLOADED", folder)
    return folder


def sample_frames(root: Path) -> list[np.ndarray]:
    """The first 80 frames of the sample clip."""
    with av.open(str(root / "assets" / "walk_wave.mp4")) as sample:
        return [frame.to_ndarray(format="rgb24") for _, frame in zip(range(80), sample.decode(video=0), strict=False)]


def write_small(path: Path, frames: list[np.ndarray]) -> None:
    """Write a clip of 320x240 px, 30 frames per second, in the container that the suffix names."""
    kind = {".mkv": "matroska", ".ts": "mpegts"}.get(path.suffix.lower(), path.suffix[1:])
    with av.open(str(path), "w", format=kind) as video:
        stream = video.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in frames:
            small = cv2.resize(frame, (320, 240), interpolation=cv2.INTER_AREA)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(small, format="rgb24")))
        video.mux(stream.encode(None))


@pytest.fixture(scope="session")
def short_clips(root, tmp_path_factory) -> Path:
    """A folder with four clips of 20 frames, two of them called walk, in several containers, and three broken files."""
    folder = tmp_path_factory.mktemp("clips")
    frames = sample_frames(root)
    names = ("monday/walk.mp4", "tuesday/walk.MKV", "tuesday/Größe 'a\" b\nc.avi", "wave.ts")
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        write_small(path, frames[20 * number :][:20])
    (folder / "text.mp4").write_text("not a video")
    (folder / "empty.mov").touch()
    (folder / "torn.mp4").write_bytes((folder / names[0]).read_bytes()[:2000])
    return folder


@pytest.fixture(scope="session")
def brief_clips(root, tmp_path_factory) -> list[Path]:
    """Three clips of five frames, and one of 80."""
    frames = sample_frames(root)
    folder = tmp_path_factory.mktemp("brief")
    paths = []
    for name, part in {"a.mp4": frames[:5], "b.mkv": frames[30:35], "c.ts": frames[60:65], "long.mp4": frames}.items():
        paths.append(folder / name)
        write_small(paths[-1], part)
    return paths


@pytest.fixture(scope="session")
def batch_options(tiny_weights) -> Options:
    """Settings under which a short clip takes a second."""
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    return Options(detector="mediapipe", lifter=str(tiny_weights))


@pytest.fixture(scope="session")
def undisturbed(short_clips, batch_options, tmp_path_factory) -> Path:
    """Results of ``short_clips``, made one by one in this process."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run_batch(BatchRequest(discover([short_clips], out).clips, out), batch_options) == 3
    return out


@pytest.fixture
def command(root, batch_options):
    """A function that starts ``posemamba run`` with the options of these tests."""
    commands = []

    def start(*arguments) -> Command:
        commands.append(
            Command(root, *arguments, "--detector", batch_options.detector, "--lifter", batch_options.lifter)
        )
        return commands[-1]

    yield start
    for each in commands:
        if each.process.poll() is None:
            each.signal(signal.SIGKILL)
            each.process.wait(timeout=30)


@pytest.fixture(scope="session")
def walker() -> np.ndarray:
    """Joints (257, 17, 3) of the man in the sample clip: he walks, stops, waves, turns, walks off. Meters, y up."""
    with np.load(ROOT / "assets" / "walk_wave.gt.npz", allow_pickle=False) as truth:
        return truth["h36m_world"][:, 0].astype(np.float64)


@pytest.fixture(scope="session")
def filmed() -> Callable[..., Filmed]:
    """``tests.people.film``."""
    return film


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> MotionLibrary:
    """Three clips of one motion that is made up."""
    folder = tmp_path_factory.mktemp("mocap")
    write_mocap(folder / "made_up.npz", {"wave": waving(300), "wave again": waving(150, 0.3), "short": waving(20)})
    return load_motion(folder, "train")
