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
from app.export.json import SCHEMA_FILE, document
from app.options import FORMATS
from app.pose_schema import SCHEMA, read_pose_json
from app.video.reader import probe
from app.video.video_info import VideoInfo
from app.video.writer import write_video
from tests.people import FILLED, LATE, walkers, with_options

VARYING = np.cumsum(np.r_[0, np.tile([0.02, 0.05, 0.04], 40)])[:120]


@pytest.fixture
def make_result(walker, tmp_path):
    """A function that makes a result over a real small video, with any number of people."""

    def make(num_people=1, *, times=None, fps=30000 / 1001, **settings):
        path, count = tmp_path / "video with spaces äö.mp4", 120 if times is None else len(times)
        info = VideoInfo(
            path, 160, 120, fps, count, 0, np.arange(count) / fps if times is None else times, times is None
        )
        write_video(path, (np.full((120, 160, 3), 2 * i, np.uint8) for i in range(count)), info)
        return walkers(walker[:count], num_people, video=probe(path), **settings)

    return make


@pytest.fixture(scope="module")
def validate():
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).validate


@pytest.mark.parametrize("num_people", [0, 1, 2])
@pytest.mark.parametrize("is_camera_moving", [True, None])
def test_json_matches_its_schema_and_keeps_the_numbers(make_result, validate, tmp_path, num_people, is_camera_moving):
    result = make_result(num_people, is_camera_moving=is_camera_moving)
    WRITERS["json"].write(result, tmp_path / "pose.json")
    pose = read_pose_json(tmp_path / "pose.json")
    validate(pose)
    assert [person["id"] for person in pose["people"]] == list(range(num_people))
    for person, (track, truth) in zip(pose["people"], result.people, strict=True):
        lists = ("keypoints_2d", "joints_3d", "joints_score", "observed", "valid", "repaired", "root")
        assert {len(person[key]) for key in lists} == {len(person["frames"])}
        assert all(b - a == 1 for a, b in pairwise(person["frames"]))
        np.testing.assert_allclose(person["joints_3d"], truth.joints, atol=0.5e-4 + 1e-7)  # 0.1 mm steps
        np.testing.assert_allclose(person["root"], truth.root, atol=0.5e-4 + 1e-6)
        np.testing.assert_allclose(np.array(person["keypoints_2d"])[..., :2], track.keypoints, atol=0.5e-2 + 1e-4)
        assert person["observed"] == track.observed.tolist()
    (shot,) = pose["camera"]["shots"]
    assert (shot["is_camera_moving"], shot["frames"]) == (is_camera_moving, [0, 119])
    if num_people:
        assert (shot["pitch_degrees"], shot["roll_degrees"]) == (10.0, 0.0)


def test_json_lists_repaired_joints(make_result):
    result = make_result()
    repaired = np.zeros((120, 17), bool)
    repaired[1, [9, 15]] = True
    result = replace(result, tracks=[replace(result.tracks[0], repaired=repaired)])
    assert document(result)["people"][0]["repaired"][:3] == [[], [9, 15], []]


def test_json_has_times_only_where_the_rate_varies(make_result, validate):
    constant, varying = (document(make_result(times=times))["video"] for times in (None, VARYING))
    assert constant["fps"] == pytest.approx(30000 / 1001, abs=1e-9)
    assert "timestamps_s" not in constant
    assert len(constant["sha256"]) == 64
    np.testing.assert_allclose(varying["timestamps_s"], VARYING, atol=1e-4)  # ticks of 1/90000 s


def test_json_of_another_schema_version_is_refused(make_result, tmp_path):
    path = tmp_path / "pose.json"
    path.write_text(json.dumps({**document(make_result()), "schema": "posemamba/pose/2"}))
    with pytest.raises(ValueError, match=f"has schema 'posemamba/pose/2', this version reads '{SCHEMA}'"):
        read_pose_json(path)


def test_ten_minutes_of_one_person_stay_under_60_mb(make_result):
    sizes = [len(json.dumps(document(make_result(count)), separators=(",", ":"))) for count in (1, 0)]
    assert (sizes[0] - sizes[1]) / 120 * 10 * 60 * 50 < 60e6  # even at 50 frames per second


def test_npz_holds_the_same_as_json(make_result, tmp_path):
    result = make_result(2)
    WRITERS["npz"].write(result, tmp_path / "pose.npz")
    with np.load(tmp_path / "pose.npz", allow_pickle=False) as npz:
        for p, (track, pose) in enumerate(result.people):
            absent = np.setdiff1d(np.arange(120), track.frames)
            for name, values in {"joints_3d": pose.joints, "root": pose.root, "joints_score": pose.scores}.items():
                np.testing.assert_array_equal(npz[name][track.frames, p], values)
                assert np.isnan(npz[name][absent, p]).all()
            for name in ("observed", "valid", "repaired"):
                np.testing.assert_array_equal(npz[name][track.frames, p], getattr(track, name))
            assert np.flatnonzero(~npz["present"][:, p]).tolist() == absent.tolist()
            assert npz["camera_height"][p] == pytest.approx(result.camera_height(p))
        meta, pose = json.loads(str(npz["meta"])), document(result)
    assert meta == {key: pose[key] for key in ("schema", "coordinates", "camera", "models", "provenance")}


@pytest.mark.parametrize("times", [None, VARYING], ids=["constant", "varying"])
def test_overlay_plays_in_a_browser_and_keeps_count_and_times(make_result, tmp_path, times):
    result = make_result(times=times)
    overlay = export(result, tmp_path / "out")["overlay"]
    info = probe(overlay)
    assert info.num_frames == 120
    np.testing.assert_allclose(info.timestamps_s, result.video.timestamps_s, atol=1e-4)  # ticks of 1/90000 s
    with av.open(str(overlay)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    raw = overlay.read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")  # starts to play before it is loaded


@pytest.mark.parametrize("num_people", [0, 1, 2])
def test_people_get_files_of_their_own_where_a_format_holds_one(make_result, tmp_path, num_people):
    written = export(make_result(num_people), tmp_path / "out", formats=FORMATS, has_overlay=False)
    one_for_all = {"pose.json", "pose.npz", "pose.csv", "pose.glb", "pose.coco.json", "viewer.html"}
    own = {f"pose.person{i}.{suffix}" for i in range(num_people) for suffix in ("bvh", "trc")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == one_for_all | own
    assert {path.name for path in written.values()} == one_for_all | own


def test_files_of_an_earlier_run_do_not_stay_beside_new_numbers(make_result, tmp_path):
    folder = tmp_path / "out"
    export(make_result(2, formats=FORMATS), folder)
    assert (folder / "pose.person1.trc").exists()
    (folder / "notes.txt").write_text("mine")
    export(make_result(1, formats=("json", "bvh"), has_overlay=False), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "pose.json", "pose.person0.bvh"]


def test_world_coordinates_follow_from_json_as_it_says(make_result):
    result = make_result()
    pose = document(result)
    (person,), (shot,) = pose["people"], pose["camera"]["shots"]
    joints = np.array(person["root"])[:, None] + np.array(person["joints_3d"])
    world = joints @ np.array(shot["to_world"]).T + (0, person["camera_height"], 0)
    np.testing.assert_allclose(world, result.world_joints(0), atol=3e-4)  # 0.1 mm steps
    assert "to_world @ (root + joint) + (0, camera_height, 0)" in pose["coordinates"]["world"]


def test_without_meters_files_say_so(make_result, validate, tmp_path):
    result = make_result(unit="normalized")
    pose = document(result)
    validate(pose)
    assert (pose["people"][0]["root"], pose["people"][0]["camera_height"]) == (None, None)
    assert any("no trajectory" in warning for warning in pose["quality"][0]["warnings"])
    export(result, tmp_path / "out", formats=FORMATS, has_overlay=False)  # all of them can be written all the same


@pytest.mark.parametrize(("unit", "scale"), [("m", ("from_height", 1.8)), ("normalized", ("unknown", None))])
def test_a_height_that_was_not_applied_is_not_claimed(make_result, unit, scale):
    person = document(make_result(unit=unit, height="0=1.8"))["people"][0]
    assert (person["scale"], person["height_m"]) == scale


def test_export_removes_the_overlay_part_when_the_video_vanished(make_result, tmp_path):
    result = with_options(make_result(), formats=("npz",))
    result.video.path.unlink()
    with pytest.raises(FileNotFoundError):
        export(result, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*overlay*"))


def test_numbers_of_a_clip_are_computed_once(make_result):
    result = make_result(2)
    assert document(result)["video"]["sha256"] == result.video_sha256
    result.video.path.unlink()
    assert document(result)["video"]["sha256"] == result.video_sha256
    assert result.quality is result.quality
    assert result.floors is result.floors
    assert result.quality[1].interpolated == pytest.approx((20 + 4) / (120 - LATE - 10), abs=1e-4)
    assert not result.tracks[0].observed[FILLED].any()
