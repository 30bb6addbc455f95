"""Tables and annotations, read back by other readers: pandas and pycocotools."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas
import pytest
from pycocotools.coco import COCO

from lifter.skeletons import COCO17, H36M17, coco17_to_h36m17
from tests.people import EARLY, GAP, LATE, walkers, with_options

TENTH_MM = 1e-4


@pytest.mark.parametrize("up", ["y", "z"])
def test_csv_is_a_tidy_table_of_everybody(result, write, up):
    table = pandas.read_csv(write("csv", result, up=up))
    assert len(table) == 17 * (150 + 150 - LATE - EARLY)
    assert table.groupby("person").frame.agg(["min", "max"]).to_numpy().tolist() == [[0, 149], [LATE, 149 - EARLY]]
    for index, track in enumerate(result.tracks):
        own = table[table.person == track.person_id]
        places = own[["x_m", "y_m", "z_m"]].to_numpy().reshape(-1, 17, 3)
        expected = with_options(result, up=up).world_joints(index)
        np.testing.assert_allclose(places[track.valid], expected[track.valid], atol=TENTH_MM)
        assert np.isnan(places[~track.valid]).all()
        assert own.joint.to_numpy().reshape(-1, 17)[0].tolist() == list(H36M17.names)
        np.testing.assert_array_equal(own.valid.to_numpy()[::17] == 1, track.valid)
        np.testing.assert_allclose(own.time_s[::17], result.video.timestamps_s[track.frames], atol=1e-6)
        pixels = own[["u_px", "v_px"]].to_numpy().reshape(-1, 17, 2)[track.valid]
        np.testing.assert_allclose(pixels, coco17_to_h36m17(track.keypoints)[track.valid], atol=0.01)


def test_csv_of_nobody_is_a_header(nobody, write):
    table = pandas.read_csv(write("csv", nobody))
    assert len(table) == 0
    assert "x_m" in table


def test_csv_without_meters_does_not_say_meters(walker, write):
    table = pandas.read_csv(write("csv", walkers(walker[:150], unit="normalized")))
    assert "x_normalized" in table
    assert "x_m" not in table


def test_trc_holds_the_markers_and_leaves_gaps_empty(result, write):
    path = write("trc", result, 1)
    lines = path.read_text().splitlines()
    settings = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    assert {k: settings[k] for k in ("NumFrames", "NumMarkers", "Units")} == {
        "NumFrames": "150", "NumMarkers": "17", "Units": "m",
    }  # fmt: skip
    assert float(settings["DataRate"]) == 30
    names = (
        "Hip RHip RKnee RAnkle LHip LKnee LAnkle Spine Neck Nose Head LShoulder LElbow LWrist RShoulder RElbow RWrist"
    )
    assert [name for name in lines[3].split("\t") if name] == ["Frame#", "Time", *names.split()]  # as Pose2Sim's
    assert {row.count("\t") for row in lines[6:]} == {2 + 3 * 17}  # OpenSim wants every cell closed by a tab
    table = pandas.read_csv(path, sep="\t", skiprows=6, header=None, index_col=False, skip_blank_lines=True)
    assert table[0].tolist() == list(range(1, 151))
    np.testing.assert_allclose(table[1], result.video.timestamps_s, atol=1e-6)
    markers = table.iloc[:, 2:53].to_numpy(float).reshape(150, 17, 3)
    track = result.tracks[1]
    shown = np.zeros(150, bool)
    shown[track.frames] = track.valid
    np.testing.assert_allclose(markers[shown], result.world_joints(1)[track.valid], atol=TENTH_MM)
    assert np.isnan(markers[~shown]).all()


def test_coco_is_read_by_the_coco_tools(result, write, capsys):
    coco = COCO(str(write("coco", result)))
    strict = json.loads(write("coco", result).read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert len(coco.loadRes(strict["annotations"]).getAnnIds()) == len(coco.getAnnIds())
    capsys.readouterr()
    assert len(coco.getImgIds()) == 150
    assert coco.loadCats(1)[0]["keypoints"] == list(COCO17.names)
    assert len(coco.getAnnIds(imgIds=[0])) == 1
    both = coco.loadAnns(coco.getAnnIds(imgIds=[LATE]))
    assert [a["track_id"] for a in both] == [0, 1]
    assert len(coco.getAnnIds(imgIds=[LATE + GAP.start])) == 1  # the second is lost there
    points = np.array(both[1]["keypoints"]).reshape(17, 3)
    np.testing.assert_allclose(points[:, :2], result.tracks[1].keypoints[0], atol=0.005 + 1e-4)
    assert set(points[:, 2]) == {2}
    x, y, width, height = both[1]["bbox"]
    assert (points[:, 0] >= x - 0.01).all()
    assert (points[:, :2] <= np.add((x, y), (width, height)) + 0.02).all()


def test_coco_marks_what_was_not_seen(result, write):
    track = result.tracks[0]
    scores, repaired = track.scores.copy(), track.repaired.copy()
    scores[0, 3], repaired[0, 9] = 0.1, True
    observed = track.observed.copy()
    observed[5] = False
    other = replace(track, scores=scores, repaired=repaired & observed[:, None], observed=observed)
    found = json.loads(write("coco", replace(result, tracks=[other], poses=result.poses[:1])).read_text())[
        "annotations"
    ]
    visibility = np.array([a["keypoints"] for a in found]).reshape(-1, 17, 3)[..., 2]
    assert np.flatnonzero(visibility[0] == 1).tolist() == [3, 9]
    assert set(visibility[5]) == {1}
    assert found[0]["keypoint_scores"][3] == pytest.approx(0.1)
