"""Files that users take home: JSON against its schema, npz, overlay video; never a partial file under a final name."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import av
import jsonschema
import numpy as np
import pytest

from app.export import WRITERS, export
from app.export.json import SCHEMA_FILE, document, write_json
from app.geometry.world import camera_height, world_joints
from app.quality.indicators import assess
from app.results import Pose3D, PoseResult, Shot
from app.video.reader import probe
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from detectors.people import Track

SHA = "0" * 64
PROVENANCE = {
    "app": {"name": "posemamba-wild", "version": "0"},
    "detector": {"detector": "fake"},
    "lifter": {
        "name": "posemamba-s", "weights": {"file": "w", "sha256": SHA}, "unit": "m", "fps": 50.0, "window": 243,
        "scan_backend": "cpu", "device": "cpu",
    },
    "options": {"height_m": None, "fov_degrees": 55.0},
    "environment": {},
}  # fmt: skip


@pytest.fixture
def make_result(tmp_path):
    """A function that makes a PoseResult over a real small video, with any number of people."""

    def make(num_people=1, count=40, timestamps=None, fps=30000 / 1001):
        rng = np.random.default_rng(0)
        path = tmp_path / "video with spaces äö.mp4"
        times = np.arange(count) / fps if timestamps is None else timestamps
        info = VideoInfo(path, 160, 120, fps, count, 0, times, timestamps is None)
        write_video(path, (np.full((120, 160, 3), 3 * i % 255, np.uint8) for i in range(count)), info)
        info = probe(path)
        tracks, poses = [], []
        for person in range(num_people):
            frames = np.arange(person, count - 2 * person)
            t = len(frames)
            keypoints = rng.uniform(10, 110, (1, 17, 2)).astype(np.float32) + np.zeros((t, 17, 2), np.float32)
            observed = np.ones(t, bool)
            observed[3:5] = False
            scores = rng.uniform(0, 1, (t, 17)).astype(np.float32)
            repaired = np.zeros((t, 17), bool)
            repaired[1, [9, 15]] = True
            tracks.append(Track(person, frames, keypoints, scores, observed, np.ones(t, bool), repaired))
            joints = rng.normal(size=(t, 17, 3)).astype(np.float32) * 0.4
            poses.append(Pose3D(person, frames, joints - joints[:, :1], scores, "m"))
        return PoseResult(info, tracks, poses, PROVENANCE)

    return make


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("num_people", [0, 1, 2])
def test_json_matches_its_schema(make_result, validator, tmp_path, num_people):
    write_json(make_result(num_people), tmp_path / "pose.json")
    pose = json.loads((tmp_path / "pose.json").read_text())
    validator.validate(pose)
    assert len(pose["people"]) == num_people
    for person in pose["people"]:
        per_frame = ("frames", "keypoints_2d", "joints_3d", "joints_score", "observed", "valid", "repaired")
        assert {len(person[key]) for key in per_frame} == {len(person["frames"])}
        assert all(b - a == 1 for a, b in pairwise(person["frames"]))


def test_json_keeps_the_numbers(make_result):
    result = make_result()
    (person,) = document(result)["people"]
    np.testing.assert_allclose(person["joints_3d"], result.poses[0].joints, atol=0.5e-4 + 1e-7)  # 0.1 mm steps
    np.testing.assert_allclose(
        np.array(person["keypoints_2d"])[..., :2], result.tracks[0].keypoints, atol=0.5e-2 + 1e-5
    )
    assert person["observed"] == result.tracks[0].observed.tolist()
    assert person["repaired"][:3] == [[], [9, 15], []]


def test_json_says_frame_rate_and_hash_of_the_video(make_result):
    video = document(make_result())["video"]
    assert video["fps"] == pytest.approx(30000 / 1001, abs=1e-9)
    assert "timestamps_s" not in video
    assert len(video["sha256"]) == 64


def test_json_of_a_variable_rate_video_has_timestamps(make_result, validator):
    times = np.cumsum(np.r_[0, np.tile([0.02, 0.05, 0.04], 13)])
    pose = document(make_result(count=len(times), timestamps=times))
    validator.validate(pose)
    np.testing.assert_allclose(pose["video"]["timestamps_s"], times, atol=1e-4)  # ticks of 1/90000 s


def test_ten_minutes_of_one_person_stay_under_60_mb(make_result, tmp_path):
    result = make_result(count=40)
    write_json(result, tmp_path / "pose.json")
    empty = len(json.dumps({**document(result), "people": []}, separators=(",", ":")))
    per_frame = ((tmp_path / "pose.json").stat().st_size - empty) / 40
    assert per_frame * 10 * 60 * 50 < 60e6  # even at 50 frames per second


def test_npz_holds_the_same_as_json(make_result, tmp_path):
    result = make_result(2)
    WRITERS["npz"].write(result, tmp_path / "pose.npz")
    with np.load(tmp_path / "pose.npz", allow_pickle=False) as npz:
        for p, (track, pose) in enumerate(zip(result.tracks, result.poses, strict=True)):
            np.testing.assert_array_equal(npz["joints_3d"][track.frames, p], pose.joints)
            np.testing.assert_array_equal(npz["observed"][track.frames, p], track.observed)
            np.testing.assert_array_equal(npz["repaired"][track.frames, p], track.repaired)
            absent = np.setdiff1d(np.arange(result.video.num_frames), track.frames)
            assert np.isnan(npz["joints_3d"][absent, p]).all()
            assert not npz["present"][absent, p].any()
        assert json.loads(str(npz["meta"]))["schema"] == "posemamba/pose/2"


@pytest.mark.parametrize("variable", [False, True])
def test_overlay_plays_in_a_browser_and_keeps_count_and_times(make_result, tmp_path, variable):
    times = np.cumsum(np.r_[0, np.tile([0.02, 0.05, 0.04], 13)]) if variable else None
    result = make_result(count=40, timestamps=times)
    overlay = export(result, tmp_path / "out")["overlay"]
    info = probe(overlay)
    assert info.num_frames == 40
    np.testing.assert_allclose(info.timestamps_s, result.video.timestamps_s, atol=1e-4)  # ticks of 1/90000 s
    with av.open(str(overlay)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    raw = overlay.read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")  # starts to play before it is loaded


def test_overlay_without_people_is_the_video(make_result, tmp_path):
    result = make_result(0)
    overlay = export(result, tmp_path / "out")["overlay"]
    info = probe(overlay)
    assert (info.width, info.height, info.num_frames) == (160, 120, 40)


EVERYTHING = ("json", "npz", "csv", "trc", "bvh", "glb", "coco", "viewer")


@pytest.mark.parametrize("num_people", [0, 1, 2])
def test_people_get_files_of_their_own_where_a_format_holds_one(make_result, tmp_path, num_people):
    written = export(make_result(num_people), tmp_path / "out", formats=EVERYTHING, has_overlay=False)
    one_for_all = {"pose.json", "pose.npz", "pose.csv", "pose.glb", "pose.coco.json", "viewer.html"}
    own = {f"pose.person{i}.{suffix}" for i in range(num_people) for suffix in ("bvh", "trc")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == one_for_all | own
    assert {path.name for path in written.values()} == one_for_all | own


def test_files_of_an_earlier_run_do_not_stay_beside_new_numbers(make_result, tmp_path):
    folder = tmp_path / "out"
    export(make_result(2), folder, formats=EVERYTHING)
    (folder / "notes.txt").write_text("mine")
    export(make_result(1), folder, formats=("json", "bvh"), has_overlay=False)
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "pose.json", "pose.person0.bvh"]


def test_world_coordinates_follow_from_json_as_it_says(make_result):
    result = placed(make_result())
    pose = document(result)
    (person,), (shot,) = pose["people"], pose["camera"]["shots"]
    joints = np.array(person["root"])[:, None] + np.array(person["joints_3d"])
    world = joints @ np.array(shot["to_world"]).T + (0, person["camera_height"], 0)
    np.testing.assert_allclose(world, world_joints(result, 0), atol=3e-4)  # 0.1 mm steps
    assert "to_world @ (root + joint) + (0, camera_height, 0)" in pose["coordinates"]["world"]


def placed(result, unit="m"):
    """The result with a trajectory and a camera that looks down by 20 degrees."""
    tilt = np.radians(20)
    up = np.array([0, -np.cos(tilt), -np.sin(tilt)])
    roots = [np.linspace([-1, 0.2, 4], [1, 0.1, 5], len(pose.frames)).astype(np.float32) for pose in result.poses]
    poses = [replace(p, unit=unit, root=r if unit == "m" else None) for p, r in zip(result.poses, roots, strict=True)]
    return replace(result, poses=poses, shots=(Shot(0, result.video.num_frames, False, up, "bodies and feet"),))


@pytest.mark.parametrize("moves", [True, False, None])
def test_json_of_placed_people_matches_its_schema(make_result, validator, moves):
    result = placed(make_result(2))
    pose = document(replace(result, shots=(replace(result.shots[0], moves=moves),)))
    validator.validate(pose)
    (shot,) = pose["camera"]["shots"]
    assert shot["moves"] is moves
    assert shot["frames"] == [0, 39]
    assert (shot["pitch_degrees"], shot["roll_degrees"]) == (20.0, 0.0)
    for person, track_pose in zip(pose["people"], result.poses, strict=True):
        np.testing.assert_allclose(person["root"], track_pose.root, atol=0.5e-4 + 1e-6)
        assert len(person["root"]) == len(person["frames"])


def test_npz_holds_the_trajectory(make_result, tmp_path):
    result = placed(make_result(2))
    WRITERS["npz"].write(result, tmp_path / "pose.npz")
    with np.load(tmp_path / "pose.npz", allow_pickle=False) as npz:
        for p, pose in enumerate(result.poses):
            np.testing.assert_array_equal(npz["root"][pose.frames, p], pose.root)
            assert npz["camera_height"][p] == pytest.approx(camera_height(result, p))
        assert json.loads(str(npz["meta"]))["camera"]["shots"][0]["up_from"] == "bodies and feet"


def test_without_meters_files_say_so(make_result, validator, tmp_path):
    lifter = {**PROVENANCE["lifter"], "unit": "normalized"}
    result = replace(placed(make_result(), "normalized"), provenance={**PROVENANCE, "lifter": lifter})
    pose = document(result)
    validator.validate(pose)
    assert pose["people"][0]["root"] is None
    assert pose["people"][0]["camera_height"] is None
    assert any("no trajectory" in warning for warning in pose["quality"][0]["warnings"])
    export(result, tmp_path / "out", formats=EVERYTHING)  # all of them can be written all the same


def test_export_removes_the_overlay_part_when_the_video_vanished(make_result, tmp_path):
    result = make_result()
    result.video.path.unlink()
    with pytest.raises(FileNotFoundError):
        export(result, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*overlay*"))


def test_a_height_that_was_not_applied_is_not_claimed(make_result):
    result = make_result()
    lifter = PROVENANCE["lifter"]
    published = {
        **PROVENANCE,
        "options": {"height_m": 1.8, "fov_degrees": 55.0},
        "lifter": {**lifter, "unit": "normalized"},
    }
    ours = {**published, "lifter": lifter}
    applied = document(replace(result, provenance=ours))["coordinates"]["joints_3d"]
    assert (applied["scale"], applied["height_m"]) == ("from_height", 1.8)
    ignored = document(replace(result, provenance=published))["coordinates"]["joints_3d"]
    assert (ignored["scale"], ignored["height_m"]) == ("unknown", None)


def test_quality_compares_nothing_across_a_gap(make_result):
    result = make_result(count=60)
    (track,) = result.tracks
    valid = np.ones(60, bool)
    valid[20:40] = False
    joints = np.zeros((60, 17, 3), np.float32)
    joints[30:, 1:] = 1.0  # stands still on either side of the gap, in two places
    gap = Track(0, track.frames, track.keypoints, track.scores, track.observed & valid, valid)
    still = replace(result, tracks=[gap], poses=[Pose3D(0, track.frames, joints, track.scores, "m")])
    assert assess(still)[0]["jitter"] == 0
