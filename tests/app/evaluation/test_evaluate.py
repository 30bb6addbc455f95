"""``posemamba evaluate``: who is who in a clip, steadiness of whole clips, the page of results, the command itself."""

from __future__ import annotations

import pickle
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.table import Table
from torch import nn
from typer.testing import CliRunner

from app.cli.main import cli
from app.evaluation import report
from app.evaluation.clip_accuracy import frames_of, nearest_person
from app.evaluation.ground_truth import ground_truth_beside
from app.evaluation.mocap_accuracy import compare_lifters, evaluate_mocap
from app.evaluation.report import markdown, write_report
from app.evaluation.smoothness import EXACT, SIMULATED, assess_smoothness, long_clips, simulate, video_of
from app.evaluation.tables import Evaluation
from app.options import Options
from app.results import Pose3D, PoseResult
from detectors.people import Track
from lifter.load import Lifter
from lifter.skeletons import COCO17, H36M17, LIMB_JOINTS
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.mocap.library import MotionLibrary
from tests.people import STANDING, waving, write_mocap


@pytest.fixture(scope="module")
def mocap(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mocap")
    write_mocap(folder / "uiprmd_s09.npz", {"long": waving(420), "short": waving(50)})
    write_mocap(folder / "cmu_01.npz", {"short": waving(60)})
    return folder


@pytest.fixture(scope="module")
def published(tiny_model, tmp_path_factory) -> Path:
    """Weights as published code saves them: "picture" normalization, no unit."""
    path = tmp_path_factory.mktemp("weights") / "best_epoch.bin"
    torch.save({"epoch": 1, "model_pos": {f"module.{k}": v for k, v in tiny_model.state_dict().items()}}, path)
    return path


# ----------------------------------------------------------------------------------------------------- who is who


def track_at(person_id: int, keypoints: np.ndarray, frames: range, valid=None) -> Track:
    count = len(frames)
    valid = np.ones(count, bool) if valid is None else np.array(valid)
    seen = keypoints[list(frames)].astype(np.float32)
    return Track(person_id, np.array(frames), seen, np.ones((count, 17), np.float32), valid.copy(), valid)


def result_of(tracks: list[Track]) -> PoseResult:
    """A result in which every joint of the track with id i is at (i, i, i)."""
    poses = [
        Pose3D(t.person_id, t.frames, np.full((len(t.frames), 17, 3), float(t.person_id), np.float32), t.scores, "m")
        for t in tracks
    ]
    return PoseResult(video_of(10, 100, 100), tracks, poses)


@pytest.fixture
def people(rng) -> np.ndarray:
    """True keypoints (10, 2, 17, 2): person 0 at the left, person 1 at the right."""
    return rng.uniform(0, 30, (10, 1, 17, 2)) + np.array([[0, 0], [60, 0]])[:, None]


def test_every_person_gets_the_tracks_that_are_nearest(people):
    left, right = people[:, 0] + 1, people[:, 1] - 2
    result = result_of([track_at(5, right, range(2, 10)), track_at(6, left, range(4)), track_at(7, left, range(6, 10))])
    frames, joints = frames_of(result, people, 0)
    assert frames.tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert joints[:, 0, 0].tolist() == [6, 6, 6, 6, 7, 7, 7, 7]
    frames, joints = frames_of(result, people, 1)
    assert frames.tolist() == list(range(2, 10))
    assert (joints == 5).all()


def test_somebody_without_a_track_has_no_frames(people):
    # one track only, on person 1: it must not count for person 0
    result = result_of([track_at(1, people[:, 1], range(10))])
    assert [len(frames_of(result, people, person)[0]) for person in (0, 1)] == [0, 10]
    assert len(frames_of(result_of([]), people, 0)[0]) == 0


def test_the_longer_of_two_tracks_wins_and_invalid_frames_do_not_count(people):
    valid = [True] * 3 + [False] * 3 + [True] * 4
    result = result_of([track_at(1, people[:, 0], range(10), valid), track_at(2, people[:, 0], range(2, 5))])
    frames, joints = frames_of(result, people, 0)
    assert frames.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert joints[:, 0, 0].tolist() == [1, 1, 1, 2, 2, 1, 1, 1, 1]


def test_what_mediapipe_sees_counts_for_the_nearest_person(people):
    seen = people[np.arange(10), [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]] + 3
    seen[5:7] = np.nan
    assert nearest_person(seen, people).tolist() == [0, 0, 1, 1, 1, -1, -1, 0, 0, 0]


def test_truth_is_looked_for_beside_the_clip(tmp_path):
    (tmp_path / "a.b.gt.npz").touch()
    assert ground_truth_beside(tmp_path / "a.b.mp4") == tmp_path / "a.b.gt.npz"
    with pytest.raises(FileNotFoundError, match="pass it with --ground-truth"):
        ground_truth_beside(tmp_path / "other.mp4")


# ---------------------------------------------------------------------------------------------------- steadiness


class Fixed(nn.Module):
    """The same upright body in every frame, its joints shaken at random by ``noise`` meters."""

    def __init__(self, noise: float):
        super().__init__()
        body = torch.from_numpy(STANDING - STANDING[0])[:, [0, 2, 1]] * torch.tensor([-1.0, -1, -1])
        self.body, self.noise = body, noise

    def forward(self, inputs):
        shape = (*inputs.shape[:-1], 3)
        return self.body + self.noise * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def lifter_of(model: nn.Module) -> Lifter:
    return Lifter(model, "test", 243, "person", "m", torch.device("cpu"), {})


def library_of(*lengths: int) -> MotionLibrary:
    ends = np.cumsum(lengths)
    joints = np.concatenate([np.full((n, 17, 3), float(i)) for i, n in enumerate(lengths)])
    return MotionLibrary(
        torch.from_numpy(joints), torch.from_numpy(ends - lengths), torch.tensor(lengths),
        tuple(map(str, lengths)), torch.ones(len(lengths)),
    )  # fmt: skip


def test_long_clips_are_whole_and_spread():
    library = library_of(500, 400, 401, 10, 600, 700)
    assert [(len(c), c[0, 0, 0]) for c in long_clips(library)] == [(500, 0), (401, 2), (600, 4), (700, 5)]
    assert [len(c) for c in long_clips(library, 2)] == [500, 700]
    assert long_clips(library_of(400)) == []


@pytest.mark.parametrize("noise", [EXACT, SIMULATED], ids=["ground-truth", "simulated"])
def test_simulated_keypoints_are_those_of_the_filmed_body(noise):
    recipe = replace(AugmentationConfig(), **noise)
    for seed in range(5):
        camera, keypoints, (width, height) = simulate(waving(60), recipe, Rng(seed))
        rays = camera[:, list(LIMB_JOINTS), :2] / camera[:, list(LIMB_JOINTS), 2:]
        seen = keypoints[:, [COCO17.index(H36M17.names[j]) for j in LIMB_JOINTS], :2] + 0.5 - (width / 2, height / 2)
        focal = (rays * seen).sum() / (rays**2).sum()
        miss = np.linalg.norm(seen - focal * rays, axis=-1).mean()
        if noise is EXACT:
            assert miss < 0.01  # float32 pixels around 1000
        else:
            assert miss > 0.5


def test_a_still_body_has_no_jitter_and_a_shaken_one_much():
    still, shaken = (assess_smoothness(lifter_of(Fixed(noise)), [waving(450)], EXACT) for noise in (0.0, 0.02))
    assert still.acceleration_ratio < 0.1  # but for the turning of the window's axes
    assert still.bone_variation < 1e-5  # float32
    assert shaken.acceleration_ratio > 5
    assert shaken.worst_acceleration_ratio == pytest.approx(shaken.acceleration_ratio)  # one clip
    assert shaken.bone_variation > 0.02
    assert shaken.pa_mpjpe > still.pa_mpjpe > 0


def test_steadiness_repeats_itself(tiny_model):
    first, again = (assess_smoothness(lifter_of(tiny_model), [waving(420)] * 2, SIMULATED) for _ in range(2))
    assert first == again
    assert np.isfinite(astuple(first)).all()


def test_no_clip_is_no_assessment():
    with pytest.raises(ValueError, match="no clip of over 400 frames"):
        assess_smoothness(lifter_of(Fixed(0.0)), [], EXACT)


@pytest.mark.parametrize("weights", ["tiny_weights", "published"])
def test_motion_is_scored_with_any_weights_file(mocap, weights, request):
    path = request.getfixturevalue(weights)
    windows, steady = evaluate_mocap(mocap, Options(lifter=str(path), device="cpu"))
    assert list(windows.columns[0].cells) == ["validation", "unseen"]
    assert list(windows.columns[1].cells) == ["0.2", "0.0"]  # minutes
    assert list(zip(*(c.cells for c in steady.columns[:3]), strict=True)) == [
        ("validation", "1", "ground-truth 2D"), ("validation", "1", "simulated detections"),
    ]  # fmt: skip


def test_lifters_are_compared_in_one_table(mocap, tiny_weights, published):
    options = Options(lifter=str(tiny_weights), device="cpu")
    table = compare_lifters(mocap, [str(tiny_weights), str(published)], options)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[0] for row in rows] == [str(tiny_weights), str(published)]
    windows, steady = evaluate_mocap(mocap, options)
    assert rows[0][3:5] == tuple(next(iter(column.cells)) for column in windows.columns[2:])
    assert rows[0][5:] == tuple(list(column.cells)[1] for column in steady.columns[3:5])  # simulated detections


# -------------------------------------------------------------------------------------------------------- report


def small_table() -> Table:
    table = Table(title="errors", caption="below")
    table.add_column("what")
    table.add_column("mm", justify="right")
    table.add_row("a | b", "1.0")
    return table


def test_tables_become_markdown():
    assert markdown(small_table()) == "**errors**\n\n| what | mm |\n| --- | ---: |\n| a \\| b | 1.0 |\n\nbelow"


def test_the_page_has_everything_needed_to_repeat_it(tmp_path, tiny_weights, monkeypatch):
    options = Options(lifter=str(tiny_weights), device="cpu")
    monkeypatch.setattr(sys, "argv", ["/bin/posemamba", "evaluate", "mocap", "a folder"])
    text = write_report(tmp_path / "results.md", [Evaluation("Motion", [small_table()])], options).read_text()
    lifter = report.cached_lifter(options.lifter, "cpu", "auto")
    for part in (
        lifter.provenance["weights"]["sha256"], "- code: ",
        "## Motion\n\n```\nposemamba evaluate mocap 'a folder'\n```\n\n- 20", "\n\n**errors**\n",
    ):  # fmt: skip
        assert part in text
    assert "## Training curves" not in text  # the manifest knows none of these weights
    assert [p.name for p in tmp_path.iterdir()] == ["results.md"]


def test_a_command_replaces_its_own_section_of_the_page(tmp_path, tiny_weights):
    options, page = Options(lifter=str(tiny_weights), device="cpu"), tmp_path / "results.md"
    other = Table("what", title="second")
    write_report(page, [Evaluation("A", [small_table()]), Evaluation("B", [small_table()])], options)
    text = write_report(page, [Evaluation("A", [other]), Evaluation("C", [other])], options).read_text()
    sections = [part.partition("\n")[0] for part in text.split("\n## ")]
    assert sections == ["# Results", "A", "B", "C"]
    assert (text.count("**errors**"), text.count("**second**")) == (1, 2)
    assert write_report(page, [], options).read_text() == text


def test_the_page_shows_the_curves_of_shipped_weights(tmp_path):
    text = write_report(tmp_path / "new" / "results.md", [], Options(device="cpu")).read_text()
    assert "![Training curves of posemamba-s](curves.png)" in text
    assert (tmp_path / "new" / "curves.png").is_file()


def test_a_failed_page_leaves_the_old_one(tmp_path, tiny_weights):
    (tmp_path / "results.md").write_text("old")
    with pytest.raises(FileNotFoundError, match="no weights file"):
        write_report(tmp_path / "results.md", [Evaluation("A", [small_table()])], Options(lifter="missing.bin"))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("results.md", "old")]


# ------------------------------------------------------------------------------------------------------- command


def test_benchmarks_are_scored_from_the_command_line(tmp_path, tiny_weights, rng):
    frames = 243
    rows = {
        "joint_2d": rng.uniform(300, 700, (frames, 17, 2)),
        "camera_name": ["54138969"] * frames,
        "source": ["s_09_act_02_subact_01_ca_01"] * frames,
        "action": ["Walking"] * frames,
        "2.5d_factor": np.full(frames, 4.0),
        "joints_2.5d_image": rng.uniform(0, 1000, (frames, 17, 3)),
    }
    (tmp_path / "h36m.pkl").write_bytes(pickle.dumps({"test": rows}))
    sequence = {"data_2d": rng.uniform(0, 2048, (30, 17, 2)), "data_3d": rng.uniform(0, 1000, (30, 17, 3)),
                "valid": np.ones(30)}  # fmt: skip
    np.savez(tmp_path / "test.npz", data={"TS1": sequence})
    page = tmp_path / "results.md"
    for arguments in (["h36m", tmp_path], ["mpi-inf-3dhp", tmp_path / "test.npz", "--published-scale"]):
        command = ["evaluate", *arguments, "--lifter", tiny_weights, "--device", "cpu", "--report", page]
        answer = CliRunner().invoke(cli, list(map(str, command)), catch_exceptions=False)
        assert answer.exit_code == 0, answer.output
        assert ("Walking" if "h36m" in arguments else "TS1") in answer.output
    for part in ("## Human3.6M, detected 2D", "| Walking |", "| mean |", "## MPI-INF-3DHP, ground-truth 2D",
                 "| TS1 | 30 |"):  # fmt: skip
        assert part in page.read_text()
