"""Keypoints of people whose boxes are known: crops, one network, heatmaps back to pixels of the picture.

Convention as published (leoxiaobin/deep-high-resolution-net.pytorch, MMPose's ``TopdownAffine``): a box grows around
its center to the network's aspect ratio and then by ``PADDING``; its center goes to (W / 2, H / 2) of the crop, and
heatmap pixel i is crop pixel 4 i. The center of the first pixel is (0, 0), in crop and heatmap as everywhere here.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from detectors.keypoints.heatmaps import averaged_with_mirrored, decode_heatmaps
from detectors.keypoints.hrnet import STRIDE

PADDING = 1.25  # of the box, so that context is seen
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB in [0, 1]
PEOPLE_PER_BATCH = 8  # the flip test doubles it; 16 pictures of 384x288 take about 2 GB in HRNet-W48


def crop_of(boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return scales (N,) and offsets (N, 2): pixel p of the picture is pixel ``scale * p + offset`` of the crop.

    Args:
        boxes: (N, 4) x0 y0 x1 y1 px; they may reach beyond the picture.
        size: Height and width of the crop [px].
    """
    height, width = size
    corners = boxes.astype(np.float64).reshape(-1, 2, 2)
    sizes = np.maximum(corners[:, 1] - corners[:, 0], 1)  # (N, 2) width and height; a point becomes a pixel
    wide = PADDING * np.maximum(sizes[:, 0], sizes[:, 1] * width / height)  # after growing to the aspect ratio
    scales = width / wide
    offsets = np.array([width / 2, height / 2]) - scales[:, None] * corners.mean(axis=1)
    return scales, offsets


def cut(frame: np.ndarray, scale: float, offset: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the crop (H, W, 3) of a frame, black beyond its border."""
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    return cv2.warpAffine(frame, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR)


class PoseEstimator:
    """Frames and boxes -> keypoints; people of several frames share a batch.

    Attributes:
        network: (B, 3, H, W) -> heatmaps (B, 17, H / 4, W / 4), in inference mode.
        size: Height and width of its input [px].
        device: Where it runs.
        use_flip: Average with the mirrored crop: twice the work; published results do.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int], device: str = "cpu", use_flip: bool = True) -> None:
        # Pixel by pixel, as the crops are: 0.09 s a person against 0.15 (HRNet-W32, one thread, batches of 8).
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.size = size
        self.device = torch.device(device)
        self.use_flip = use_flip
        self._mean = torch.tensor(MEAN, device=device).view(3, 1, 1) * 255
        self._std = torch.tensor(STD, device=device).view(3, 1, 1) * 255

    def __call__(self, frames: list[np.ndarray], boxes: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return keypoints (N, 17, 2) px and scores (N, 17) in [0, 1], float32, for every frame.

        Args:
            frames: RGB uint8 pictures (H, W, 3).
            boxes: (N, 4) x0 y0 x1 y1 px per frame; N may be 0.
        """
        counts = [len(each) for each in boxes]
        if sum(counts) == 0:
            return [(np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.float32)) for _ in frames]
        scales, offsets = crop_of(np.concatenate(boxes), self.size)
        owners = np.repeat(np.arange(len(frames)), counts)
        found = []
        for first in range(0, len(owners), PEOPLE_PER_BATCH):
            some = slice(first, first + PEOPLE_PER_BATCH)
            crops = np.stack(
                [cut(frames[i], scale, offset, self.size)
                 for i, scale, offset in zip(owners[some], scales[some], offsets[some], strict=True)]
            )  # fmt: skip
            found.append(halving(self._look, torch.from_numpy(crops)).cpu().numpy())
        answers = np.concatenate(found).astype(np.float64)  # (N, 17, 3) x and y in heatmap pixels, score
        keypoints = (answers[..., :2] * STRIDE - offsets[:, None]) / scales[:, None, None]
        scores = answers[..., 2].clip(0, 1)
        ends = np.cumsum(counts)[:-1]
        pairs = zip(np.split(keypoints, ends), np.split(scores, ends), strict=True)
        return [(points.astype(np.float32), each.astype(np.float32)) for points, each in pairs]

    @torch.inference_mode()
    def _look(self, crops: Tensor) -> Tensor:
        """Map crops (B, H, W, 3) uint8 to (B, 17, 3) x and y in heatmap pixels, score."""
        pictures = (crops.to(self.device).permute(0, 3, 1, 2).float() - self._mean) / self._std
        heatmaps = self.network(pictures)
        if self.use_flip:
            heatmaps = averaged_with_mirrored(heatmaps, self.network(pictures.flip(-1)))
        keypoints, scores = decode_heatmaps(heatmaps)
        return torch.cat([keypoints, scores[..., None]], dim=-1)


def halving(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return ``function(rows)``, in two halves, and those in two, where memory runs out.

    Raises:
        torch.OutOfMemoryError: Not even a single row fits.
    """
    try:
        return function(rows)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    torch.cuda.empty_cache()  # outside of the handler, where the traceback no longer holds the attempt's tensors
    middle = len(rows) // 2
    return torch.cat([halving(function, rows[:middle]), halving(function, rows[middle:])])
