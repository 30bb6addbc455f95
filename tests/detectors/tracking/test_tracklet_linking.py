"""Several people over time: who is who through crossings, absences and cuts, measured against known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from detectors.people import People
from detectors.tracking.appearance import NUM_COLORS
from detectors.tracking.build_tracks import build_tracks
from tests.people import COCO_STANDING, people_at, walking

FPS = 30
MAX_GAP, MIN_TRACK = 15, 9  # frames: the defaults of Options at 30 fps
HIDDEN = 8  # fewer visible joints than this and a detector mostly misses the person


@dataclass(frozen=True)
class Errors:
    """What the simulated detector does wrong; shares per person and frame."""

    noise: float = 0.02  # standard deviation per joint and axis [body heights]
    miss: float = 0.03
    hidden_miss: float = 0.7
    hidden_confusion: float = 0.3  # a hidden person gets the joints of who stands in front
    duplicate: float = 0.1
    false_alarm: float = 0.05  # per frame


EXACT = Errors(0, 0, 1, 0, 0, 0)


def detections(truth: np.ndarray, visible: np.ndarray, errors: Errors, seed: int) -> list[People]:
    """Return what a detector with ``errors`` makes of keypoints (F, P, 17, 2) and counts of visible joints (F, P).

    Everybody who shows no joint at all is missed. The order within a frame is random.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for poses, counts in zip(truth, visible, strict=True):
        found: list[tuple[np.ndarray, float]] = []
        for person, (pose, count) in enumerate(zip(poses, counts, strict=True)):
            is_hidden = count < HIDDEN
            if count == 0 or rng.random() < (errors.hidden_miss if is_hidden else errors.miss):
                continue
            source = poses[1 - person] if is_hidden and rng.random() < errors.hidden_confusion else pose
            noise = errors.noise * np.ptp(pose[:, 1]) * (2 if is_hidden else 1)
            seen = source + rng.normal(0, noise, (17, 2))
            score = rng.uniform(0.2, 0.6) if is_hidden else rng.uniform(0.5, 0.95)
            found.append((seen, score))
            if rng.random() < errors.duplicate:
                found.append((seen + rng.normal(0, 0.5 * noise, (17, 2)), score * rng.uniform(0.4, 0.95)))
        if rng.random() < errors.false_alarm:
            ghost = COCO_STANDING * rng.uniform(60, 300) + rng.uniform([0, 100], [850, 400])
            found.append((ghost + rng.normal(0, 10, (17, 2)), rng.uniform(0.2, 0.6)))
        found = [found[i] for i in rng.permutation(len(found))]
        frames.append(people_at(*(pose for pose, _ in found), scores=[score for _, score in found]))
    return frames


def owners(tracks, truth, visible) -> np.ndarray:
    """Return (F, P) int: the id of the track that covers a person in a frame, -1 where none does."""
    ids = np.full(truth.shape[:2], -1)
    for track in tracks:
        for frame, pose in zip(track.frames[track.observed], track.keypoints[track.observed], strict=True):
            distance = np.linalg.norm(truth[frame] - pose, axis=-1).mean(axis=-1) / np.ptp(
                truth[frame, :, :, 1], axis=1
            )
            distance[visible[frame] == 0] = np.inf
            if distance.min() < 0.2:
                ids[frame, distance.argmin()] = track.person_id
    return ids


def switches(ids: np.ndarray) -> int:
    """Return how often somebody's id changes from one frame in which they were covered to the next."""
    return sum(int((np.diff(column[column >= 0]) != 0).sum()) for column in ids.T)


def idf1(tracks, ids: np.ndarray, visible: np.ndarray) -> float:
    """Return 2 true / (tracked + existing) sightings under the best pairing of tracks with people."""
    hits = np.array([[(column == track.person_id).sum() for column in ids.T] for track in tracks])
    rows, columns = linear_sum_assignment(-hits)
    tracked = sum(int(track.observed.sum()) for track in tracks)
    return 2 * hits[rows, columns].sum() / (tracked + (visible > 0).sum())


def walker(num_frames: int, x: float, speed: float, height: float = 200, start: float = 0.0) -> np.ndarray:
    """Return keypoints (F, 17, 2) of somebody who walks ``speed`` px per frame, ``start`` strides into a stride."""
    return walking(np.arange(num_frames) / FPS, x, speed * FPS, height, start)


def always(truth: np.ndarray) -> np.ndarray:
    return np.full(truth.shape[:2], 17)


def tracked(clip, **settings):
    return build_tracks(clip, MAX_GAP, MIN_TRACK, **{"fps": FPS, **settings})


def colors(shade: int) -> np.ndarray:
    row = np.zeros(NUM_COLORS, np.float32)
    row[[shade, 5 + shade, 13 + shade, 21 + shade, 26 + shade, 34 + shade]] = 1
    return row


@pytest.fixture(scope="module")
def crossing(shared):
    """(F, 2, 17, 2) px and (F, 2) visible joints of two people who cross at frames 40 to 48, one behind the other."""
    path = shared / "data" / "synthetic" / "two_people.gt.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {shared.name}/")
    truth = np.load(path)
    return truth["coco_px"].astype(float), truth["coco_visible"].sum(axis=-1)


@pytest.mark.parametrize("errors", [Errors(), Errors(hidden_miss=1), Errors(noise=0.03, miss=0.1, duplicate=0.3)])
@pytest.mark.parametrize("turns_back", [False, True], ids=["pass", "turn back"])
def test_two_people_who_meet_stay_two_people(crossing, errors, turns_back):
    order = np.r_[0:44, 43:-1:-1] if turns_back else np.arange(182)  # turning back fools whoever only extrapolates
    truth, visible = (values[order] for values in crossing)
    for seed in range(4):
        tracks = tracked(detections(truth, visible, errors, seed))
        ids = owners(tracks, truth, visible)
        assert (len(tracks), switches(ids)) == (2, 0), seed
        assert idf1(tracks, ids, visible) > 1 - 1.2 * errors.miss - 0.06, seed  # about 10 of 182 hidden frames are lost


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_no_id_moves_to_somebody_else_whatever_the_noise(crossing, seed):
    truth, visible = crossing
    tracks = tracked(detections(truth, visible, Errors(), seed))
    ids = owners(tracks, truth, visible)
    assert switches(ids) == 0
    assert len(tracks) == 2


def test_same_detections_give_same_ids_in_any_order(crossing):
    truth, visible = crossing
    clip = detections(truth, visible, Errors(false_alarm=0, duplicate=0), 3)
    reverse = [People(*(getattr(p, n)[::-1] for n in ("boxes", "box_scores", "keypoints", "scores"))) for p in clip]
    for first, second in zip(tracked(clip), tracked(reverse), strict=True):
        assert first.person_id == second.person_id
        np.testing.assert_array_equal(first.keypoints, second.keypoints)


def test_three_people_in_a_row_keep_apart():
    truth = np.stack([walker(90, x, 3, start=x / 400) for x in (100, 190, 280)], axis=1)
    tracks = tracked(detections(truth, always(truth), Errors(hidden_confusion=0), 0))
    assert len(tracks) == 3
    assert switches(owners(tracks, truth, always(truth))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_person_hidden_for_most_of_a_second_comes_out_as_themselves(seed):
    truth = np.stack([walker(90, 400, 0), walker(90, 190, 5, height=180)], axis=1)
    visible = always(truth)
    visible[32:53, 1] = 0  # 0.7 s behind the one who stands
    tracks = tracked(detections(truth, visible, Errors(false_alarm=0), seed))
    ids = owners(tracks, truth, visible)
    assert len(tracks) == 2
    assert switches(ids) == 0
    hidden = next(track for track in tracks if track.person_id == ids[80, 1])
    assert not hidden.observed[32 - hidden.frames[0] : 53 - hidden.frames[0]].any()


@pytest.mark.parametrize("knows_appearance", [False, True])
def test_who_turned_back_behind_a_wall_is_told_by_appearance(knows_appearance):
    there = np.stack([walker(32, 270, 4), walker(32, 530, -4, start=0.5)], axis=1)
    truth = np.concatenate([there, there[::-1]])
    visible = always(truth)
    visible[26:38] = 0  # both: from their motion alone they seem to have walked on
    clip = detections(truth, visible, EXACT, 0)
    worn = [
        np.array([colors(0 if x < 400 else 3) for x in present.keypoints[:, 11, 0]]).reshape(-1, NUM_COLORS)
        for present in clip
    ]
    tracks = tracked(clip, appearance=worn if knows_appearance else None)
    assert len(tracks) == 2
    assert switches(owners(tracks, truth, visible)) == (0 if knows_appearance else 2)


def test_people_enter_late_and_leave_early():
    truth = np.stack([walker(90, 100, 2), walker(90, 500, -1), walker(90, 700, 1)], axis=1)
    visible = always(truth)
    visible[:30, 1] = 0
    visible[60:, 2] = 0
    first, second, third = tracked(detections(truth, visible, EXACT, 0))
    spans = [(int(track.frames[0]), int(track.frames[-1])) for track in (first, second, third)]
    assert spans == [(0, 89), (0, 59), (30, 89)]
    assert [track.person_id for track in (first, second, third)] == [0, 1, 2]


def returning(appearance_after: int | None, appearance_other: int = 0):
    """Return two people of whom one is away for 3 s and back at the same place, and what they wear."""
    truth = np.stack([walker(200, 200, 0), walker(200, 600, 0)], axis=1)
    visible = always(truth)
    visible[50:140, 1] = 0
    clip = detections(truth, visible, EXACT, 0)
    if appearance_after is None:
        return clip, None
    rows = []
    for frame, present in enumerate(clip):
        is_left = present.keypoints[:, 0, 0] < 400
        shade = appearance_after if frame >= 140 else 3
        rows.append(np.stack([colors(appearance_other if left else shade) for left in is_left]))
    return clip, rows


@pytest.mark.parametrize(
    ("appearance_after", "appearance_other", "count"),
    [(3, 0, 2), (1, 0, 3), (None, 0, 3), (3, 3, 3)],
    ids=["same appearance", "other appearance", "nothing known", "somebody else wears the same"],
)
def test_only_who_is_recognized_for_sure_gets_the_old_id_back(appearance_after, appearance_other, count):
    clip, appearance = returning(appearance_after, appearance_other)
    assert len(tracked(clip, appearance=appearance)) == count


def test_somebody_dressed_differently_is_not_who_was_there_before():
    truth = walker(200, 200, 0)[:, None]
    visible = always(truth)
    visible[50:140] = 0
    clip = detections(truth, visible, EXACT, 0)
    appearance = [np.tile(colors(0 if frame < 100 else 3), (len(p), 1)) for frame, p in enumerate(clip)]
    assert len(tracked(clip)) == 1  # nobody else in the clip: they left and came back ...
    assert len(tracked(clip, appearance=appearance)) == 2  # ... unless they look different


def test_a_cut_ends_everybody():
    truth = np.stack([walker(60, 200, 0), walker(60, 600, 0)], axis=1)
    clip = detections(truth, always(truth), EXACT, 0)
    tracks = tracked(clip, cuts=[30])
    assert [(int(t.frames[0]), int(t.frames[-1])) for t in tracks] == [(0, 29), (0, 29), (30, 59), (30, 59)]
    assert [track.person_id for track in tracks] == [0, 1, 2, 3]


def test_second_detections_make_no_second_person():
    truth = walker(60, 200, 2)[:, None]
    clip = detections(truth, always(truth), Errors(0.01, 0, 0, 0, 1, 0), 0)
    assert all(len(present) == 2 for present in clip)
    assert len(tracked(clip)) == 1


def test_a_weak_detection_continues_a_person_but_makes_none():
    truth = np.stack([walker(60, 200, 2), walker(60, 600, 0)], axis=1)
    clip = detections(truth, always(truth), EXACT, 0)
    for frame, present in enumerate(clip):
        is_right = present.keypoints[:, 0, 0] > 400
        present.box_scores[is_right | (20 <= frame < 30)] = 0.2
    (track,) = tracked(clip)
    assert track.observed.all()
    assert len(track.frames) == 60


@pytest.mark.parametrize("num_frames", [0, 1])
def test_the_shortest_clips(num_frames):
    truth = np.stack([walker(1, 200, 0), walker(1, 600, 0)], axis=1)[:num_frames]
    clip = detections(truth, always(truth), EXACT, 0)
    assert len(build_tracks(clip, MAX_GAP, 1, FPS)) == 2 * num_frames
    assert tracked([People.nobody()] * num_frames) == []


def test_clothes_of_other_people_are_refused():
    with pytest.raises(ValueError, match="one row per person"):
        tracked([People.nobody()], appearance=[np.zeros((1, NUM_COLORS), np.float32)])
