"""YOLO behind our own door: weights without code, boxes and keypoints in pixels, nothing sent or printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from checkpoints.tensors import read_weights
from detectors.boxes import yolo
from detectors.boxes.load import batches
from detectors.boxes.yolo import Letterbox, Yolo, YoloPose

needs_ultralytics = pytest.mark.skipif(find_spec("ultralytics") is None, reason="the yolo extra is not installed")
FRAME = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)


def untrained(name: str, num_classes: int = 2):
    """A network as ultralytics builds it, with the name of its first class as in COCO."""
    yolo.import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel, PoseModel

    torch.manual_seed(0)
    network = (PoseModel if name.endswith("-pose") else DetectionModel)(f"{name}.yaml", nc=num_classes, verbose=False)
    network.names = {0: "person", **{i: f"other {i}" for i in range(1, num_classes)}}
    return network


def save_published(network, path):
    """A checkpoint as ultralytics' trainer leaves it after ``strip_optimizer``: the module itself, half precision."""
    torch.save({"epoch": -1, "ema": None, "optimizer": None, "model": network.half(), "train_args": {"imgsz": 640},
                "train_metrics": {"fitness": np.float64(0.5)}, "version": "8.4.0"}, path)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Published-like and safetensors files of small untrained networks."""
    if find_spec("ultralytics") is None:
        pytest.skip("the yolo extra is not installed")
    folder = tmp_path_factory.mktemp("yolo")
    for name in ("yolo26n", "yolo26n-pose", "yolo11n"):
        network = untrained(name)
        save_file(network.state_dict(), folder / f"mine-{name}.safetensors",
                  {"model": f"{name}.yaml", "names": json.dumps(["person", "dog"])})  # fmt: skip
        save_published(network, folder / f"{name}.pt")
    return folder


# ---------------------------------------------------------------------------------------------- answers in pixels


class Answer(nn.Module):
    """A network that finds the same rows (x0 y0 x1 y1 score class keypoints) in every picture."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__()
        head = nn.Identity()
        head.nc, head.end2end = 80, True
        self.model = nn.ModuleList([head])
        self.rows = torch.tensor(rows, dtype=torch.float32)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, pictures):
        self.seen.append(tuple(pictures.shape))
        return self.rows.expand(len(pictures), -1, -1)


def row(box, score, kind, points=()):
    return [*box, score, kind, *np.ravel(points)]


@needs_ultralytics
def test_only_people_count_and_boxes_are_in_pixels_of_the_picture():
    # 1280x720 becomes 640x360 on 640x384: 12 rows of gray above.
    rows = [row((100, 62, 140, 172), 0.9, 0), row((300, 62, 340, 172), 0.95, 16), row((0, 12, 640, 372), 0.3, 0),
            row((10, 20, 30, 40), 0.2, 0)]  # fmt: skip
    network = Answer(np.array(rows))
    (seen,) = Yolo(network, "yolo26n")([np.zeros((720, 1280, 3), np.uint8)])
    assert network.seen == [(1, 3, 384, 640)]
    np.testing.assert_allclose(seen.boxes, [[199.5, 99.5, 279.5, 319.5], [0, 0, 1279, 719]])  # no dog, nobody unsure
    np.testing.assert_allclose(seen.scores, [0.9, 0.3])
    assert seen.keypoints is None


@needs_ultralytics
def test_keypoints_are_in_pixels_of_the_picture():
    points = np.column_stack([np.linspace(100, 116, 17), np.linspace(62, 78, 17), np.linspace(0.1, 1.2, 17)])
    network = Answer(np.array([row((100, 62, 140, 172), 0.9, 0, points)]))
    detector = YoloPose(Yolo(network, "yolo26n-pose"), {})
    (people,) = detector([np.zeros((720, 1280, 3), np.uint8)])
    np.testing.assert_allclose(people.keypoints[0], (points[:, :2] - (0, 12)) * 2, rtol=1e-6)
    np.testing.assert_allclose(people.scores[0], points[:, 2].clip(0, 1), rtol=1e-6)


@given(height=st.integers(1, 4000), width=st.integers(1, 4000))
def test_letterboxes_hold_the_whole_picture_and_lead_back(height, width):
    box = Letterbox.of(height, width)
    assert max(box.outer) == 640
    assert all(side % 32 == 0 for side in box.outer)
    corners = np.array([[0.0, 0.0], [width, height]])
    packed = corners * box.scale + box.corner
    assert (packed >= 0).all()
    assert (packed <= box.outer).all()
    np.testing.assert_allclose(box.unpack(packed), corners, atol=1e-3)


def test_the_picture_lies_in_the_letterbox_where_it_says():
    frame = np.zeros((720, 1280, 3), np.uint8)
    frame[320:328, 640:648] = 255
    packed = Letterbox.of(720, 1280).pack(frame)
    assert packed.shape == (384, 640, 3)
    y, x = np.nonzero(packed[..., 0] > 200)
    assert (x.min(), x.max() + 1, y.min(), y.max() + 1) == (320, 324, 172, 176)
    assert (packed[:12] == yolo.GRAY).all()


# ---------------------------------------------------------------------------------------------- batches


def test_frames_are_streamed_in_batches_of_one_size():
    drawn = []

    def frames():
        for t in range(20):
            drawn.append(t)
            yield np.zeros((10, 10 if t < 11 else 12, 3), np.uint8)

    stream = batches(frames())
    assert len(next(stream)) == 8
    assert len(drawn) == 9  # one more was needed to see that the batch is full
    assert [len(batch) for batch in stream] == [3, 8, 1]
    assert list(batches([])) == []


@pytest.mark.parametrize("frame", [FRAME.astype(np.float32), FRAME[..., 0], FRAME[..., :2]])
def test_frames_of_a_wrong_type_are_refused(frame):
    with pytest.raises(ValueError, match="uint8 of shape"):
        next(batches([frame]))


# ---------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("name", ["yolo26n", "yolo26n-pose", "yolo11n"])
def test_published_and_own_files_give_what_ultralytics_itself_gives(files, name):
    yolo.import_ultralytics()
    from ultralytics.nn.tasks import load_checkpoint

    theirs, _ = load_checkpoint(str(files / f"{name}.pt"))  # unpickles the module: a file that we wrote ourselves
    published = read_weights(files / f"{name}.pt")
    assert {key: x.dtype for key, x in published.tensors.items() if x.dtype == torch.float16} == {}
    ours, own = (yolo.load(read) for read in (published, read_weights(files / f"mine-{name}.safetensors")))
    assert ours.name == own.name == name
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs.fuse(verbose=False)(x)[0]
        torch.testing.assert_close(ours._network(x)[0], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(own._network(x)[0], expected, atol=0.3, rtol=0.3)  # ours was never rounded to half


@needs_ultralytics
def test_networks_run_on_frames_and_repeat_themselves(files, monkeypatch):
    monkeypatch.setattr(yolo, "MIN_SCORE", 0.0)  # untrained networks are sure of nothing
    monkeypatch.setattr(yolo, "MAX_PEOPLE", 4)
    detector = yolo.build([files / "yolo26n-pose.pt"])
    first, second = ([*detector([FRAME] * 3)] for _ in range(2))
    assert [len(people) for people in first] == [4, 4, 4]
    assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in zip(first, second, strict=True))
    assert set(detector.provenance["weights"]) == {"yolo26n-pose.pt"}


@needs_ultralytics
def test_nobody_is_an_empty_frame(files):
    (people,) = yolo.build([files / "yolo26n-pose.pt"])([np.zeros((90, 120, 3), np.uint8)])
    assert len(people) == 0


@needs_ultralytics
def test_box_networks_are_no_pose_detectors(files):
    with pytest.raises(ValueError, match="finds boxes only; yolo-pose needs a -pose network"):
        yolo.build([files / "yolo26n.pt"])


@needs_ultralytics
@pytest.mark.parametrize(
    ("metadata", "change", "text"),
    [
        ({}, {}, "does not say its architecture"),
        ({"model": "../../evil.yaml"}, {}, "does not say its architecture"),
        ({"model": "yolo26n.yaml"}, {}, "says 0 classes"),
        ({"model": "yolo26n.yaml", "names": '["helmet"]'}, {}, "finds 'helmet' as its first class"),
        ({"model": "yolo26n.yaml", "names": "["}, {}, "no readable class names"),
        ({"model": "yolo26s.yaml", "names": '["person", "dog"]'}, {}, "does not fit a yolo26s"),
        ({"model": "yolo26n.yaml", "names": '["person", "dog"]'}, {"extra": torch.zeros(1)}, "1 unknown"),
        ({"model": "yolo26n.yaml", "names": '["person", "dog"]'}, {"nan": True}, "not finite"),
    ],
)
def test_other_files_are_refused(files, tmp_path, metadata, change, text):
    state = {**read_weights(files / "mine-yolo26n.safetensors").tensors, **change}
    if state.pop("nan", False):
        state["model.0.conv.weight"] = torch.full_like(state["model.0.conv.weight"], torch.nan)
    save_file(state, tmp_path / "mine.safetensors", metadata)
    with pytest.raises(ValueError, match=r"mine\.safetensors") as caught:
        yolo.load(read_weights(tmp_path / "mine.safetensors"))
    assert text in str(caught.value)


# ---------------------------------------------------------------------------------------------- manners

ALONE = """
import json, os, socket, sys
asked = []
def refuse(*arguments, **_):
    asked.append(str(arguments)); raise OSError("no network in this test")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
import cv2, numpy as np, torch
before = cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS"), np.get_printoptions()["linewidth"]
from detectors.boxes import yolo
from detectors.boxes.load import batches
(people,) = yolo.build([__import__("pathlib").Path(sys.argv[1])])([np.zeros((64, 64, 3), np.uint8)])
after = cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS"), np.get_printoptions()["linewidth"]
sys.stderr.write("" if before == after else f"{before} became {after}")
sys.stderr.write("".join(asked))
"""


@needs_ultralytics
def test_it_is_offline_and_silent_and_writes_into_its_own_cache_only(files, root, tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    environment = {key: x for key, x in os.environ.items() if not key.startswith(("YOLO_", "XDG_", "OMP_", "MPL"))}
    environment.update(HOME=str(home), PYTHONPATH=str(root), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(files / "yolo26n-pose.pt")],
        cwd=work, env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
    written = {p.relative_to(home).parts[:3] for p in home.rglob("*") if p.is_file()}
    assert written <= {(".cache", "posemamba", "ultralytics")}
    assert not list(work.iterdir())
