"""Readers and protocols of Human3.6M and MPI-INF-3DHP, on small files made here in the documented formats.

The networks below know the answer: they return the 2D they are given, and a depth fixed per joint, with an error that
is chosen so that every measure can be computed by hand.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lifter.benchmarks.h36m import cut_clips, read_h36m, score_h36m
from lifter.benchmarks.mpi_inf_3dhp import KIT_JOINTS, KIT_ORDER, read_3dhp, score_3dhp
from lifter.load import Lifter
from lifter.skeletons import H36M17

WINDOW = 9
WIDTH = 1000
# Depth of each joint [px] relative to the pelvis; the same left and right, so that mirroring changes nothing.
DEPTH_PX = np.array([0, 5, 9, 2, 5, 9, 2, -4, -8, -20, -10, 7, 30, 50, 7, 30, 50.0])


class Knows(nn.Module):
    """Returns root-relative x, y of its input and the known depth, times ``scale``, plus ``offset`` on 16 joints.

    The pelvis gets nonsense: the protocols set it to 0.
    """

    def __init__(self, scale: float = 1.0, offset: tuple[float, float, float] = (0, 0, 0), unit_px: float = WIDTH / 2):
        super().__init__()
        self.scale, self.offset = scale, torch.tensor(offset)
        self.depth = torch.tensor(DEPTH_PX / unit_px).float()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        joints = torch.cat([inputs - inputs[..., :1, :], self.depth.expand(*inputs.shape[:-1])[..., None]], -1)
        joints = self.scale * joints + self.offset
        joints[..., 0, :] = 7.0
        return joints


def lifter_of(model: nn.Module, unit: str = "normalized", normalization: str = "picture") -> Lifter:
    return Lifter(model, "test", WINDOW, normalization, unit, torch.device("cpu"), {})


# ------------------------------------------------------------------------------------------------ Human3.6M

# (source, camera, action, frames, mm per pixel)
RECORDINGS = [
    ("s_09_act_02_subact_01_ca_01", "54138969", "Walking", 20, 2.0),  # two clips and a tail of 2
    ("s_09_act_05_subact_02_ca_01", "55011271", "Walking", 9, 99.0),  # dropped: its truth is wrong
    ("s_11_act_03_subact_01_ca_02", "60457274", "Sitting", 5, 4.0),  # stretched
    ("s_11_act_03_subact_02_ca_04", "58860488", "Sitting", 9, 6.0),
    ("s_11_act_04_subact_01_ca_01", "55011271", "Walking", 4, 50.0),  # short and last: lost
]


def walk(frames: int, seed: int) -> np.ndarray:
    """Pixels and depth in pixels (F, 17, 3) of a body of about 400 px that changes all the time."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(300, 700, (1, 17, 2)) + np.cumsum(rng.normal(size=(frames, 17, 2)), axis=0)
    return np.concatenate([xy, np.broadcast_to(DEPTH_PX, (frames, 17))[..., None]], axis=-1)


def h36m_content(recordings=RECORDINGS) -> dict:
    rows: dict[str, list] = {k: [] for k in ("joint_2d", "confidence", "camera_name", "source", "action",
                                             "2.5d_factor", "joints_2.5d_image", "joint3d_image")}  # fmt: skip
    for seed, (source, camera, action, frames, factor) in enumerate(recordings):
        pixels = walk(frames, seed)
        rows["joint_2d"] += list(pixels[..., :2])
        rows["confidence"] += [np.ones(17)] * frames
        rows["joint3d_image"] += list(pixels)
        rows["joints_2.5d_image"] += list(pixels * factor)
        rows["2.5d_factor"] += [factor] * frames
        for key, value in (("camera_name", camera), ("source", source), ("action", action)):
            rows[key] += [value] * frames
    test = {key: np.array(values) for key, values in rows.items()}
    test["source"] = test["source"].tolist()  # some files hold lists
    test["joint_2d"] = test["joint_2d"].astype(np.float32)
    return {"train": {"joint_2d": np.zeros((2, 17, 2))}, "test": test}


def write_h36m(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.fixture
def data(tmp_path):
    return read_h36m(write_h36m(tmp_path / "h36m_sh_conf_cam_source_final.pkl", h36m_content()))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_h36m_is_read(tmp_path, protocol):
    write_h36m(tmp_path / "h36m_sh_conf_cam_source_final.pkl", h36m_content(), protocol)
    data = read_h36m(tmp_path)  # the folder will do
    assert data.keypoints_px.shape == (47, 17, 2)
    assert data.joints_mm.shape == (47, 17, 3)
    # there a pixel's corner is (0, 0), here its center
    np.testing.assert_allclose(data.keypoints_px[:20], walk(20, 0)[..., :2] - 0.5, rtol=0, atol=1e-4)  # float32 pixels
    assert data.picture_sizes[[0, 20, 29, 34]].tolist() == [[1000, 1002], [1000, 1000], [1000, 1002], [1000, 1000]]
    assert data.mm_per_px[[0, 20, 29, 34]].tolist() == [2, 99, 4, 6]
    assert data.sources[29] == "s_11_act_03_subact_01_ca_02"
    assert data.actions[0] == "Walking"


def test_clips_are_cut_as_published():
    # sources of 20, 5, 9 and 4 frames in windows of 9
    clips = cut_clips(np.repeat(["a", "b", "c", "d"], [20, 5, 9, 4]), 9)
    assert clips.tolist() == [
        list(range(9)),
        list(range(9, 18)),  # 18 and 19 do not fill a window
        [20, 20, 21, 21, 22, 22, 23, 23, 24],  # floor(i 5 / 9)
        list(range(25, 34)),
    ]  # and the last source, being short, is lost
    assert cut_clips(np.array(["a"] * 3), 9).shape == (0, 9)


def test_h36m_errors_by_hand(data):
    # 0.01 of half the width too far away on 16 of 17 joints: 5 px, times the factor of the recording
    scores = score_h36m(lifter_of(Knows(offset=(0, 0, 0.01))), data)
    assert set(scores) == {"Walking", "Sitting", "mean"}
    assert scores["Walking"]["P1"] == pytest.approx(5 * 2 * 16 / 17, rel=1e-4)  # float32; 99 mm / px are dropped
    sitting = (5 * 4 * 5 + 5 * 6 * 9) / 14  # 5 frames stretched to 9 count as 5, then 9 frames
    assert scores["Sitting"]["P1"] == pytest.approx(sitting * 16 / 17, rel=1e-4)
    assert scores["mean"]["P1"] == pytest.approx((scores["Walking"]["P1"] + scores["Sitting"]["P1"]) / 2)
    for row in scores.values():  # a constant offset has no velocity and fits better after alignment
        assert row["V"] == pytest.approx(0, abs=1e-3)  # float32 mm
        assert 0 < row["P2"] < row["P1"]


def test_h36m_scale_is_taken_out_of_n_and_p2(data):
    scores = score_h36m(lifter_of(Knows(scale=0.9)), data)
    truth = data.joints_mm[:18] - data.joints_mm[:18, :1]
    assert scores["Walking"]["P1"] == pytest.approx(0.1 * np.linalg.norm(truth, axis=-1).mean(), rel=1e-4)
    steps = np.concatenate([np.diff(truth[:9], axis=0), np.diff(truth[9:], axis=0)])  # not from clip to clip
    assert scores["Walking"]["V"] == pytest.approx(0.1 * np.linalg.norm(steps, axis=-1).mean(), rel=1e-3)
    assert scores["mean"]["N"] < 1e-2  # float32 mm
    assert scores["mean"]["P2"] < 1e-2


def test_h36m_averages_with_the_mirrored_input(data):
    # an error to the right in both passes: the mirrored one comes back as an error to the left
    aside = lifter_of(Knows(offset=(0.02, 0, 0)))
    assert score_h36m(aside, data)["mean"]["P1"] < 1e-2  # float32 mm
    alone = score_h36m(aside, data, use_flip=False)
    assert alone["Walking"]["P1"] == pytest.approx(10 * 2 * 16 / 17, rel=1e-4)


class Nothing(nn.Module):
    """Every joint at the pelvis."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.new_zeros(*inputs.shape[:-1], 3)


def test_h36m_frames_without_any_error_are_dropped(data):
    joints = data.joints_mm.copy()
    joints[9] = joints[9, :1]  # all joints at the pelvis: Nothing has no error here
    others = np.delete(joints[:18], 9, axis=0)
    expected = np.linalg.norm(others - others[:, :1], axis=-1).mean()
    scores = score_h36m(lifter_of(Nothing()), replace(data, joints_mm=joints))
    assert scores["Walking"]["P1"] == pytest.approx(expected)


def test_h36m_meters_are_taken_as_they_are(data):
    # in meters: 500 px are one unit of input, so this network says 2 mm per px everywhere
    class Meters(Knows):
        def forward(self, inputs):
            return super().forward(inputs) * (500 * 2 / 1000)

    scores = score_h36m(lifter_of(Meters(), unit="m"), data)
    assert scores["Walking"]["P1"] < 1e-2  # float32 mm
    truth = data.joints_mm[29:43] - data.joints_mm[29:43, :1]
    part = np.concatenate([truth[:5] * (2 / 4), truth[5:] * (4 / 6)])  # 2 instead of 4 and of 6 mm per px
    assert scores["Sitting"]["P1"] == pytest.approx(np.linalg.norm(part, axis=-1).mean(), rel=1e-4)


def test_h36m_takes_the_person_normalization_with_meters(data):
    scores = score_h36m(lifter_of(Nothing(), unit="m", normalization="person"), data)
    truth = data.joints_mm[:18] - data.joints_mm[:18, :1]
    assert scores["Walking"]["P1"] == pytest.approx(np.linalg.norm(truth, axis=-1).mean())
    with pytest.raises(ValueError, match="needs normalization 'picture'"):
        score_h36m(lifter_of(Nothing(), normalization="person"), data)


def test_outputs_that_are_no_numbers_are_an_error(data):
    with pytest.raises(ValueError, match="not finite"):
        score_h36m(lifter_of(Knows(scale=float("nan"))), data)


def without(key):
    content = h36m_content()
    del content["test"][key]
    return content


def changed(key, value):
    content = h36m_content()
    content["test"][key] = value
    return content


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1, 2], "holds no dict 'test'"),
        ({"train": {}}, "holds no dict 'test'"),
        (without("source"), "lacks test/source"),
        (without("2.5d_factor"), "lacks test/2.5d_factor"),
        (changed("camera_name", np.array(["12345678"] * 47)), "names the cameras .'12345678'."),
        (changed("joint_2d", np.zeros((46, 17, 2))), r"test/joint_2d must hold finite numbers \(47, 17\)"),
        (changed("joints_2.5d_image", np.full((47, 17, 3), np.nan)), "must hold finite numbers"),
        (changed("joint_2d", {"a": 1}), "test/joint_2d is no array of numbers"),
        (changed("action", ["Walking"]), r"test/action must have shape \(47,\)"),
    ],
)
def test_other_files_are_refused(tmp_path, content, text):
    with pytest.raises(ValueError, match=text):
        read_h36m(write_h36m(tmp_path / "h36m.pkl", content))


def test_a_folder_without_the_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="found none; pass the file itself"):
        read_h36m(tmp_path)


def test_data_without_a_clip_says_so(tmp_path):
    data = read_h36m(write_h36m(tmp_path / "h36m.pkl", h36m_content(RECORDINGS[-1:])))
    with pytest.raises(ValueError, match="no clip of 9 frames"):
        score_h36m(lifter_of(Knows()), data)


# --------------------------------------------------------------------------------------------- MPI-INF-3DHP


def in_kit_order(joints: np.ndarray) -> np.ndarray:
    """Return joints (..., 17, C) of H36M-17 in the order of the kit."""
    kit = np.empty_like(joints)
    kit[..., list(KIT_ORDER), :] = joints
    return kit


def sequence_3dhp(frames: int, seed: int, mm_per_px: float, valid=None) -> dict[str, np.ndarray]:
    """A body whose truth in mm is its picture times ``mm_per_px``."""
    pixels = walk(frames, seed)
    valid = np.ones(frames) if valid is None else valid
    truth = pixels * mm_per_px + (0, 0, 3000)
    return {"data_2d": in_kit_order(pixels[..., :2]), "data_3d": in_kit_order(truth), "valid": valid}


def write_3dhp(path, content):
    np.savez_compressed(path, data=content)
    return path


# TS1: a unit is half the width, 1024 px, and published code says 1024 mm: 1 mm per px. TS5: 960 px are 1024 mm.
TS1_MM_PER_PX, TS5_MM_PER_PX = 1.0, 1024 / 960


def test_the_kits_joints_are_those_of_h36m():
    kit = ("head", "thorax", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
           "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis",
           "spine", "nose")  # fmt: skip
    assert tuple(kit[i] for i in KIT_ORDER) == H36M17.names
    assert sorted(KIT_ORDER[j] for j in KIT_JOINTS) == list(range(14))  # the kit scores its first 14


def test_3dhp_is_read(tmp_path):
    valid = np.array([1.0, 0] * 10)
    path = write_3dhp(
        tmp_path / "data_test_3dhp.npz", {"TS1": sequence_3dhp(20, 0, 1), "TS6": sequence_3dhp(20, 1, 2, valid)}
    )
    first, last = read_3dhp(path)
    assert (first.name, first.picture_size, last.name, last.picture_size) == ("TS1", (2048, 2048), "TS6", (1920, 1080))
    np.testing.assert_allclose(first.keypoints_px, walk(20, 0)[..., :2] - 0.5, rtol=0, atol=1e-9)  # float64
    expected = 2 * walk(20, 1) / 1000
    np.testing.assert_allclose(last.joints, expected - expected[:, :1], rtol=0, atol=1e-9)
    assert first.is_valid.all()
    assert last.is_valid.tolist() == [True, False] * 10


def knows_3dhp(width: float, **settings) -> Lifter:
    return lifter_of(Knows(unit_px=width / 2, **settings))


def test_3dhp_errors_by_hand(tmp_path):
    # 102.4 mm too far away on 16 of 17 joints, in all frames; 14 joints count for PCK and AUC
    path = write_3dhp(tmp_path / "x.npz", {"TS1": sequence_3dhp(30, 0, TS1_MM_PER_PX, np.arange(30) % 3 == 0)})
    (row, total) = score_3dhp(knows_3dhp(2048, offset=(0, 0, 0.1)), read_3dhp(path)).values()
    assert row == total
    assert row["frames"] == 10
    assert row["P1"] == pytest.approx(102.4 * 16 / 17, rel=1e-4)  # float32
    assert row["PCK"] == 100
    assert row["AUC"] == pytest.approx(100 * 10 / 31)  # correct at 105, 110, ... 150: 10 of 31 thresholds


def test_3dhp_pck_counts_joints_below_the_threshold(tmp_path):
    path = write_3dhp(tmp_path / "x.npz", {"TS1": sequence_3dhp(12, 0, TS1_MM_PER_PX)})

    class Wrists(Knows):
        def forward(self, inputs):
            joints = super().forward(inputs)
            joints[..., [13, 16], 2] += 0.15  # 153.6 mm on 2 of the 14 joints
            joints[..., [7, 9], 2] += 1.0  # spine and nose do not count
            return joints

    row = score_3dhp(lifter_of(Wrists(unit_px=1024)), read_3dhp(path))["all"]
    assert row["PCK"] == pytest.approx(100 * 12 / 14)
    assert row["AUC"] == pytest.approx(100 * 12 / 14 * 30 / 31)
    assert row["P1"] == pytest.approx((2 * 153.6 + 2 * 1024) / 17, rel=1e-4)


def test_3dhp_pools_the_frames_of_all_sequences(tmp_path):
    content = {
        "TS1": sequence_3dhp(30, 0, 1),
        "TS2": sequence_3dhp(10, 1, 1),
        "TS3": sequence_3dhp(9, 2, 1, np.zeros(9)),
    }
    scores = score_3dhp(knows_3dhp(2048, scale=0.8), read_3dhp(write_3dhp(tmp_path / "x.npz", content)))
    assert list(scores) == ["TS1", "TS2", "all"]  # TS3 has no valid frame
    assert scores["all"]["P1"] == pytest.approx((30 * scores["TS1"]["P1"] + 10 * scores["TS2"]["P1"]) / 40)
    assert scores["all"]["frames"] == 40
    assert scores["all"]["P1 scaled"] < 1e-2  # float32 mm
    assert scores["all"]["PCK scaled"] == 100
    assert scores["all"]["AUC scaled"] == pytest.approx(100 * 30 / 31)
    assert scores["all"]["P2"] < 1e-2


def test_3dhp_published_slip_of_scale(tmp_path):
    path = write_3dhp(tmp_path / "x.npz", {"TS5": sequence_3dhp(20, 0, TS5_MM_PER_PX)})
    (sequence,) = read_3dhp(path)
    lifter = knows_3dhp(1920)
    assert score_3dhp(lifter, [sequence])["TS5"]["P1"] < 1e-2  # float32 mm
    slip = score_3dhp(lifter, [sequence], use_published_scale=True)["TS5"]["P1"]
    assert slip == pytest.approx((1 - 960 / 1024) * 1000 * np.linalg.norm(sequence.joints, axis=-1).mean(), rel=1e-4)


@pytest.mark.parametrize("frames", [1, 8, 9, 10, 40])
def test_3dhp_sequences_of_any_length_are_lifted_whole(tmp_path, frames):
    path = write_3dhp(tmp_path / "x.npz", {"TS2": sequence_3dhp(frames, 0, TS1_MM_PER_PX)})
    row = score_3dhp(knows_3dhp(2048), read_3dhp(path))["all"]
    assert row["frames"] == frames
    assert row["P1"] < 1e-2  # float32 mm


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1], "holds no dict of sequences"),
        ({}, "holds no dict of sequences"),
        ({"S1 Seq1": [{}]}, "must hold data_2d, data_3d and valid .the test file., got list"),
        ({"TS1": {"data_2d": np.zeros((3, 17, 2))}}, "TS1 must hold data_2d, data_3d and valid"),
        ({"TS1": {**sequence_3dhp(4, 0, 1), "valid": np.ones(3)}}, r"must have data_2d \(3, 17, 2\)"),
        ({"TS1": {**sequence_3dhp(4, 0, 1), "data_3d": np.full((4, 17, 3), np.nan)}}, "not finite"),
    ],
)
def test_other_npz_files_are_refused(tmp_path, content, text):
    with pytest.raises(ValueError, match=text):
        read_3dhp(
            write_3dhp(tmp_path / "x.npz", np.array(content, dtype=object) if isinstance(content, list) else content)
        )


def test_3dhp_without_a_valid_frame_says_so(tmp_path):
    path = write_3dhp(tmp_path / "x.npz", {"TS1": sequence_3dhp(3, 0, 1, np.zeros(3))})
    with pytest.raises(ValueError, match="no valid frame"):
        score_3dhp(knows_3dhp(2048), read_3dhp(path))
