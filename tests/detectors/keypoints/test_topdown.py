"""Boxes -> crops -> heatmaps -> keypoints: known answers, round trips, batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from detectors.keypoints import topdown
from detectors.keypoints.heatmaps import averaged_with_mirrored, decode_heatmaps
from detectors.keypoints.topdown import PADDING, PoseEstimator, crop_of, cut, halving
from lifter.skeletons import COCO17

SIZE = (256, 192)


def gaussians(points: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Heatmaps (1, N, H, W) as networks are trained to give them, with peaks at points (N, 2)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    squared = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return torch.exp(-squared / (2 * (height / 32) ** 2))[None]


# ---------------------------------------------------------------------------------------------- heatmaps


@pytest.mark.parametrize(("height", "width"), [(64, 48), (96, 72), (32, 24)], ids=["256x192", "384x288", "128x96"])
def test_peaks_are_found_to_a_thousandth_of_a_pixel_up_to_the_last_but_one(height, width):
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(500, 2, generator=draw) * torch.tensor([width - 2.0, height - 2.0]) + 0.5
    found, scores = decode_heatmaps(gaussians(points, height, width))
    assert (found[0] - points).abs().max() < 1e-3  # the logarithm of a Gaussian is a parabola: exact but for rounding
    assert scores.min() > np.exp(-0.5 / (2 * (height / 32) ** 2)) - 1e-6  # half a pixel off along both axes
    assert scores.max() <= 1


def test_peaks_on_or_beyond_the_border_are_the_border_pixel():
    points = torch.tensor([[0.0, 20], [47, 20], [20, 0], [20, 63], [0, 0], [-3, 20], [50, 70]])
    found, _ = decode_heatmaps(gaussians(points, 64, 48))
    inside = points.clamp(min=0).minimum(torch.tensor([47.0, 63.0]))
    assert (found[0] - inside).abs().max() < 1e-3


def test_weak_and_noisy_peaks_are_found_nearly_as_well():
    draw = torch.Generator().manual_seed(1)
    points = torch.rand(200, 2, generator=draw) * torch.tensor([30.0, 46.0]) + 8
    noisy = 0.5 * gaussians(points, 64, 48) + 0.01 * torch.randn(1, 200, 64, 48, generator=draw)
    found, _ = decode_heatmaps(noisy)
    error = (found[0] - points).norm(dim=-1)
    assert error.mean() < 0.1  # measured 0.05; the whole pixels are wrong by 0.38
    plain = torch.stack([noisy[0].flatten(1).argmax(1) % 48, noisy[0].flatten(1).argmax(1) // 48], dim=-1)
    assert error.mean() < 0.5 * (plain - points).norm(dim=-1).mean()


def test_a_flat_or_negative_heatmap_gives_a_place_and_no_score():
    found, scores = decode_heatmaps(torch.stack([torch.zeros(64, 48), torch.full((64, 48), -0.1)])[None])
    assert torch.isfinite(found).all()
    assert scores.max() <= 0


def test_mirrored_heatmaps_are_turned_back_with_sides_swapped_and_shifted_by_one():
    points = torch.rand(17, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor([30.0, 46.0]) + 8
    straight = gaussians(points, 64, 48)
    seen_in_mirror = points[list(COCO17.mirrored)] * torch.tensor([-1.0, 1.0]) + torch.tensor([48.0, 0.0])
    of_mirrored = gaussians(seen_in_mirror, 64, 48)  # x' = W - x is what the shift by one undoes exactly
    together = averaged_with_mirrored(straight, of_mirrored)
    torch.testing.assert_close(together[..., 1:], straight[..., 1:], atol=1e-6, rtol=0)  # column 0 is made up


# ---------------------------------------------------------------------------------------------- crops

coordinates = st.floats(-2000, 4000)
sizes = st.floats(1, 3000)


@given(
    x=coordinates, y=coordinates, width=sizes, height=sizes, size=st.sampled_from([(256, 192), (384, 288), (64, 64)])
)
def test_points_come_back_from_the_crop_of_any_box(x, y, width, height, size):
    (scale,), (offset,) = crop_of(np.array([[x, y, x + width, y + height]], np.float32), size)
    points = np.random.default_rng(0).uniform((x, y), (x + width, y + height), (17, 2))
    inside = points * scale + offset
    assert np.abs((inside - offset) / scale - points).max() < 1e-3
    assert (inside >= 0).all()
    assert (inside <= (size[1], size[0])).all()  # the whole box is in the crop


@pytest.mark.parametrize(("width", "height"), [(300, 100), (100, 300), (75, 100), (1, 1), (0, 0)])
def test_boxes_grow_to_the_aspect_ratio_around_their_center(width, height):
    (scale,), (offset,) = crop_of(np.array([[10, 20, 10 + width, 20 + height]], np.float32), SIZE)
    np.testing.assert_allclose(np.array([10 + width / 2, 20 + height / 2]) * scale + offset, (96, 128))  # as published
    longer = max(max(width, 1) / 192, max(height, 1) / 256)
    assert scale == pytest.approx(1 / (PADDING * longer))


def test_the_crop_shows_what_the_transform_says():
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[120, 200] = 255
    (scale,), (offset,) = crop_of(np.array([[190, 100, 206, 140]], np.float32), SIZE)
    crop = cut(frame, scale, offset, SIZE)[..., 0].astype(float)
    y, x = np.mgrid[:256, :192]
    center = np.array([(x * crop).sum(), (y * crop).sum()]) / crop.sum()
    np.testing.assert_allclose(center, np.array([200, 120]) * scale + offset, atol=0.05)


# ---------------------------------------------------------------------------------------------- the estimator


class BrightSpot(nn.Module):
    """A network that takes the brightness of every fourth pixel for the heatmap of every joint."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x):
        self.batches.append(len(x))
        gray = x[:, 1] * 0.224 + 0.456  # green, not normalized any more
        return gray[:, None, ::4, ::4].expand(-1, 17, -1, -1)


def frame_with_spots(
    spots: list[tuple[float, float]], radius: float, height: int = 480, width: int = 640
) -> np.ndarray:
    """A black picture with soft spots as large as peaks of heatmaps should be."""
    y, x = np.mgrid[:height, :width]
    gray = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * radius**2)) for a, b in spots)
    return np.repeat((255 * np.clip(gray, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("use_flip", [False, True])
def test_spots_are_found_where_they_are_in_landscape_and_portrait(use_flip):
    spots = [(100.25, 200.5), (400.7, 150.3)]
    boxes = np.array([[40, 160, 180, 250], [370, 60, 440, 240]], np.float32)
    frame = frame_with_spots(spots, radius=6)
    estimate = PoseEstimator(BrightSpot().eval(), SIZE, use_flip=use_flip)
    ((keypoints, scores),) = estimate([frame], [boxes])
    assert keypoints.shape == (2, 17, 2)
    assert (keypoints.dtype, scores.dtype) == (np.float32, np.float32)
    scales, _ = crop_of(boxes, SIZE)
    # Mirrored, half of the residual quarter heatmap pixel of the published shift remains: half a pixel of the crop.
    tolerance = 0.1 + (0.5 / scales[:, None, None] if use_flip else 0)
    assert (np.abs(keypoints - np.array(spots)[:, None]) < tolerance).all()
    assert scores.min() > 0.9


def test_people_of_several_frames_share_batches_and_keep_their_place():
    rng = np.random.default_rng(0)
    spots = rng.uniform((100, 100), (540, 380), (11, 2))
    counts = [3, 0, 5, 2, 1]
    frames, boxes, first = [], [], 0
    for count in counts:
        mine = spots[first : first + count]
        first += count
        frames.append(frame_with_spots([(-99, -99)] * (not count) + [tuple(p) for p in mine[:1]], 6))
        boxes.append(np.array([[*(p - 40), *(p + 40)] for p in mine], np.float32).reshape(-1, 4))
    network = BrightSpot().eval()
    found = PoseEstimator(network, SIZE, use_flip=False)(frames, boxes)
    assert network.batches == [8, 3]
    assert [len(keypoints) for keypoints, _ in found] == counts
    first = 0
    for count, (keypoints, _) in zip(counts, found, strict=True):
        if count:
            np.testing.assert_allclose(keypoints[0], np.tile(spots[first], (17, 1)), atol=0.1)
        first += count


def test_nobody_anywhere_needs_no_network():
    network = BrightSpot().eval()
    nobody = np.zeros((0, 4), np.float32)
    found = PoseEstimator(network, SIZE)([np.zeros((10, 10, 3), np.uint8)] * 2, [nobody, nobody])
    assert [keypoints.shape for keypoints, _ in found] == [(0, 17, 2)] * 2
    assert not network.batches


def test_batches_are_halved_until_they_fit():
    sizes = []

    def at_most_three(rows):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("full")
        return rows * 2

    rows = torch.arange(10.0)
    assert torch.equal(halving(at_most_three, rows), rows * 2)
    assert sizes == [10, 5, 2, 3, 5, 2, 3]


def test_a_single_row_that_does_not_fit_is_an_error():
    def full(rows):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        halving(full, torch.zeros(4))


def test_the_answer_does_not_depend_on_the_batch(monkeypatch):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (240, 320, 3), np.uint8)
    corners = rng.uniform(0, 150, (5, 2))
    boxes = np.concatenate([corners, corners + 80], axis=1).astype(np.float32)
    torch.manual_seed(0)
    from detectors.keypoints.hrnet import HRNet

    estimate = PoseEstimator(HRNet(8).eval(), (64, 64))
    ((together, _),) = estimate([frame], [boxes])
    monkeypatch.setattr(topdown, "PEOPLE_PER_BATCH", 1)
    ((alone, _),) = estimate([frame], [boxes])
    np.testing.assert_allclose(together, alone, atol=1e-2)  # sums in another order; a random heatmap is rough
