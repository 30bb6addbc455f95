"""MediaPipe's lite and heavy landmark networks: run, told from other files, chosen by quality, named in results."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from app.options import Options
from app.pipeline import choice_of
from checkpoints import downloads
from checkpoints.download import fetch
from detectors import load_detector
from tests.app.cli.test_cli import gray_video

pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
FULL, LITE, HEAVY = (f"pose_landmark_{name}.tflite" for name in ("full", "lite", "heavy"))
YOLOX = "yolox_nano_coco_416.onnx"
MOVENET = "movenet_singlepose_lightning_int8_4.tflite"
START, STOP = 90, 120  # of the sample clip: he stands, then begins to wave


@pytest.fixture
def published(shared):
    """A function that returns the path of a file with weights."""

    def find(name):
        path = shared / "data" / "weights" / name
        if not path.is_file():
            pytest.skip(f"no {name} beside the checkout")
        return path

    return find


@pytest.fixture(scope="module")
def sample(root):
    """Frames of the sample clip, true keypoints (T, 17, 2) px and heights (T,) px of the man in it."""
    from app.video.reader import VideoReader

    clip = root / "assets" / "walk_wave.mp4"
    frames = list(islice(VideoReader(clip), START, STOP))
    with np.load(clip.with_suffix(".gt.npz")) as truth:
        keypoints, boxes = truth["coco_px"][START:STOP, 0] - 0.5, truth["bbox"][START:STOP, 0]
    return frames, keypoints, boxes[:, 3] - boxes[:, 1]


def error_of(people, sample):
    """Return the mean distance of the limb joints from the truth, in heights of the man, who must be in every frame."""
    _, truth, heights = sample
    assert [len(frame) for frame in people] == [1] * len(truth)
    keypoints = np.stack([frame.keypoints[0] for frame in people])
    return float((np.linalg.norm(keypoints[:, 5:] - truth[:, 5:], axis=-1).mean(axis=1) / heights).mean())


def test_lite_and_heavy_find_the_person_and_heavy_is_nearer_to_the_truth(published, downloaded, sample):
    errors = {}
    for name in (LITE, HEAVY):
        detector = load_detector("mediapipe", [published(name)])
        assert set(detector.provenance["weights"]) == {"pose_detection.tflite", name}
        errors[name] = error_of(list(detector(sample[0])), sample)
    assert errors[LITE] < 0.02  # measured: 0.0138 and 0.0099; full 0.0125
    assert errors[HEAVY] < 0.9 * errors[LITE]


def test_everybody_in_a_box_is_seen_by_the_chosen_network(published, downloaded, sample):
    errors = {}
    for name in (LITE, HEAVY):
        detector = load_detector("mediapipe", [published(name), published(YOLOX)])
        assert set(detector.provenance["weights"]) == {"pose_detection.tflite", name, YOLOX}
        assert detector.provenance["boxes"] == YOLOX
        errors[name] = error_of(list(detector(sample[0])), sample)
    assert errors[LITE] < 0.03
    assert errors[HEAVY] < 0.9 * errors[LITE]


def test_the_hash_in_the_provenance_is_that_of_the_network_that_runs(published, downloaded):
    for name in ("mediapipe-lite", "mediapipe-heavy"):
        entry = downloads()[name]
        shutil.copy(published(entry.file), downloaded)
        assert load_detector("mediapipe", [name]).provenance["weights"][entry.file] == entry.sha256
    assert FULL in load_detector("mediapipe").provenance["weights"]


def test_a_copy_may_lie_anywhere(published, tmp_path, monkeypatch, sample):
    copy = tmp_path / "my files, ä" / "Heavy.TFLITE"
    copy.parent.mkdir()
    shutil.copy(published(HEAVY), copy)
    monkeypatch.chdir(tmp_path)
    detector = load_detector("mediapipe", [copy.relative_to(tmp_path)])
    assert detector.provenance["weights"]["Heavy.TFLITE"] == downloads()["mediapipe-heavy"].sha256
    assert len(next(detector(sample[0]))) == 1


def test_a_damaged_network_is_refused_before_it_can_crash_mediapipe(published, downloaded):
    whole = published(LITE).read_bytes()
    (downloaded / LITE).write_bytes(whole[:-1000])
    with pytest.raises(RuntimeError, match=r"damaged or was replaced; .* posemamba fetch mediapipe-lite"):
        load_detector("mediapipe", quality="fast")
    with pytest.raises(ValueError, match=r"none of MediaPipe's pose landmark networks, or it is damaged"):
        load_detector("mediapipe", [downloaded / LITE])


def test_another_tflite_is_refused(published, downloaded):
    with pytest.raises(ValueError, match=r"movenet.* is none of MediaPipe's pose landmark networks.*fetch mediapipe-"):
        load_detector("mediapipe", [published(MOVENET)])


def test_what_is_fetched_is_what_fast_then_takes(published, downloaded, weights_server):
    assert choice_of(Options(quality="fast", detector="mediapipe")).weights == ()
    weights_server.files = {"lite": published(LITE).read_bytes()}
    entry = replace(downloads()["mediapipe-lite"], sources=(weights_server.url("lite"),))
    fetch(entry, lambda items, stage, total: items, require_fit=None)
    assert LITE in load_detector("mediapipe", quality="fast").provenance["weights"]


def test_a_clip_is_done_again_only_where_quality_changes_what_is_used(published, downloaded, tmp_path, tiny_weights):
    clip, out = gray_video(tmp_path / "clip.mp4"), tmp_path / "out"

    def run(*arguments):
        """Return the line on quality, whether the clip was analyzed, and the provenance of what is there then."""
        answer = CliRunner().invoke(
            cli, ["run", str(clip), "-o", str(out), "--detector", "mediapipe", "--lifter", str(tiny_weights),
                  *arguments]
        )  # fmt: skip
        assert answer.exit_code == 0, answer.output
        said = next(line.strip() for line in answer.stderr.splitlines() if "quality" in line)
        pose = json.loads((out / "clip" / "pose.json").read_text())
        return said, "is done" not in answer.stdout, pose

    said, is_new, pose = run()
    assert said == "quality balanced: mediapipe; landmark network full; everybody; flip averaging"
    assert is_new
    assert pose["models"]["summary"] == said
    said, is_new, _ = run("--quality", "best")
    assert "landmark network full, better: posemamba fetch mediapipe-heavy" in said
    assert not is_new  # nothing better is here: the numbers would be the same
    said, is_new, _ = run("--quality", "fast")
    assert "landmark network full, faster: posemamba fetch mediapipe-lite" in said
    assert said.endswith("no flip averaging")
    assert is_new
    shutil.copy(published(HEAVY), downloaded)
    said, is_new, pose = run("--quality", "best")
    assert "landmark network mediapipe-heavy; everybody" in said
    assert is_new
    assert pose["models"]["summary"] == said
    assert pose["provenance"]["detector"]["weights"][HEAVY] == downloads()["mediapipe-heavy"].sha256
    said, is_new, _ = run("--detector-weights", "mediapipe-heavy")
    assert "landmark network mediapipe-heavy; everybody" in said
    assert not is_new  # asked for in another way
    assert run()[1]
