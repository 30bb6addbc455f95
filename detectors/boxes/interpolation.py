"""Boxes of people in every frame from a network that runs on some: detection at an interval, interpolation between.

Keypoints need a box that holds the person, not an exact one, and boxes move evenly for a tenth of a second. So the
network may look at every N-th frame only (``--detection-interval``), and at the first of every shot; the frames
between get boxes that move from one look to the next, and all frames get keypoints of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from detectors.boxes.types import BoxDetections
from detectors.matching import NEVER, box_iou, match_hungarian
from detectors.shot_boundaries import ShotBoundaryDetector

SAME_PERSON_IOU = 0.2  # of a person's boxes N frames apart; less is somebody else


def boxed_frames(
    batches: Iterable[list[np.ndarray]], find: Callable[[list[np.ndarray]], list[BoxDetections]], every: int
) -> Iterator[tuple[np.ndarray, BoxDetections]]:
    """Yield every frame with its people; ``every`` frames are held back at most, and a batch.

    Args:
        batches: RGB uint8 frames (H, W, 3) in order, in lists.
        find: The network: frames to one ``BoxDetections`` each.
        every: It looks at frames 0, N, 2 N, ..., and where a shot begins.
    """
    waiting: deque[np.ndarray] = deque()

    def looks() -> Iterator[BoxDetections | None]:
        cuts, count = ShotBoundaryDetector(), 0
        for batch in batches:
            chosen = [
                i for i, frame in enumerate(batch)
                if every == 1 or cuts.is_cut(frame) or (count + i) % every == 0
            ]  # fmt: skip
            found = iter(find([batch[i] for i in chosen]) if chosen else [])
            waiting.extend(batch)
            count += len(batch)
            yield from (next(found) if i in chosen else None for i in range(len(batch)))

    for boxes in fill_gaps(looks()):
        yield waiting.popleft(), boxes


def fill_gaps(looks: Iterable[BoxDetections | None]) -> Iterator[BoxDetections]:
    """Yield the boxes of every frame, in order.

    Args:
        looks: One entry per frame; None where the network did not look. The first is a look. Frames behind the last
            look have its boxes.
    """
    before: BoxDetections | None = None
    gap = 0
    for look in chain(looks, ["end"]):
        if look is None:
            gap += 1
            continue
        if before is not None:
            yield before
            after = look if isinstance(look, BoxDetections) else before
            yield from interpolate(before, after, gap)
        if isinstance(look, BoxDetections):
            before, gap = look, 0


def interpolate(before: BoxDetections, after: BoxDetections, count: int) -> Iterator[BoxDetections]:
    """Yield the boxes of the ``count`` frames between two looks.

    A person in both moves from one box to the other in a straight line. Who is in one only is taken to stay in that box
    for all of the time: the network for keypoints sees for itself that nobody is there.
    """
    pairs = same_people(before.boxes, after.boxes)
    first = [m for m, _ in pairs]
    second = [n for _, n in pairs]
    gone = [m for m in range(len(before.boxes)) if m not in first]
    new = [n for n in range(len(after.boxes)) if n not in second]

    def joined(old: np.ndarray, young: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # at the one look and the other
        return (
            np.concatenate([old[first], old[gone], young[new]]),
            np.concatenate([young[second], old[gone], young[new]]),
        )

    boxes, last_boxes = joined(before.boxes, after.boxes)
    scores, last_scores = joined(before.scores, after.scores)
    for step in range(1, count + 1):
        share = np.float32(step / (count + 1))
        yield BoxDetections(
            boxes + (last_boxes - boxes) * share, scores + (last_scores - scores) * share, is_detected=False
        )


def same_people(before: np.ndarray, after: np.ndarray) -> list[tuple[int, int]]:
    """Return index pairs of boxes (M, 4) and (N, 4) that overlap so much that they are of one person each."""
    overlap = box_iou(before, after)
    return match_hungarian(np.where(overlap < SAME_PERSON_IOU, NEVER, 1 - overlap))
