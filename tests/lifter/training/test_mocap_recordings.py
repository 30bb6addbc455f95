"""Recorded motion of any format: frame rates, jumps, hostile files, folders, training on them."""

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from app.cli.train import TrainingOptions, train_lifter
from lifter import LIFTERS, LifterSpec
from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.training.mocap import recordings, takes
from lifter.training.mocap.library import clip_weights, load_motion
from lifter.training.mocap.recordings import read_recording
from tests.recordings import (
    JOINT,
    NAMES,
    amc_text,
    asf_text,
    bvh_text,
    good_bvh,
    only_clip,
    random_values,
    rotation_channels,
    rows_of,
    still,
    write_amc,
    write_still,
)

# ---------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("fps", [24.0, 29.97, 50.0, 60.0, 100.0, 120.0, 240.0])
def test_a_sine_is_the_same_at_every_frame_rate(tmp_path, fps):
    # the root goes to and fro by 0.3 m at 0.8 Hz for 3 s
    frames = int(3 * fps) + 1
    root, angles = still(frames)
    root[:, 0] = 0.3 * np.sin(2 * np.pi * 0.8 * np.arange(frames) / fps)
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), fps))
    joints = only_clip(path)
    assert len(joints) == pytest.approx(150, abs=1)
    expected = 0.3 * np.sin(2 * np.pi * 0.8 * np.arange(len(joints)) / 50)
    # the mean over three frames at 100 fps lowers the top by (2 pi 0.8 / 100)^2 / 3; the curve at 24 fps misses by less
    np.testing.assert_allclose(joints[:, JOINT["pelvis"], 0], expected, rtol=0, atol=0.3 * (2 * np.pi * 0.8 / 100) ** 2)
    bones = recordings.bone_lengths(joints)
    np.testing.assert_allclose(bones, np.tile(bones[0], (len(bones), 1)), rtol=0, atol=1e-5)


def test_bones_keep_their_length_between_frames(tmp_path):
    # an arm that turns by 50 degrees from frame to frame: a straight line between would cut 9 % off
    frames = 40
    root, angles = still(frames)
    angles["LeftArm"][:, 0] = 50.0 * np.arange(frames)
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), 20.0))
    bones = recordings.bone_lengths(only_clip(path))
    np.testing.assert_allclose(bones, np.tile(bones[0], (len(bones), 1)), rtol=0, atol=1e-5)


def test_jumps_are_cut_out_with_their_neighbors(tmp_path):
    # 60 frames, a jump of 1 m in 20 ms between frames 59 and 60, 30 frames (too short), another one, 80 frames
    root, angles = still(170)
    root[60:, 0] += 1.0
    root[90:, 0] += 1.0
    path = tmp_path / "walk.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles)))
    clips = read_recording(path).clips
    assert {name: len(clip) for name, clip in clips.items()} == {"walk#0": 58, "walk#1": 78}
    assert clips["walk#1"][:, JOINT["pelvis"], 0] == pytest.approx(np.full(78, 2.0))


def test_a_first_frame_in_t_pose_is_dropped(tmp_path):
    # copies of the CMU database begin with one
    root, angles = still(240, LeftArm=(-70, 0, 0), RightArm=(70, 0, 0))
    for rows in (angles["LeftArm"], angles["RightArm"]):
        rows[0] = 0
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(rotation_channels(dict.fromkeys(NAMES, "ZXY")), rows_of(root, angles), 120.0))
    joints = only_clip(path)
    np.testing.assert_allclose(joints, np.broadcast_to(joints[-1], joints.shape), rtol=0, atol=1e-5)


def test_what_is_too_short_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"in its 0.4 s there are no 0.8 s without joints over 16 m/s"):
        read_recording(write_still(tmp_path / "a.bvh", frames=20))


def test_files_beyond_the_size_limit_are_not_read(tmp_path):
    with write_still(tmp_path / "a.bvh").open("r+b") as file:
        file.truncate(takes.MAX_BYTES + 2**20)  # sparse: takes no space
    with pytest.raises(ValueError, match="it has 513 MB, expected at most 512"):
        read_recording(tmp_path / "a.bvh")


def spoiled(text: str, rng: random.Random) -> str:
    """The text with a few pieces taken out, doubled or replaced."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(text))
        end = start + rng.choice((1, 3, 30, 300))
        new = rng.choice(
            ("", text[start:end] * 2, "{", "}", "\n", " 1 ", "begin\n", "end\n", ":root\n", "-1e9", "\0", ":")
        )
        text = text[:start] + new + text[end:]
    return text


def test_whatever_a_file_holds_the_error_is_a_value_error(tmp_path):
    rng = random.Random(1)
    asf, amc = asf_text(), amc_text(random_values(np.random.default_rng(0), 45))
    folder = tmp_path / "acclaim"
    folder.mkdir()
    for _ in range(150):
        (folder / "a.bvh").write_text(spoiled(good_bvh(45), rng), newline="")
        (folder / "77.asf").write_text(spoiled(asf, rng) if rng.random() < 0.7 else asf, newline="")
        (folder / "77_01.amc").write_text(spoiled(amc, rng) if rng.random() < 0.5 else amc, newline="")
        for name in ("a.bvh", "77_01.amc"):
            try:
                clips = read_recording(folder / name).clips
            except ValueError as error:
                assert str(error)
            else:
                assert all(np.isfinite(clip).all() for clip in clips.values())


# ---------------------------------------------------------------------------------------------- folders and training


def test_one_bad_file_does_not_cost_the_others(tmp_path):
    for name in ("a", "b"):
        write_still(tmp_path / "dance" / f"{name}.BVH")
    (tmp_path / "dance" / "c.bvh").write_text("nonsense")
    (tmp_path / "d.amc").write_text(":FULLY-SPECIFIED\n1\nroot 0 0 0 0 0 0\n")
    (tmp_path / "e.npz").write_bytes(b"no zip")
    lines = []
    libraries = [load_motion(tmp_path, "train", lines.append), load_motion(tmp_path, "validation", lines.append)]
    assert {name for x in libraries for name in x.names} == {"dance/a.bvh:a", "dance/b.bvh:b"}
    assert len(lines) == 6
    for line, (name, reason) in zip(
        lines, (("d.amc", "no skeleton"), ("c.bvh", "HIERARCHY"), ("e.npz", "no npz")), strict=False
    ):
        assert any(name in x and reason in x and x.startswith("left out ") for x in lines), line


def test_a_folder_of_bad_files_gives_the_reasons(tmp_path):
    (tmp_path / "a.bvh").write_text("nonsense")
    (tmp_path / "b.amc").write_text("nonsense")
    with pytest.raises(
        ValueError, match=r"(?s)no motion below .* can be read:.*a.bvh: .*HIERARCHY.*b.amc: no skeleton"
    ):
        load_motion(tmp_path, "train")


def test_one_own_file_of_ten_is_held_out_always_the_same(tmp_path):
    for i in range(20):
        write_still(tmp_path / f"{i}.bvh", frames=45)
    train, held_out = (load_motion(tmp_path, split) for split in ("train", "validation"))
    assert (len(train.names), len(held_out.names)) == (18, 2)
    assert load_motion(tmp_path, "validation").names == held_out.names


def test_nothing_is_held_out_of_a_single_file(tmp_path):
    write_still(tmp_path / "a.bvh")
    assert load_motion(tmp_path, "train").names == ("a.bvh:a",)
    with pytest.raises(FileNotFoundError, match=r"no validation motion.*two files"):
        load_motion(tmp_path, "validation")


def test_known_subjects_keep_their_split(tmp_path):
    # subject 02 of the CMU database is kept for testing, 03 for validation: so none of the own files is held out
    for name in ("02_01", "03_01"):
        write_amc(tmp_path, name)
    for name in ("02_01", "mine", "mine too"):
        write_still(tmp_path / f"{name}.bvh")  # not CMU's skeleton: the number means nothing
    names = {split: load_motion(tmp_path, split).names for split in ("train", "validation", "unseen")}
    assert names["train"] == ("02_01.bvh:02_01", "mine too.bvh:mine too", "mine.bvh:mine")
    assert names["validation"] == ("cmu_03:03_01",)
    assert names["unseen"] == ("cmu_02:02_01",)


def test_own_files_are_a_group_of_their_own():
    weights = clip_weights(["a.bvh:a", "b/c.amc:c", "uiprmd_s01:m01"], np.array([400, 100, 1_000_000]))
    assert weights[0] / weights[1] == pytest.approx(2)  # by the root of the length
    assert weights[:2].sum() / weights[2] == pytest.approx(0.25 / 0.33)


@pytest.fixture
def tiny_lifter(monkeypatch) -> str:
    """The name of a registered lifter that trains in seconds."""
    module = SimpleNamespace(build=PoseMamba, TINY=PoseMambaConfig(width=16, depth=5))
    monkeypatch.setitem(sys.modules, "tiny_lifter", module)
    monkeypatch.setitem(LIFTERS, "tiny", LifterSpec("tiny_lifter", "TINY", 243, "for this test"))
    return "tiny"


def test_a_lifter_trains_on_a_bvh_and_an_amc(tmp_path, tiny_lifter):
    write_still(tmp_path / "mocap" / "mine.bvh")
    write_amc(tmp_path / "mocap", frames=240)
    (tmp_path / "mocap" / "broken.bvh").write_text("nonsense")
    lines = []
    options = TrainingOptions(minutes=0.02, lifter=tiny_lifter, device="cpu")
    train_lifter(tmp_path / "mocap", tmp_path / "run", options, lines.append)
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    entry = (tmp_path / "run" / "manifest.toml").read_text()
    assert entry.startswith("[posemamba-width16-depth5]\n")  # named by what the weights are
    (left_out,) = [line for line in lines if line.startswith("left out")]
    assert "broken.bvh: it begins with 'nonsense', expected HIERARCHY" in left_out
    assert lines[1].startswith("0.0 minutes of motion, 0.0 held out")  # 1.2 and 2 seconds
