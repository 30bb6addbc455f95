"""MMPose behind our door: its HRNet and ours see the same crops and heatmaps; no code from checkpoints."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from checkpoints.tensors import read_weights
from detectors import load_detector, mmpose
from detectors.keypoints import hrnet
from detectors.keypoints.heatmaps import averaged_with_mirrored, decode_heatmaps
from detectors.keypoints.topdown import PoseEstimator, crop_of, cut

pytestmark = pytest.mark.requires_mmpose
PUBLISHED = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
BOXES = np.array([[50, 40, 200, 400], [300.5, 100.2, 420.7, 380.1], [-20, 200, 100, 500]], np.float32)
FRAME = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An HRNet-W32 with random weights, stored as MMPose stores it."""
    torch.manual_seed(0)
    network = hrnet.HRNet(32)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(network.final_layer.weight, 0, 0.05)
    state = {("head." if "final" in key else "backbone.") + key: x for key, x in network.state_dict().items()}
    path = tmp_path_factory.mktemp("mmpose") / f"{PUBLISHED}-00000000_20220909.pth"
    torch.save({"meta": {"epoch": 210}, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint):
    return mmpose.load(read_weights(checkpoint), mmpose.config_of(checkpoint))


def test_read_by_one_decoder_keypoints_are_those_of_our_network(model, checkpoint):
    """The only difference between the two is how the top of a heatmap is read."""
    ours = PoseEstimator(*hrnet.from_weights(read_weights(checkpoint)))
    keypoints, scores = mmpose.decode_heatmaps(model, FRAME, BOXES)
    scales, offsets = crop_of(BOXES, ours.size)
    for person, (scale, offset) in enumerate(zip(scales, offsets, strict=True)):
        crop = torch.from_numpy(cut(FRAME, scale, offset, ours.size)).permute(2, 0, 1).float()[None]
        picture = (crop - ours._mean) / ours._std
        with torch.inference_mode():
            heatmaps = averaged_with_mirrored(ours.network(picture), ours.network(picture.flip(-1)))
        (points,), (heights,) = model.head.decoder.decode(heatmaps[0].numpy())
        is_scored = heights > 0  # elsewhere MMPose answers a corner
        assert is_scored.sum() >= 8
        np.testing.assert_allclose(((points - offset) / scale)[is_scored], keypoints[person][is_scored], atol=1e-2)
        np.testing.assert_allclose(heights.clip(0, 1), scores[person], atol=1e-5)


def test_our_decoder_differs_by_a_quarter_of_a_heatmap_pixel(model, rng):
    """On peaks as the published networks are trained to draw them; ours is the one that is nearer to the truth."""
    truth = rng.uniform([8, 8], [39, 55], (100, 17, 2))
    y, x = np.mgrid[:64, :48]
    distance = (x - truth[..., 0, None, None]) ** 2 + (y - truth[..., 1, None, None]) ** 2
    heatmaps = np.exp(-distance / (2 * 2.0**2)).astype(np.float32)
    ours = decode_heatmaps(torch.from_numpy(heatmaps))[0].numpy()
    theirs = np.concatenate([model.head.decoder.decode(each)[0] for each in heatmaps]) / hrnet.STRIDE
    assert np.abs(ours - truth).max() < 0.02
    assert 0.2 < np.abs(ours - theirs).max() < 0.27


def test_nobody_is_nobody(model):
    keypoints, scores = mmpose.decode_heatmaps(model, FRAME, np.zeros((0, 4), np.float32))
    assert (keypoints.shape, scores.shape) == ((0, 17, 2), (0, 17))


def test_boxes_and_keypoints_become_people(checkpoint, shared):
    boxes = shared / "data" / "weights" / "yolox_nano_coco_416.onnx"
    if not boxes.is_file():
        pytest.skip(f"no {boxes.name} beside the checkout")
    with av.open(str(shared / "data" / "synthetic" / "two_people.mp4")) as clip:
        first = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    detector = load_detector("mmpose", [boxes, checkpoint])
    assert [len(people) for people in detector([first, np.zeros_like(first)])] == [2, 0]
    assert set(detector.provenance["weights"]) == {boxes.name, checkpoint.name}
    assert detector.provenance["config"] == f"{PUBLISHED}.py"


def test_weights_of_another_shape_are_refused(checkpoint):
    wider = mmpose.config_of(checkpoint.with_name("td-hm_hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth"))
    with pytest.raises(ValueError, match=r"does not fit td-hm_hrnet-w48.*\d+ of another shape"):
        mmpose.load(read_weights(checkpoint), wider)


def test_other_kinds_of_models_are_refused(checkpoint):
    with pytest.raises(ValueError, match="not named after a COCO configuration"):
        mmpose.config_of(checkpoint.with_name("mine.pth"))
    one_stage = mmpose.config_of(checkpoint.with_name("rtmo-s_8xb32-600e_coco-640x640-8db55a59_20231211.pth"))
    with pytest.raises(ValueError, match="expected top-down with 17"):
        mmpose.load(read_weights(checkpoint), one_stage)


def test_a_checkpoint_with_code_is_refused_before_mmpose_sees_it(checkpoint, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("code of the file ran",))

    path = tmp_path / checkpoint.name
    torch.save({"meta": Evil(), "state_dict": {}}, path)
    with pytest.raises(ValueError, match="a file that needs to run code is refused"):
        mmpose.build([tmp_path / "none.onnx", path])
    assert "ran" not in capsys.readouterr().out
