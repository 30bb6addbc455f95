"""Files out of an existing pose.json: the same as those of the run, and one sentence for what is no result."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from app.convert import Target, convert
from app.export import WRITERS, write_formats
from app.export.json import document
from app.options import FORMATS, PRESETS, Options
from app.pose_reader import read_result
from tests.people import walkers, with_options


@pytest.fixture
def result(walker, tmp_path):
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"a video")
    made = walkers(walker[:60])
    return replace(made, video=replace(made.video, path=video))


@pytest.fixture
def source(result, tmp_path):
    folder = tmp_path / "result"
    folder.mkdir()
    WRITERS["json"].write(result, folder / "pose.json")
    result.video.path.unlink()  # what follows needs no video
    return folder


def test_a_result_is_read_back_as_it_was_written(result, source):
    again, before = document(read_result(source)), document(result)
    assert before == again
    for new, old in zip(read_result(source).poses, result.poses, strict=True):
        np.testing.assert_allclose(new.joints, old.joints, atol=1e-4)


def test_every_format_is_as_that_of_the_run(result, source, tmp_path):
    (tmp_path / "run").mkdir()
    written = convert(source, Target(tmp_path / "out", FORMATS), Options())
    assert set(written) == set(write_formats(result, tmp_path / "run", FORMATS))
    for kind, path in written.items():
        if kind == "csv":
            new, old = (pandas.read_csv(each) for each in (path, tmp_path / "run" / path.name))
            pandas.testing.assert_frame_equal(new, old, atol=0.011, rtol=0)  # pixels, of two roundings
            np.testing.assert_allclose(new[["x_m", "y_m", "z_m"]], old[["x_m", "y_m", "z_m"]], atol=5e-4)
        elif kind == "npz":
            new, old = (np.load(each) for each in (path, tmp_path / "run" / path.name))
            for name in ("joints_3d", "root", "joints_score", "valid", "repaired"):
                np.testing.assert_allclose(new[name], old[name], atol=1e-3)
        elif path.suffix == ".bvh":
            new, old = (np.loadtxt(each, skiprows=134) for each in (path, tmp_path / "run" / path.name))
            np.testing.assert_allclose(new, old, atol=0.2)  # degrees, of joints to a tenth of a millimeter
    assert not (source / "pose.csv").exists()


def test_people_units_and_axes_can_be_chosen(result, source, tmp_path):
    options = Options(people="1", unit="cm", up="z")
    written = convert(source / "pose.json", Target(tmp_path / "out", ("csv", "bvh")), options)
    assert set(written) == {"csv", "bvh person1"}
    table = pandas.read_csv(written["csv"])
    assert set(table.person) == {1}
    expected = with_options(result, up="z").world_joints(1)[result.tracks[1].valid]
    places = table[["x_m", "y_m", "z_m"]].dropna().to_numpy().reshape(-1, 17, 3)
    np.testing.assert_allclose(places, expected, atol=2e-3)
    hips = written["bvh person1"].read_text().split("JOINT Hips")[1].split("OFFSET")[1].split()[:3]
    assert float(hips[2]) > 50  # centimeters


def test_what_a_preset_chooses_gives_way_to_flags(source, tmp_path):
    run = CliRunner().invoke(cli, ["convert", str(source), "--for", "animation", "-o", str(tmp_path / "a")])
    assert run.exit_code == 0, run.output
    assert {path.suffix for path in (tmp_path / "a").iterdir()} == {".json", ".glb", ".bvh", ".html"}
    options = json.loads((tmp_path / "a" / "pose.json").read_text())["provenance"]["options"]
    assert {name: options[name] for name in ("lock_feet", "smooth_hz")} == {"lock_feet": True, "smooth_hz": 6.0}
    arguments = [
        "convert",
        str(source),
        "--for",
        "animation",
        "--no-lock-feet",
        "--to",
        "json",
        "-o",
        str(tmp_path / "b"),
    ]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["pose.json"]
    options = json.loads((tmp_path / "b" / "pose.json").read_text())["provenance"]["options"]
    assert {name: options[name] for name in ("lock_feet", "smooth_hz")} == {"lock_feet": False, "smooth_hz": 6.0}


def test_presets_are_options():
    for values in PRESETS.values():
        Options(**values)


def damage(document, what):
    person = document["people"][0]
    if what == "ids":
        person["id"] = "../../0"
    elif what == "joints":
        person["joints_3d"][3] = person["joints_3d"][3][:5]
    elif what == "nan":
        person["joints_3d"][3][0][0] = math.nan
    elif what == "frames":
        person["frames"][-1] = 10**7
    elif what == "length":
        document["video"]["num_frames"] = 10**12
    elif what == "key":
        del document["camera"]
    elif what == "kind":
        document["people"] = 7
    return document


@pytest.mark.parametrize("what", ["ids", "joints", "nan", "frames", "length", "key", "kind"])
def test_a_damaged_file_gets_one_sentence(source, what):
    path = source / "pose.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()), what)))
    run = CliRunner().invoke(cli, ["convert", str(source), "--to", "csv"])
    assert isinstance(run.exception, ValueError)
    assert str(run.exception).startswith(f"{path} is damaged (")
    assert str(run.exception).endswith("; analyze the video again")
    assert [file.name for file in source.iterdir()] == ["pose.json"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": "posemamba/pose/2"}', "has schema 'posemamba/pose/2', this version reads"),
        ("a table", "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        ("[]", "has schema None"),
    ],
)
def test_what_is_no_result_gets_one_sentence(tmp_path, text, says):
    path = tmp_path / "pose.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        convert(path, Target(tmp_path, ("csv",)), Options())


def test_nobody_a_missing_file_and_an_overwritten_source_are_said(source, tmp_path):
    with pytest.raises(ValueError, match="would be overwritten by what is made of it"):
        convert(source, Target(source, ("json",)), Options())
    with pytest.raises(FileNotFoundError, match="does not exist; give a"):
        convert(tmp_path / "absent", Target(source, ("csv",)), Options())
    empty = json.loads((source / "pose.json").read_text()) | {"people": [], "quality": []}
    (source / "pose.json").write_text(json.dumps(empty))
    with pytest.raises(ValueError, match="there is nothing to convert"):
        convert(source, Target(source, ("csv",)), Options())


def test_fbx_without_blender_is_refused_before_anything_is_written(source, tmp_path):
    with pytest.raises(RuntimeError, match="fbx is written by Blender, and there is no program no-such-blender"):
        convert(source, Target(tmp_path / "out", ("csv", "fbx"), "no-such-blender"), Options())
    assert not (tmp_path / "out").exists()
    broken = shutil.which("false")
    with pytest.raises(RuntimeError, match="it said nothing"):
        convert(source, Target(tmp_path / "out", ("fbx",), broken), Options())
    assert list((tmp_path / "out").iterdir()) == []
