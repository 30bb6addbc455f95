"""The registry of detectors: what is missing and how to get it, what auto means, several people end to end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.torch import save_file

from app.options import Options
from checkpoints import downloads
from detectors import (
    AUTO,
    BEST_FIRST,
    DETECTORS,
    QUALITIES,
    choose_detector,
    load_detector,
    meanings,
    registry,
    resolve_detector,
)

needs_ultralytics = pytest.mark.skipif(find_spec("ultralytics") is None, reason="the yolo extra is not installed")
FRAME = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)


@pytest.fixture
def installed(monkeypatch):
    """All packages are there, as far as the registry can see."""
    for name in BEST_FIRST:
        monkeypatch.setitem(DETECTORS, name, replace(DETECTORS[name], package="numpy"))


def put(downloaded, *names):
    for name in names:
        (downloaded / downloads()[name].file).write_bytes(b"weights")


@pytest.mark.parametrize("name", ["yolo-hrnet", "yolo-pose"])
def test_a_missing_package_says_how_to_install_it(downloaded, monkeypatch, name):
    monkeypatch.setitem(DETECTORS, name, replace(DETECTORS[name], package="no_such_package"))
    with pytest.raises(RuntimeError, match=r"pip install -e '\.\[yolo\]'.*posemamba fetch yolo26m"):
        load_detector(name)


def test_mmpose_has_no_extra_but_steps(downloaded, monkeypatch, root):
    monkeypatch.setitem(DETECTORS, "mmpose", replace(DETECTORS["mmpose"], package="no_such_package"))
    with pytest.raises(RuntimeError, match=r"not installed: steps in docs/no_such_package\.md; no weights"):
        load_detector("mmpose")
    assert (root / "docs" / "mmpose.md").is_file()


def test_missing_weights_say_what_fetches_them(downloaded, installed):
    with pytest.raises(RuntimeError, match=r"posemamba fetch yolo26m hrnet-w48-384x288 .smaller and faster: yolo26s"):
        load_detector("yolo-hrnet")
    put(downloaded, "yolo26n")
    with pytest.raises(RuntimeError, match=r"posemamba fetch hrnet-w48-384x288 .*hrnet-w32-256x192"):
        load_detector("yolo-hrnet")


def test_the_best_weights_that_are_here_are_used(downloaded, installed):
    put(downloaded, "yolo26n", "yolo26s", "hrnet-w32-256x192")
    assert DETECTORS["yolo-hrnet"].found_weights() == ["yolo26s", "hrnet-w32-256x192"]


def test_mediapipe_says_what_it_lacks_for_several_people(downloaded, installed):
    spec = DETECTORS["mediapipe"]
    assert spec.state() == "usable, everybody"
    put(downloaded, "yolox-nano")
    assert spec.state() == "usable, everybody, boxes by yolox-nano"
    with pytest.raises(RuntimeError, match=r"damaged or was replaced; delete it and run posemamba fetch yolox-nano"):
        load_detector("mediapipe")


def test_boxes_whose_package_is_missing_are_not_chosen(downloaded, installed, monkeypatch):
    put(downloaded, "yolo26n", "yolox-nano")
    known = {name: replace(entry, package=entry.package and "no_such_package") for name, entry in downloads().items()}
    monkeypatch.setattr(registry, "downloads", lambda kind=None: known)
    assert DETECTORS["mediapipe"].found_boxes() == "yolox-nano"
    with pytest.raises(RuntimeError, match="damaged"):  # what an explicit choice means is not changed
        load_detector("mediapipe", ["yolo26n"])
    (downloaded / "yolox_nano.onnx").unlink()
    assert "no weights: posemamba fetch yolox-nano hrnet-w48-384x288 (" in DETECTORS["mmpose"].why_not()


def test_quality_takes_of_what_is_here_and_says_what_would_be_better(downloaded, installed):
    for quality, hint in zip(QUALITIES, (", faster: posemamba fetch mediapipe-lite", "",
                                         ", better: posemamba fetch mediapipe-heavy"), strict=True):  # fmt: skip
        choice = choose_detector(quality=quality)
        assert (choice.detector, choice.weights) == ("mediapipe", ())
        assert choice.about == (f"mediapipe; landmark network full{hint}; everybody")
    put(downloaded, "mediapipe-lite", "mediapipe-heavy", "yolox-nano")
    for quality, network in zip(QUALITIES, (["mediapipe-lite"], [], ["mediapipe-heavy"]), strict=True):
        choice = choose_detector(quality=quality)
        assert choice.weights == ("yolox-nano", *network)
        said = network[0] if network else "full"
        assert choice.about == f"mediapipe; landmark network {said}; everybody, boxes by yolox-nano"
    put(downloaded, "yolo26n", "yolo26s", "hrnet-w32-256x192", "hrnet-w48-384x288")
    for quality in QUALITIES:
        best = ("yolo26n", "hrnet-w32-256x192") if quality == "fast" else ("yolo26s", "hrnet-w48-384x288")
        choice = choose_detector(quality=quality)
        assert (choice.detector, choice.weights) == ("yolo-hrnet", best)
        assert choice.about == meanings()[quality] == f"yolo-hrnet; {best[0]} and {best[1]}"


def test_given_weights_win_over_quality_and_the_others_are_chosen(downloaded, installed):
    put(downloaded, "mediapipe-lite", "mediapipe-heavy", "yolo26s")
    for quality in QUALITIES:
        assert choose_detector("mediapipe", ["mediapipe-lite"], quality).weights == ("yolo26s", "mediapipe-lite")
        both = ["mediapipe-heavy", "yolox-nano"]
        assert choose_detector("mediapipe", both, quality).weights == ("yolox-nano", "mediapipe-heavy")
    assert choose_detector("mediapipe", ["yolo26n"], "best").weights == ("yolo26n", "mediapipe-heavy")
    given = choose_detector("yolo-hrnet", ["yolo26m", "mine.pth"], "fast")
    assert (given.weights, given.about) == (("yolo26m", "mine.pth"), "yolo-hrnet; yolo26m and mine.pth")


def test_landmark_networks_are_for_mediapipe_alone(downloaded, installed):
    for given in (["mediapipe-heavy"], ["yolo26m", "pose.tflite"]):
        with pytest.raises(ValueError, match=r"'yolo-hrnet' takes one of yolo26m.* got \d: "):
            choose_detector("yolo-hrnet", given)
    with pytest.raises(FileNotFoundError, match=r"posemamba fetch mediapipe-heavy$"):
        load_detector("mediapipe", ["mediapipe-heavy"])


def test_an_unknown_quality_names_the_known_ones(downloaded, installed):
    with pytest.raises(ValueError, match="unknown quality 'ultra'; choose from fast, balanced, best"):
        Options(quality="ultra")
    with pytest.raises(ValueError, match="unknown quality 'ultra'; choose from fast, balanced, best"):
        load_detector("mediapipe", quality="ultra")


def test_auto_is_the_best_that_can_run(downloaded, installed, caplog):
    caplog.set_level("INFO", logger="detectors")
    assert resolve_detector(AUTO) == "mediapipe"
    assert "detector auto: mediapipe; not yolo-hrnet: no weights: posemamba fetch" in caplog.text
    put(downloaded, "yolo26n-pose")
    assert resolve_detector(AUTO) == "yolo-pose"
    put(downloaded, "yolo26m", "hrnet-w32-256x192")
    assert resolve_detector(AUTO) == "yolo-hrnet"
    assert resolve_detector("mediapipe") == "mediapipe"


def test_auto_without_any_says_all_reasons(downloaded, monkeypatch):
    for name in BEST_FIRST:
        monkeypatch.setitem(DETECTORS, name, replace(DETECTORS[name], package="no_such_package"))
    reasons = r"no detector can run: yolo-hrnet: .*\. yolo-pose: .*\. mediapipe: .*install"
    with pytest.raises(RuntimeError, match=reasons):
        load_detector(AUTO)
    assert re.search(reasons, meanings()["best"])


def test_a_damaged_file_is_no_reason_for_another_detector(downloaded, installed):
    put(downloaded, "yolo26n-pose")
    with pytest.raises(RuntimeError, match="damaged or was replaced"):
        load_detector(AUTO)


def test_weights_come_one_per_network(downloaded, installed):
    with pytest.raises(ValueError, match=r"'yolo-hrnet' takes one of yolo26m.*; one of hrnet.* got 1"):
        load_detector("yolo-hrnet", ["yolo26n"])
    with pytest.raises(ValueError, match="name it instead of auto"):
        load_detector(AUTO, ["yolo26n"])
    with pytest.raises(ValueError, match="name it with --detector"):
        Options(detector_weights=("yolo26n",))


@needs_ultralytics
def test_everybody_in_a_frame_gets_keypoints(tmp_path, monkeypatch):
    import torch

    from detectors.boxes import yolo
    from detectors.keypoints import hrnet

    yolo.import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    monkeypatch.setattr(yolo, "MIN_SCORE", 0.0)  # untrained networks are sure of nothing
    monkeypatch.setattr(yolo, "MAX_PEOPLE", 3)
    torch.manual_seed(0)
    files = [tmp_path / "mine-yolo26n.safetensors", tmp_path / "narrow_64x64.safetensors"]
    network = DetectionModel("yolo26n.yaml", nc=1, verbose=False)
    save_file(network.state_dict(), files[0], {"model": "yolo26n.yaml", "names": json.dumps(["person"])})
    save_file(hrnet.HRNet(8).state_dict(), files[1])
    detector = load_detector("yolo-hrnet", files)
    first, second = ([*detector([FRAME] * 10)] for _ in range(2))
    assert [people.keypoints.shape for people in first] == [(3, 17, 2)] * 10
    assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in zip(first, second, strict=True))
    assert detector.provenance["detector"] == "yolo-hrnet"
    assert set(detector.provenance["weights"]) == {path.name for path in files}
    assert json.dumps(dict(detector.provenance))
    assert detector.provenance["crop"] == "64x64, mirrored average, DARK"
    fast = load_detector("yolo-hrnet", files, quality="fast")
    assert fast.provenance["crop"] == "64x64, DARK"
    (people,) = fast([FRAME])
    assert not np.array_equal(people.keypoints, first[0].keypoints)
    monkeypatch.setattr(yolo, "MIN_SCORE", 0.99)
    assert [len(people) for people in detector([FRAME] * 3)] == [0, 0, 0]


def test_names_in_the_registry_are_resolvable():
    assert set(DETECTORS) - set(BEST_FIRST) == {"mmpose"}
    for spec in DETECTORS.values():
        assert find_spec(spec.module) is not None


def test_what_auto_took_is_in_the_provenance(downloaded):
    pytest.importorskip("mediapipe", reason="needs the mediapipe extra")
    assert load_detector(AUTO).provenance["detector"] == "mediapipe"
