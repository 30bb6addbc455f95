"""How a 2D detector errs, measured on pictures with exact keypoints: what the simulated detections are fitted to.

Errors are in units of the person (longer side of the true box). Videos show how they move in time, still pictures show
how they differ from person to person.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from app.evaluation.ground_truth import match_person
from app.evaluation.tables import new_table
from app.evaluation.tracking_metrics import PARTS, DetectorRun
from detectors import Detector
from detectors.people import People
from lifter.skeletons import COCO17

FAILURE = 0.15  # a median error above this is another person or none: counted, not measured
MIN_SIZE_PX, MIN_VISIBLE = 90, 0.6  # stills of people smaller or more hidden than this are left out
CROP_MARGIN = 0.25  # of the box, around people in stills
SCORES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.01)
SWAP_MARGIN = 0.6  # a pair is swapped if exchanging its keypoints leaves less than this of the error ...
SWAP_DISTANCE = 0.05  # ... and its two joints are at least this far apart
LAGS_S = (1 / 30, 0.27, 0.53)


@dataclass(frozen=True, eq=False)
class Sample:
    """One person in n pictures, in units of the person unless stated otherwise.

    Attributes:
        errors: (n, 17, 2) detected minus true COCO-17 points: across the trunk to its right, and up the trunk.
        truth: (n, 17, 2) true points.
        found: (n, 17, 2) detected points.
        scores: (n, 17).
        hidden: (n, 17) bool.
        known: (n, 17) bool, False for points without truth.
        fps: Pictures per second, 0 for pictures that do not follow each other.
        num_missed: Pictures of the person in which the detector found nobody, or somebody else.
    """

    errors: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    scores: np.ndarray
    hidden: np.ndarray
    known: np.ndarray
    fps: float
    num_missed: int


def of_clip(run: DetectorRun) -> Sample:
    """Return a sample of the person whom the detector's first one is nearest to.

    Raises:
        ValueError: The detector found nobody in the whole clip.
    """
    seen = [t for t, people in enumerate(run.people) if len(people)]
    if not seen:
        raise ValueError("the detector found nobody in the whole clip; measure it on a clip it can see")
    who = match_person(np.array([run.people[t].keypoints[0] for t in seen]), run.keypoints[seen])
    points, hidden = run.keypoints[:, who], run.hidden[:, who]
    return sample_of(run.people, points, hidden, np.ones(hidden.shape, bool), run.fps)


def of_stills(annotations: Path, detector: Detector, most: int = 1000) -> Sample:
    """Return a sample of the people in still pictures; ``annotations`` is a COCO keypoints file beside ``images/``.

    Every person is cut out with a margin, so that another one in the picture is seldom found instead. Of annotations
    with a ``visible_fraction`` (of the silhouette) only those above ``MIN_VISIBLE`` count.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no COCO keypoints file, or a picture is missing.
    """
    try:
        listing = json.loads(annotations.read_text())
        images = {image["id"]: image["file_name"] for image in listing["images"]}
        chosen = [a for a in listing["annotations"] if _is_clear(a)][:most]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{annotations} is no COCO keypoints file ({error!r}); expected images and annotations"
        ) from error
    folder = annotations.parent.parent / "images" / annotations.stem
    keypoints = np.array([a["keypoints"] for a in chosen], float).reshape(-1, 17, 3)
    people = []
    for annotation in chosen:
        picture = cv2.imread(str(folder / images[annotation["image_id"]]))
        if picture is None:
            raise ValueError(f"{folder / images[annotation['image_id']]} is no picture; expected one per annotation")
        people.append(_look(detector, picture[..., ::-1], np.array(annotation["bbox"])))
    flags = keypoints[..., 2]
    return sample_of(people, keypoints[..., :2] - 0.5, flags == 1, flags > 0, fps=0.0)


def _is_clear(annotation: dict) -> bool:
    is_seen = annotation.get("visible_fraction", 1) >= MIN_VISIBLE and annotation["num_keypoints"] >= 13
    return is_seen and max(annotation["bbox"][2:]) >= MIN_SIZE_PX


def _look(detector: Detector, picture: np.ndarray, box: np.ndarray) -> People:
    """Return whom the detector finds in a crop around box x, y, width, height px, in pixels of the whole picture."""
    margin = CROP_MARGIN * box[2:].max()
    x0, y0 = np.maximum(box[:2] - margin, 0).astype(int)
    x1, y1 = np.minimum(box[:2] + box[2:] + margin, picture.shape[1::-1]).astype(int)
    crop = cv2.resize(picture[y0:y1, x0:x1], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    (seen,) = detector([crop])
    keypoints = ((seen.keypoints + 0.5) / 2 - 0.5 + (x0, y0)).astype(np.float32)
    return People(seen.boxes, seen.box_scores, keypoints, seen.scores)


def sample_of(people: list[People], points: np.ndarray, hidden: np.ndarray, known: np.ndarray, fps: float) -> Sample:
    """Return what the first person of every picture shows, true points (n, 17, 2) px."""
    found = np.array([p.keypoints[0] if len(p) else np.full((17, 2), np.nan) for p in people])
    scores = np.array([p.scores[0] if len(p) else np.zeros(17) for p in people])
    masked = np.where(known[..., None], points, np.nan)
    size = (np.nanmax(masked, axis=1) - np.nanmin(masked, axis=1)).max(-1)[:, None, None]
    if fps:
        size = np.full_like(size, size.mean())
    difference = (found - points) / size
    was_found = np.isfinite(found[:, 0, 0])
    distance = np.where(known & was_found[:, None], np.linalg.norm(difference, axis=-1), np.inf)
    ordered = np.sort(distance, axis=1)
    kept = ordered[np.arange(len(people)), known.sum(1) // 2] < FAILURE  # the median of what is known
    return Sample(
        _along_trunk(difference, points)[kept], (points / size)[kept], (found / size)[kept], scores[kept],
        hidden[kept], known[kept], fps, int((~kept).sum()),
    )  # fmt: skip


def _along_trunk(vectors: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return vectors (n, 17, 2) px turned so that y points from the hips to the shoulders of points (n, 17, 2) px."""
    middle = {
        part: points[:, [COCO17.index(f"left_{part}"), COCO17.index(f"right_{part}")]].mean(1)
        for part in ("shoulder", "hip")
    }
    up = middle["shoulder"] - middle["hip"]
    up = (up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-6))[:, None]  # (n, 1, 2)
    right = np.stack([-up[..., 1], up[..., 0]], axis=-1)
    return np.stack([(vectors * right).sum(-1), (vectors * up).sum(-1)], axis=-1)


def error_tables(title: str, samples: list[Sample]) -> Iterator[Table]:
    """Yield the errors of all samples together: per joint, in time, by score, and swaps of left and right."""
    measured, missed = sum(len(s.errors) for s in samples), sum(s.num_missed for s in samples)
    heading = f"{title}: {measured} pictures, {missed} more with nobody or somebody else; % of the person's size"
    yield _per_joint(heading, samples)
    if any(s.fps for s in samples):
        yield _in_time([s for s in samples if s.fps])
    yield _by_score(samples)
    yield _swaps(samples)


def _per_joint(title: str, samples: list[Sample]) -> Table:
    columns = ("joint", "offset up", "spread up / across", "median, seen", "hidden share", "median, hidden",
               "score seen", "score hidden")  # fmt: skip
    table = new_table(title, columns)
    errors, scores, hidden, known = (
        np.concatenate([getattr(s, name) for s in samples]) for name in ("errors", "scores", "hidden", "known")
    )
    distance = np.linalg.norm(errors, axis=-1)
    for j, name in enumerate(COCO17.names):
        seen, unseen = known[:, j] & ~hidden[:, j], known[:, j] & hidden[:, j]
        low, middle, high = (
            np.percentile(errors[seen, j], [16, 50, 84], axis=0) if seen.any() else np.full((3, 2), np.nan)
        )
        across, up = (high - low) / 2
        table.add_row(
            name, f"{100 * middle[1]:+.1f}", f"{100 * up:.1f} / {100 * across:.1f}", _median(100 * distance[seen, j]),
            f"{unseen.sum() / max(known[:, j].sum(), 1):.2f}", _median(100 * distance[unseen, j]),
            _median(scores[seen, j], 2), _median(scores[unseen, j], 2),
        )  # fmt: skip
    return table


def _median(values: np.ndarray, digits: int = 1) -> str:
    return f"{np.median(values):.{digits}f}" if len(values) else "-"


def _in_time(samples: list[Sample]) -> Table:
    """Return how errors change over time, about each clip's mean: spread, white part, correlation at some lags."""
    lags = [f"correlation after {lag:.2f} s" for lag in LAGS_S]
    title = "errors over time, about their mean in each clip; % of the person's size"
    table = new_table(title, ["joint", "spread", "white part", *lags])
    for j, name in enumerate(COCO17.names):
        series = [s.errors[:, j] - s.errors[:, j].mean(0) for s in samples]
        every = np.concatenate(series)
        white = np.concatenate([np.diff(x, n=2, axis=0) for x in series]).std() / np.sqrt(6)  # 1, -2, 1
        correlations = []
        for lag in LAGS_S:
            steps = [max(1, round(lag * s.fps)) for s in samples]
            products = np.concatenate([x[n:] * x[:-n] for x, n in zip(series, steps, strict=True)])
            correlations.append(products.mean() / np.square(every).mean())
        table.add_row(name, f"{100 * every.std():.2f}", f"{100 * white:.2f}", *(f"{c:.2f}" for c in correlations))
    return table


def _by_score(samples: list[Sample]) -> Table:
    title = "error of the limbs by the detector's score; % of the person's size"
    table = new_table(title, ["score", "keypoints", "median", "mean"])
    limbs = [i for i, name in enumerate(COCO17.names) if name.rpartition("_")[2] in PARTS]
    distance = np.concatenate([np.linalg.norm(x.errors, axis=-1)[:, limbs] for x in samples])
    scores, known = (np.concatenate([getattr(x, name)[:, limbs] for x in samples]) for name in ("scores", "known"))
    for low, high in itertools.pairwise(SCORES):
        inside = distance[known & (scores >= low) & (scores < high)]
        mean = f"{100 * inside.mean():.1f}" if len(inside) else "-"
        table.add_row(f"{low:.2f} to {min(high, 1):.2f}", str(len(inside)), _median(100 * inside), mean)
    return table


def _swaps(samples: list[Sample]) -> Table:
    shares = []
    for pair in PARTS:
        sides = [COCO17.index(f"left_{pair}"), COCO17.index(f"right_{pair}")]
        truth, found, known = (
            np.concatenate([getattr(s, name)[:, sides] for s in samples]) for name in ("truth", "found", "known")
        )
        straight = np.linalg.norm(found - truth, axis=-1).sum(1)
        crossed = np.linalg.norm(found[:, ::-1] - truth, axis=-1).sum(1)
        apart = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=-1) > SWAP_DISTANCE
        is_swapped = known.all(1) & apart & (crossed < SWAP_MARGIN * straight)
        shares.append(f"{is_swapped.mean():.3f}")
    return new_table("share of pictures in which left and right are swapped", PARTS, [shares])
