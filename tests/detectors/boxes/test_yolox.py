"""YOLOX through OpenCV: cells to boxes, only people, real weights where they are."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from detectors.boxes import yolox
from detectors.boxes.load import load_boxes
from detectors.boxes.yolox import CELLS, MIN_SCORE, SIDE, STEPS, pack, people_in
from detectors.matching import box_iou

DOG = 16  # class of COCO


def answer(*things) -> np.ndarray:
    """What the network says of things (cell, center, size, {class: score}); nothing elsewhere."""
    rows = np.zeros((len(CELLS), 85), np.float32)
    for cell, center, size, scores in things:
        rows[cell, :2] = np.array(center) / STEPS[cell] - CELLS[cell]
        rows[cell, 2:4] = np.log(np.array(size) / STEPS[cell])
        rows[cell, 4] = 1
        for kind, score in scores.items():
            rows[cell, 5 + kind] = score
    return rows


@pytest.mark.parametrize("cell", [0, 1000, 52 * 52 - 1, 52 * 52, 52 * 52 + 26 * 26, len(CELLS) - 1])
def test_a_cell_of_any_grid_becomes_a_box(cell):
    boxes, scores = people_in(answer((cell, (200, 150), (60, 120), {0: 0.8})))
    np.testing.assert_allclose(boxes, [[170, 90, 230, 210]], atol=1e-3)
    np.testing.assert_allclose(scores, [0.8], atol=1e-6)


def test_only_what_is_most_likely_a_person_is_one():
    rows = answer(
        (10, (50, 50), (30, 60), {0: 0.5, DOG: 0.7}), (900, (200, 200), (30, 60), {0: 0.7, DOG: 0.5}),
        (1900, (300, 300), (30, 60), {0: MIN_SCORE - 0.01}),
    )  # fmt: skip
    boxes, _ = people_in(rows)
    np.testing.assert_allclose(boxes, [[185, 170, 215, 230]], atol=1e-3)


def test_two_boxes_of_one_person_are_one_and_the_surest_comes_first():
    boxes, scores = people_in(answer(
        (10, (50, 90), (40, 100), {0: 0.6}), (11, (52, 91), (40, 100), {0: 0.5}), (900, (200, 200), (40, 90), {0: 0.9})
    ))  # fmt: skip
    assert len(boxes) == 2
    np.testing.assert_allclose(scores, [0.9, 0.6], atol=1e-6)


def test_nonsense_is_nobody():
    assert len(people_in(np.full((len(CELLS), 85), np.nan, np.float32))[0]) == 0
    assert np.isfinite(people_in(np.full((len(CELLS), 85), 1e4, np.float32))[0]).all()


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (100, 100), (1080, 1920), (3, 2000)])
def test_pictures_keep_their_shape_at_the_top_left(height, width):
    picture, scale = pack(np.full((height, width, 3), 255, np.uint8))
    is_picture = (picture == 255).all(axis=2)
    rows, columns = round(height * scale[1]), round(width * scale[0])
    assert max(rows, columns) == SIDE
    assert columns / rows == pytest.approx(width / height, rel=1 / min(rows, columns))
    assert is_picture[:rows, :columns].all()
    assert (picture[~is_picture] == 114).all()
    assert is_picture.sum() == rows * columns


@pytest.mark.parametrize("content", [b"", b"no network" * 50])
def test_what_is_no_network_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "boxes.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"boxes\.onnx is no network that OpenCV can run"):
        load_boxes(path)


@pytest.fixture(scope="module")
def published(shared):
    path = shared / "data" / "weights" / "yolox_nano_coco_416.onnx"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the checkout")
    return load_boxes(path)[0]


def test_most_people_in_stills_are_found_and_nobody_in_empty_ones(published, shared):
    folder = shared / "data" / "synthetic_train"
    listing = json.loads((folder / "annotations" / "val.json").read_text())
    num_large = num_found = 0
    for image in listing["images"][:40]:
        picture = cv2.imread(str(folder / "images" / "val" / image["file_name"]))[..., ::-1]
        (seen,) = published([picture])
        people = [a for a in listing["annotations"] if a["image_id"] == image["id"]]
        assert people or not len(seen.boxes)
        for person in people:
            x, y, width, height = person["bbox"]
            if height >= 100 and person["visible_fraction"] > 0.8:
                num_large += 1
                truth = np.array([[x, y, x + width, y + height]]) - 0.5
                num_found += box_iou(truth, seen.boxes).max(initial=0) > 0.5
    assert num_large > 20
    assert num_found / num_large > 0.85  # 0.92 over all 250 pictures


def test_a_woman_and_her_dog_are_one_person(published, shared):
    video = cv2.VideoCapture(str(shared / "data" / "videos" / "person_dog_720p30.mp4"))
    frames = [video.read()[1] for _ in range(40)][::10]  # the network is sure of the dog, too: 0.79
    assert [len(seen.boxes) for seen in published([frame[..., ::-1] for frame in frames])] == [1] * 4


def test_other_networks_are_refused(shared):
    path = shared / "data" / "weights" / "movenet_singlepose_lightning_dequant.onnx"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the checkout")
    with pytest.raises(ValueError, match="movenet"):
        yolox.load(path)
