"""Recorded motion: files are read with their places, subjects keep their splits, damage is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lifter.skeletons import H36M17, NOMINAL_BONE_SUM_M
from lifter.training.mocap.library import MotionLibrary, clip_weights, fingerprint, load_motion, split_of
from tests.people import waving, write_mocap


def test_clips_are_read_with_their_places(library):
    assert library.names == ("made_up:wave", "made_up:wave again", "made_up:short")
    assert library.lengths.tolist() == [300, 150, 20]
    assert library.starts.tolist() == [0, 300, 450]
    assert library.minutes == pytest.approx(470 / 50 / 60)
    # stored as float16 relative to the pelvis: 2^-11 of up to 1 m
    np.testing.assert_allclose(library.joints[:300].numpy(), waving(300), rtol=0, atol=5e-4)


@pytest.mark.parametrize("speed", [1.0, 0.6, 2.0])
def test_windows_come_from_one_clip_at_the_asked_speed(speed):
    # every coordinate of frame f is f: two clips, frames 0-99 and 100-149
    frames = torch.arange(150.0)[:, None, None].expand(150, 17, 3)
    counter = MotionLibrary(frames, torch.tensor([0, 100]), torch.tensor([100, 50]), ("a", "b"), torch.ones(2) / 2)
    windows = counter.draw(40, 9, (speed, speed), torch.Generator().manual_seed(0))
    assert windows.shape == (40, 9, 17, 3)
    places = windows[..., 0, 0]
    assert torch.allclose(places.diff(dim=1), torch.tensor(speed), rtol=0, atol=1e-4)  # float32 around 100
    assert torch.equal(places[:, 0] >= 100, places[:, -1] >= 100)
    assert 5 < (places[:, 0] >= 100).sum() < 35  # both clips are drawn
    assert places.max() <= 149


def test_a_window_longer_than_its_clip_can_go_back_and_forth(library):
    longest = int(library.lengths.max())
    windows = library.draw(20, 3 * longest, (1.0, 1.0), torch.Generator().manual_seed(0), back_and_forth=1.0)
    still = (windows.diff(dim=1).abs().amax((2, 3)) < 1e-6).float().mean(1)
    assert still.max() < 0.1  # nobody stands still but for a moment
    for window in windows:  # every frame is one of a clip, and neighbors are neighbors there
        place = torch.cdist(window.flatten(1), library.joints.flatten(1)).min(dim=1)
        assert place.values.max() < 0.02
        assert window.diff(dim=0).norm(dim=-1).max() < 0.2


def test_a_window_longer_than_its_clip_stands_still_at_the_end(library):
    short = MotionLibrary(library.joints[450:], torch.tensor([0]), torch.tensor([20]), ("short",), torch.ones(1))
    window = short.draw(1, 30, (1.0, 1.0), torch.Generator().manual_seed(0))[0]
    assert torch.allclose(window[:20], short.joints, rtol=0, atol=1e-6)  # interpolated at whole frames
    assert torch.equal(window[20:], short.joints[-1].expand(10, 17, 3))


@pytest.mark.parametrize(
    ("file", "clip", "split"),
    [
        ("cmu_01", "01_01", "unseen"),
        ("cmusub_16", "x", "unseen"),
        ("cmu_07_ic", "x", "unseen"),
        ("uiprmd_s09", "x", "validation"),
        ("uiprmd_s01", "x", "train"),
        ("cmu_85", "85_14", "validation"),
        ("cmu_85", "85_02", "train"),
        ("accad_female1", "Female1_A12_CrawlBackwards_poses", "validation"),
        ("accad_female1", "Female1_A01_Stand_poses", "train"),
        ("accad_eric", "x", "validation"),
        ("never_seen_before", "x", "train"),
    ],
)
def test_every_subject_has_its_split(file, clip, split):
    assert split_of(file, clip) == split


def test_splits_share_no_clip_and_reserved_subjects_are_never_trained_on(tmp_path):
    for name in ("cmu_01", "cmusub_16", "cmu_05_ic", "uiprmd_s01", "uiprmd_s09", "cmu_85", "sub/accad_eric"):
        write_mocap(tmp_path / f"{name}.npz", {"85_14": waving(9), "85_02": waving(9)})
    names = {split: set(load_motion(tmp_path, split).names) for split in ("train", "validation", "unseen")}
    assert sum(len(n) for n in names.values()) == len(set.union(*names.values())) == 14
    assert names["train"] == {"uiprmd_s01:85_14", "uiprmd_s01:85_02", "cmu_85:85_02"}
    assert {n.split(":")[0] for n in names["unseen"]} == {"cmu_01", "cmusub_16", "cmu_05_ic"}


def test_kinds_of_motion_share_the_draws(tmp_path):
    # a thousand times more exercise than dance still gives each its share: 0.33 and 0.12 of what is there
    names = ["uiprmd_s01:a", "uiprmd_s01:b", "cmu_60:salsa"]
    weights = clip_weights(names, np.array([4000, 1000, 5]))
    assert weights.sum() == pytest.approx(1)
    assert weights[2] / weights[:2].sum() == pytest.approx(0.12 / 0.33)
    assert weights[0] / weights[1] == pytest.approx(2)  # by the root of the length


def test_a_file_at_another_rate_is_refused(tmp_path):
    write_mocap(tmp_path / "slow.npz", {"a": waving(9)}, fps=30.0)
    with pytest.raises(ValueError, match=r"slow.npz has 30.0 fps, expected 50.0; resample it first"):
        load_motion(tmp_path, "train")


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_a_folder_without_motion_says_so(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no train motion"):
        load_motion(tmp_path / folder, "train")


def test_the_fingerprint_tells_motions_apart(library):
    other = replace(library, joints=library.joints + 1e-3)
    renamed = replace(library, names=("a", "b", "c"))
    assert len({fingerprint(x) for x in (library, other, renamed)}) == 3
    assert fingerprint(library) == fingerprint(library.to("cpu"))


def test_recorded_motion_has_three_separate_splits(shared):
    folder = shared / "data" / "mocap"
    if not folder.is_dir():
        pytest.skip("no mocap in shared/data")
    libraries = {split: load_motion(folder, split) for split in ("train", "validation", "unseen")}
    names = [name for x in libraries.values() for name in x.names]
    assert len(names) == len(set(names))
    for x in libraries.values():
        assert torch.isfinite(x.joints).all()
        assert (x.lengths > 0).all()
        assert int(x.lengths.sum()) == len(x.joints)
    bones = libraries["train"].joints[:, 1:] - libraries["train"].joints[:, list(H36M17.parents[1:])]
    size = bones.norm(dim=-1).sum(-1)
    assert float(size.mean()) == pytest.approx(NOMINAL_BONE_SUM_M, rel=0.1)  # meters: adults
    up = libraries["train"].joints[:, H36M17.index("head"), 2] - libraries["train"].joints[:, 0, 2]
    assert float(up.median()) > 0.5  # z up: most people stand most of the time
