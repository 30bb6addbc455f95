import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.people import People
from detectors.pose_geometry import MAX_SHIFT, MIRRORED, body_center, body_size, is_possible_motion
from detectors.tracking.build_tracks import build_tracks
from detectors.tracking.keypoint_repair import UNSEEN_SCORE
from tests.people import people_at, standing, walking

HEIGHT_M = 1.55  # nose to ankles of a person of 1.75 m


def walker(time_s: float, speed_m_s: float = 1.4, height: float = 200) -> np.ndarray:
    return walking([time_s], 100, speed_m_s / HEIGHT_M * height, height)[0].astype(np.float32)


@pytest.mark.parametrize("fps", [10, 25, 60])
@pytest.mark.parametrize("speed_m_s", [0.0, 1.4, 5.0])  # standing, walking, running
def test_walking_and_running_are_possible_motions(fps, speed_m_s):
    poses = [walker(frame / fps, speed_m_s) for frame in range(2 * fps)]
    assert all(is_possible_motion(before, after, 1) for before, after in itertools.pairwise(poses))


@pytest.mark.parametrize("elapsed", [1, 5, 24])
def test_a_teleport_is_no_possible_motion(elapsed):
    assert not is_possible_motion(standing(100), standing(100 + 2 * 200), elapsed)


def test_a_bystander_of_another_size_is_no_possible_motion():
    assert not is_possible_motion(standing(100), standing(100, height=100), 1)


def test_a_fast_body_may_go_on_where_it_was_heading():
    before, after = standing(0), standing(2 * MAX_SHIFT * body_size(standing(0)))
    drift = body_center(after) - body_center(before)
    assert not is_possible_motion(before, after, 1)
    assert is_possible_motion(before, after, 1, drift)


def test_nobody_at_all_gives_no_track():
    assert build_tracks([People.nobody()] * 5, 3, 1) == []
    assert build_tracks([], 3, 1) == []


@pytest.mark.parametrize("num_seen", [0, 1])
def test_a_box_in_which_no_joint_was_ever_seen_is_nobody(num_seen):
    clip = [people_at(standing(100), scores=UNSEEN_SCORE / 2, joint_score=UNSEEN_SCORE / 2) for _ in range(6)]
    clip[3].scores[0, 5 : 5 + num_seen] = UNSEEN_SCORE
    assert len(build_tracks(clip, 2, 1)) == num_seen


def test_one_frame_gives_one_frame():
    (track,) = build_tracks([people_at(standing(100))], 3, 1)
    assert track.frames.tolist() == [0]
    assert track.observed.all()


@pytest.mark.parametrize(("max_gap_frames", "min_track_frames"), [(-1, 1), (0, 0)])
def test_impossible_limits_are_refused(max_gap_frames, min_track_frames):
    with pytest.raises(ValueError, match="or more, got"):
        build_tracks([], max_gap_frames, min_track_frames)


def test_short_gap_is_filled_on_the_line_in_time_and_stays_valid():
    clip = [people_at(), people_at(standing(100)), people_at(), people_at(), people_at(standing(130)), people_at()]
    (track,) = build_tracks(clip, 2, 1)
    assert track.frames.tolist() == [1, 2, 3, 4]
    assert track.observed.tolist() == [True, False, False, True]
    assert track.valid.all()
    np.testing.assert_allclose(track.keypoints[1:3], [standing(110), standing(120)], atol=1e-3)  # float32 of 300 px
    assert (track.scores[1:3] == 0).all()


def test_person_who_leaves_and_returns_elsewhere_stays_the_same_but_is_invalid_between():
    clip = [people_at(standing(100))] * 3 + [people_at()] * 5 + [people_at(standing(900, height=90))] * 3
    (track,) = build_tracks(clip, 4, 1)
    assert track.valid.tolist() == [True] * 3 + [False] * 5 + [True] * 3
    assert np.isfinite(track.keypoints).all()


def test_jump_without_absence_starts_a_new_person():
    first, second = build_tracks([people_at(standing(100))] * 3 + [people_at(standing(900))] * 3, 4, 1)
    assert (first.person_id, first.frames.tolist()) == (0, [0, 1, 2])
    assert (second.person_id, second.frames.tolist()) == (1, [3, 4, 5])


def test_two_people_keep_their_ids_when_listed_in_changing_order():
    left, right = [standing(100 + 5 * t) for t in range(10)], [standing(600 - 5 * t) for t in range(10)]
    clip = [people_at(*((left[t], right[t]) if t % 2 else (right[t], left[t]))) for t in range(10)]
    clip[0] = people_at(left[0], right[0])
    first, second = build_tracks(clip, 2, 1)
    np.testing.assert_array_equal(first.keypoints, left)
    np.testing.assert_array_equal(second.keypoints, right)


def test_ids_count_only_kept_tracks_in_order_of_appearance():
    stays, flickers, joins = standing(100), standing(900), standing(500)
    clip = [people_at(flickers), people_at(stays), people_at(stays, joins), people_at(stays, joins)]
    tracks = build_tracks(clip, 1, 2)
    assert [track.person_id for track in tracks] == [0, 1]
    assert [int(track.frames[0]) for track in tracks] == [1, 2]


def test_sides_swapped_for_less_than_half_of_the_track_are_swapped_back_and_flagged():
    truth = [standing(100)] * 30
    clip = truth[:10] + [standing(100)[MIRRORED]] * 12 + truth[22:]
    (track,) = build_tracks([people_at(pose) for pose in clip], 2, 1)
    np.testing.assert_array_equal(track.keypoints, truth)
    np.testing.assert_array_equal(track.swapped, track.repaired)
    assert np.flatnonzero(track.swapped.any(axis=1)).tolist() == list(range(10, 22))


def test_limb_that_moves_away_and_stays_is_no_spike():
    clip = [standing(100) for _ in range(8)]
    for pose in clip[4:]:
        pose[9] -= (0, 0.5 * body_size(pose))
    (track,) = build_tracks([people_at(pose) for pose in clip], 2, 1)
    np.testing.assert_array_equal(track.keypoints, np.stack(clip))


def test_unseen_joint_between_confident_ones_is_interpolated_and_keeps_its_score():
    truth = [standing(100 + 2 * t) for t in range(6)]
    clip = [people_at(pose) for pose in truth]
    clip[2].keypoints[0, 15] += 15
    clip[2].scores[0, 15] = UNSEEN_SCORE / 2
    (track,) = build_tracks(clip, 2, 1)
    np.testing.assert_allclose(track.keypoints, np.stack(truth), atol=1e-3)  # float32 of 300 px
    assert track.scores[2, 15] == np.float32(UNSEEN_SCORE / 2)


def test_unseen_joint_without_confident_neighbors_is_left_alone():
    clip = [people_at(standing(100 + 2 * t)) for t in range(6)]
    for frame in clip:
        frame.scores[0, 15] = UNSEEN_SCORE / 2
    clip[2].keypoints[0, 15] += 15
    (track,) = build_tracks(clip, 2, 1)
    np.testing.assert_array_equal(track.keypoints[2], clip[2].keypoints[0])


@settings(max_examples=30, deadline=None)
@given(fps=st.integers(10, 60), speed=st.floats(0, 5), height=st.floats(60, 900), num_frames=st.integers(1, 60))
def test_clean_motion_passes_unchanged(fps, speed, height, num_frames):
    poses = [walker(frame / fps, speed, height) for frame in range(num_frames)]
    (track,) = build_tracks([people_at(pose) for pose in poses], 3, 1)
    np.testing.assert_array_equal(track.keypoints, np.stack(poses))
    assert track.observed.all()
    assert track.valid.all()


@settings(max_examples=50, deadline=None)
@given(seen=st.lists(st.booleans(), min_size=1, max_size=60).filter(any), max_gap_frames=st.integers(0, 10))
def test_one_person_with_any_absences_is_one_track_true_to_what_was_seen(seen, max_gap_frames):
    poses = [walker(frame / 25) for frame in range(len(seen))]
    clip = [people_at(pose) if here else people_at() for pose, here in zip(poses, seen, strict=True)]
    (track,) = build_tracks(clip, max_gap_frames, 1)
    assert track.observed.tolist() == [seen[frame] for frame in track.frames]
    np.testing.assert_array_equal(
        track.keypoints[track.observed], [poses[frame] for frame in track.frames if seen[frame]]
    )
    longest = max((len(list(run)) for here, run in itertools.groupby(track.observed) if not here), default=0)
    assert track.valid.all() == (longest <= max_gap_frames)
