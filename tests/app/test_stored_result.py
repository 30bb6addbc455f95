"""Results read back from pose.json, whole and with fewer people."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from app.export import export
from app.export.json import document, write_json
from app.motion import Shot
from app.options import Options
from app.stored_result import keep_people, read_result
from app.video.video_info import VideoInfo
from tests.people import walkers

UNSTEADY = np.cumsum(np.r_[0, np.tile([0.03, 0.04, 0.05], 40)])[:100]


@pytest.fixture(params=["steady", "unsteady"])
def result(request, walker, tmp_path):
    """Two people; there is no video file."""
    made = walkers(walker[:100], 2, height="1.8")
    if request.param == "unsteady":
        video = VideoInfo(
            tmp_path / "gone.mp4", 1280, 720, 1 / np.diff(UNSTEADY).mean(), 100, 90, UNSTEADY, False, ("!",)
        )
        made = walkers(walker[:100], 2, video=video, height="1.8")
    up = np.array([0.0, -np.cos(0.1), np.sin(0.1)])
    provenance = {"options": {**vars_of(made.options), "formats": ["json", "csv"]}}
    made = replace(made, shots=(Shot(0, 100, False, up, "bodies and feet"),), provenance=provenance)
    vars(made)["video_sha256"] = "ab" * 32
    return made


def vars_of(options: Options) -> dict:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


@pytest.fixture
def stored(result, tmp_path):
    write_json(result, tmp_path / "pose.json")
    return read_result(tmp_path / "pose.json", result.video)


def test_what_is_read_writes_the_same_file_again(result, stored):
    before, after = json.loads(json.dumps(document(result))), json.loads(json.dumps(document(stored)))
    for old, new in zip(before["people"], after["people"], strict=True):
        assert old.pop("camera_height") == pytest.approx(new.pop("camera_height"), abs=2e-3)  # from rounded joints
    assert before == after
    assert (stored.options.height, stored.options.formats) == ("1.8", ("json", "csv"))


def test_those_who_were_not_chosen_are_in_no_file(stored, tmp_path):
    formats = ("json", "npz", "csv", "trc", "bvh", "glb", "coco", "viewer")
    export(stored, tmp_path / "all", formats=formats, has_overlay=False)
    kept = keep_people(stored, "1")
    export(kept, tmp_path / "kept", formats=formats, has_overlay=False)
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {name for name in names if "person0" not in name}
    before, after = (json.loads((tmp_path / name / "pose.json").read_text()) for name in ("all", "kept"))
    assert [person["id"] for person in after["people"]] == [quality["id"] for quality in after["quality"]] == [1]
    assert after["people"][0]["joints_3d"] == before["people"][1]["joints_3d"]
    assert after["quality"][0] == before["quality"][1]
    assert after["provenance"]["options"]["people"] == "1"
    for name in ("pose.person1.bvh", "pose.person1.trc"):  # no number of theirs depends on the others
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    with np.load(tmp_path / "kept" / "pose.npz") as arrays:
        assert arrays["person_ids"].tolist() == [1]
        assert arrays["joints_3d"].shape[1] == 1


def test_a_person_who_is_not_there_cannot_be_kept(stored):
    with pytest.raises(ValueError, match="no person 7 in this clip; found 0, 1"):
        keep_people(stored, "7")
