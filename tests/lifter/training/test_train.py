"""The training loop, its files and its commands, on motion made up here."""

import csv
import functools
import itertools
import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import lifter
from app.cli.train import TrainingOptions
from checkpoints import manifest, sha256_of
from checkpoints.tensors import read_weights
from lifter.models.hgmamba import HGMamba, HGMambaConfig
from lifter.models.mdtf import MDTF, MDTFConfig
from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.training import ablation, losses, train, validation
from lifter.training.augmentation.batches import make_batch
from lifter.training.augmentation.config import AugmentationConfig
from lifter.training.augmentation.random_draws import Rng
from lifter.training.gradients import Gradients, Portion, RecordedGradients
from lifter.training.losses import LossWeights
from lifter.training.mocap.library import fingerprint
from lifter.training.provenance import branch_folder, initial_weights, manifest_entry
from lifter.training.schedules import OURS, SCHEDULES, Schedule, Stage
from lifter.training.training_config import InitialWeights, TrainingConfig
from tests.people import STILL

TINY = PoseMambaConfig(width=16, depth=2)
TINY_NET = functools.partial(PoseMamba, replace(TINY, drop_path=0.0))
SHORT = Schedule(
    stages=(Stage(0.5, ((8, 9),)), Stage(1.0, ((8, 9), (4, 27)))),
    learning_rate=3e-3, muon_rate=1e-2, weight_decay=0.01, ema=0.98, drop_path=0.0, layer_scale=0.1,
    decays_learn=False,
    loss=LossWeights(velocity=4.0, smoothness=0.0),
)  # fmt: skip
TINY_NETS = {
    "posemamba": TINY_NET,
    "mdtf": functools.partial(MDTF, MDTFConfig(16, 2, window=27, drop_path=0.0)),  # trained in two parts
    "hgmamba": functools.partial(HGMamba, HGMambaConfig(16, 2, window=9, shuffle=0.5)),  # draws, and norms of batches
}


validate = functools.partial(validation.validate, windows=8)


@pytest.fixture(scope="module", autouse=True)
def quick_validation():
    """Runs are scored on 8 windows instead of 48, which takes most of the time of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "validate", validate)
        yield


def ticking():
    """A clock that counts 0.04 s for every step, however busy the machine is: the same 100 steps in 4 s everywhere."""
    return itertools.count(step=0.04).__next__


def trained_on(library, build, folder, *, clock=None, report=lambda line: None, **settings):
    """Train on a library and score on the same; settings are those of ``TrainingConfig``."""
    clock = {} if clock is None else {"clock": clock}
    return train.train(library, library, build, folder, TrainingConfig(**settings), report=report, **clock)


@pytest.fixture(scope="module")
def trained(library, tmp_path_factory):
    """A folder after four seconds of training on one motion, and the errors before and after."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    before = validate(PoseMamba(TINY).eval(), library, STILL)
    lines = []
    after = trained_on(library, TINY_NET, folder, minutes=4 / 60, schedule=SHORT, recipe=STILL, seed=1,
                        command="test", clock=ticking(), report=lines.append)  # fmt: skip
    return folder, before, after, lines


def rows_of(folder):
    with (folder / "curve.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_learns(trained):
    _, before, after, _ = trained
    assert after["clean_p1"] < 0.7 * before["clean_p1"]  # measured: 0.45 of it after these 100 steps
    assert all(math.isfinite(error) for error in after.values())


def test_a_part_that_is_trained_first_is_kept(library, tmp_path):
    build = TINY_NETS["mdtf"]
    settings = {"schedule": SHORT, "recipe": STILL, "clock": ticking()}

    def trained_for(minutes):
        trained_on(library, build, tmp_path, minutes=minutes, **settings)
        model = build().eval()
        model.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True)["model"])
        return model

    short, long = trained_for(0.2 / 60), trained_for(1.5 / 60)  # the latter goes on at 13 %, where the part would learn
    parts = [model.pretrained_part.state_dict() for model in (short, long)]
    assert all(torch.equal(value, parts[1][name]) for name, value in parts[0].items())
    assert not torch.equal(short.head[1].weight, long.head[1].weight)


def test_training_writes_what_it_promises(trained):
    folder, _, after, lines = trained
    assert sorted(p.name for p in folder.iterdir()) == ["curve.csv", "state.pt", "weights.safetensors"]
    row = rows_of(folder)[-1]
    assert float(row["clean_p1"]) == pytest.approx(after["clean_p1"], rel=1e-3)  # written with five digits
    assert int(row["step"]) > 0
    assert "clean_p1" in lines[-1]


def test_trained_weights_say_where_they_come_from(trained, library):
    folder, _, after, _ = trained
    metadata = read_weights(folder / "weights.safetensors").metadata
    training = json.loads(metadata["training"])
    assert (metadata["normalization"], metadata["unit"]) == ("person", "m")
    assert json.loads(metadata["training"])["validation_mm"]["clean_p1"] == pytest.approx(after["clean_p1"], abs=0.1)
    assert training["command"] == "test"
    assert training["motion_sha256"] == fingerprint(library)
    assert training["recipe"]["p_bend"] == 0.0
    assert training["schedule"]["learning_rate"] == 3e-3


def test_trained_weights_load_as_a_lifter(trained):
    loaded = lifter.load_lifter(trained[0] / "weights.safetensors")
    assert loaded.name == "posemamba-width16-depth2"
    assert (loaded.normalization, loaded.unit) == ("person", "m")
    # decays that were not trained are still those of a fresh network
    decays = loaded.model.STEblocks[0].op.A_logs
    assert torch.allclose(decays, torch.arange(1, 17.0).log().expand_as(decays), atol=1e-6)  # float32 logarithms


def test_a_run_goes_on_where_it_stopped(trained, library):
    folder = trained[0]
    first = int(rows_of(folder)[-1]["step"])
    lines = []
    trained_on(library, TINY_NET, folder, minutes=5.5 / 60, schedule=SHORT, recipe=STILL, clock=ticking(),
                report=lines.append)  # fmt: skip
    assert lines[0].startswith(f"resumed at step {first}, 0.1 minutes")
    rows = rows_of(folder)
    assert [int(row["step"]) for row in rows] == sorted({int(row["step"]) for row in rows})
    assert int(rows[-1]["step"]) > first
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_a_cooldown_leaves_its_run_alone_and_ends_at_rest(library, tmp_path):
    constant = replace(SHORT, decay="none")
    settings = {"recipe": STILL, "clock": ticking()}
    trained_on(library, TINY_NET, tmp_path / "run", minutes=1 / 60, schedule=constant, **settings)
    state = tmp_path / "run" / "state.pt"
    before, run = state.read_bytes(), torch.load(state, weights_only=True)
    cooling = replace(constant, decay="linear")
    trained_on(library, TINY_NET, tmp_path / "cool", minutes=2 / 60, schedule=cooling, branch_of=state,
                **settings)  # fmt: skip
    branch = torch.load(tmp_path / "cool" / "state.pt", weights_only=True)
    assert state.read_bytes() == before
    assert (run["step"], branch["step"]) == (25, 75)  # 0.04 s each: one second, then two more
    rates = [state["optimizers"][0]["param_groups"][0]["lr"] for state in (run, branch)]
    warm = [3e-3 * steps / train.WARM_UP_STEPS for steps in (25, 75)]
    assert rates == [pytest.approx(warm[0]), pytest.approx(warm[1] / 50)]  # the branch takes the last of 50 steps
    assert (tmp_path / "cool" / "weights.safetensors").is_file()


@pytest.mark.slow
def test_a_cooldown_that_was_cut_off_is_finished(library, tmp_path):
    cooling, settings = replace(SHORT, decay="linear"), {"recipe": STILL, "clock": ticking()}
    trained_on(library, TINY_NET, tmp_path / "run", minutes=1 / 60, schedule=SHORT, **settings)
    state = tmp_path / "run" / "state.pt"
    for minutes in (1 / 60, 2 / 60):  # the second call goes on with the branch, not with the run
        trained_on(library, TINY_NET, tmp_path / "cool", minutes=minutes, schedule=cooling, branch_of=state,
                    **settings)  # fmt: skip
    assert torch.load(tmp_path / "cool" / "state.pt", weights_only=True)["step"] == 75


def test_a_cooldown_has_a_folder_of_its_own_until_it_is_done(trained, tmp_path):
    run = shutil.copytree(trained[0], tmp_path / "run")
    step = torch.load(run / "state.pt", weights_only=True)["step"]
    folder = branch_folder(run, 2)
    assert folder == run / f"cooldown-{step}-2min"
    folder.mkdir()
    assert branch_folder(run, 30) == folder  # cut off: finished first
    (folder / "manifest.toml").write_text("")
    assert branch_folder(run, 30) == run / f"cooldown-{step}-30min"
    with pytest.raises(FileNotFoundError, match=r"no run to branch off in .*: state.pt is missing"):
        branch_folder(tmp_path / "nowhere", 2)


@pytest.mark.parametrize(
    ("settings", "text"),
    [({}, "give either minutes"), ({"minutes": 1, "cooldown": 1}, "give either minutes"),
     ({"minutes": 1, "fps": 30}, "fps must be one of 50, 25, got 30"), ({"cooldown": -1}, "must be positive")],
)  # fmt: skip
def test_training_that_cannot_be_is_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        TrainingOptions(**settings)


def test_weights_without_scores_begin_a_network_that_reads_them(trained, library):
    wide = PoseMamba(replace(TINY, drop_path=0.0, reads_scores=True)).eval()
    start = initial_weights(trained[0] / "weights.safetensors", wide, "tiny")
    wide.load_state_dict(start.tensors)
    narrow = lifter.load_lifter(trained[0] / "weights.safetensors")
    keypoints = torch.rand(2, 9, 17, 3)
    with torch.inference_mode():  # whatever the scores are
        assert torch.allclose(wide(keypoints), narrow.model(keypoints[..., :2]), atol=1e-6)
    assert start.provenance["sha256"] == sha256_of(trained[0] / "weights.safetensors")


def test_a_network_says_what_it_reads_and_how_often(library, tmp_path):
    build = functools.partial(PoseMamba, replace(TINY, drop_path=0.0, reads_scores=True))
    recipe = replace(STILL, fps=25.0)
    trained_on(library, build, tmp_path, minutes=0.2 / 60, schedule=SHORT, recipe=recipe, clock=ticking())
    loaded = lifter.load_lifter(tmp_path / "weights.safetensors")
    assert (loaded.name, loaded.fps, loaded.channels) == ("posemamba-width16-depth2", 25.0, 3)
    assert loaded.provenance["fps"] == 25.0
    weights = read_weights(tmp_path / "weights.safetensors")
    train.save_weights(weights.tensors, {**weights.metadata, "fps": "24"}, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"names '24' frames per second, expected one of 50.0, 25.0"):
        lifter.load_lifter(tmp_path / "odd.safetensors")


def test_a_run_goes_on_with_its_own_random_numbers(trained, library, tmp_path):
    # one more step each, of copies of one run: whatever seed is given now, the same windows follow
    states = []
    for seed in (5, 6):
        folder = shutil.copytree(trained[0], tmp_path / str(seed))
        seconds = torch.load(folder / "state.pt", weights_only=True)["seconds"]
        minutes = (seconds + 1e-4) / 60
        trained_on(library, TINY_NET, folder, minutes=minutes, schedule=SHORT, recipe=STILL, seed=seed)
        states.append(torch.load(folder / "state.pt", weights_only=True))
    first, second = states
    assert first["step"] == second["step"] == torch.load(trained[0] / "state.pt", weights_only=True)["step"] + 1
    assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])


def test_a_finished_run_is_only_scored_again(trained, library):
    folder = trained[0]
    before = (folder / "state.pt").read_bytes()
    errors = trained_on(library, TINY_NET, folder, minutes=1 / 60, schedule=SHORT, recipe=STILL)
    assert (folder / "state.pt").read_bytes() == before
    assert set(errors) == {"clean_p1", "clean_p2", "noisy_p1", "noisy_p2"}


@pytest.mark.parametrize("config", [PoseMambaConfig(width=32, depth=2), PoseMambaConfig(width=16, depth=1)])
def test_a_run_of_another_size_is_not_continued(trained, library, config):
    other = functools.partial(PoseMamba, config)
    with pytest.raises(ValueError, match=r"is of a run of \{'width': 16, 'depth': 2.*, expected \{'width'"):
        trained_on(library, other, trained[0], minutes=1, schedule=SHORT, recipe=STILL)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_cover_the_budget_in_windows_that_fit(name):
    stages = SCHEDULES[name].stages
    assert stages[-1].until == 1.0
    assert [s.until for s in stages] == sorted(s.until for s in stages)
    assert all(frames <= 243 for s in stages for _, frames in s.shapes)


def test_batches_fit_the_windows_of_the_network():
    stage = Stage(1.0, ((128, 27), (16, 81), (8, 243)))
    longest = SimpleNamespace(window=243, fixed_length=False)
    assert stage.shapes_for(longest) == ((128, 27), (16, 81), (8, 243))
    short = SimpleNamespace(window=81, fixed_length=False)
    assert stage.shapes_for(short) == ((128, 27), (16 + 24, 81))
    for window in (27, 81, 243):
        fixed = SimpleNamespace(window=window, fixed_length=True)
        ((count, frames),) = stage.shapes_for(fixed)
        assert frames == window
        assert count * frames == pytest.approx(128 * 27 + 16 * 81 + 8 * 243, rel=0.03)


def test_training_can_begin_with_given_weights(trained, library, tmp_path):
    start = read_weights(trained[0] / "weights.safetensors").tensors
    model = PoseMamba(TINY).eval()
    model.load_state_dict(start)
    one_step = replace(SHORT, learning_rate=1e-6, muon_rate=1e-6)
    after = trained_on(library, TINY_NET, tmp_path / "run", minutes=0.03 / 60, schedule=one_step,
                        recipe=STILL, initial=InitialWeights(start), clock=ticking())  # fmt: skip
    assert after["clean_p1"] == pytest.approx(validate(model, library, STILL)["clean_p1"], rel=1e-3)


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours catches it."""


def killed_after(calls: int):
    """A clock that counts 10.5 s for every step, so that every other one is saved, and ends the run at some call."""
    for call in range(calls):
        yield 10.5 * call
    raise Killed


@pytest.mark.parametrize("net", ["posemamba", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mdtf", "hgmamba"))])
def test_a_killed_run_ends_like_one_that_was_not(library, tmp_path, net):
    build = TINY_NETS[net]
    settings = {"minutes": 30 * 10.5 / 60, "schedule": SHORT, "recipe": STILL, "seed": 3}
    whole = trained_on(library, build, tmp_path / "whole", clock=killed_after(10**6).__next__, **settings)
    for calls in (6, 12, 40):  # two are a step: while a part is trained first, in the first stage, and in the second
        with pytest.raises(Killed):
            trained_on(library, build, tmp_path / "killed", clock=killed_after(calls).__next__, **settings)
    resumed = trained_on(library, build, tmp_path / "killed", clock=killed_after(10**6).__next__, **settings)
    assert resumed == pytest.approx(whole, rel=1e-3)  # the same draws and steps; sums of threads may round differently
    assert [row["step"] for row in rows_of(tmp_path / "killed")] == [row["step"] for row in rows_of(tmp_path / "whole")]


def test_a_curve_keeps_one_row_per_step(tmp_path):
    curve = tmp_path / "curve.csv"
    for step in (10, 20, 30, 20):  # killed after 30 was written, gone on from 15
        train.append_row(curve, {"step": step, "loss": step / 7})
    assert [row["step"] for row in rows_of(tmp_path)] == ["10", "20"]
    assert float(rows_of(tmp_path)[-1]["loss"]) == pytest.approx(20 / 7, rel=1e-4)


def test_the_manifest_entry_tells_the_whole_story(trained, library, tmp_path, monkeypatch):
    start = initial_weights(trained[0] / "weights.safetensors", TINY_NET(), "tiny")
    trained_on(library, TINY_NET, tmp_path, minutes=0.2 / 60, schedule=SHORT, recipe=STILL, initial=start,
                command="second", clock=ticking())  # fmt: skip
    text = manifest_entry("tiny", tmp_path / "weights.safetensors", 0.8349)
    (tmp_path / "manifest.toml").write_text(text)
    monkeypatch.setattr(manifest, "SHIPPED_LIST", tmp_path / "manifest.toml")
    entry = manifest.shipped()["tiny"]
    assert entry.details["commands"] == [start.provenance["command"], "second"]
    assert entry.sha256 == sha256_of(tmp_path / "weights.safetensors")
    assert entry.details["motion_sha256"] == fingerprint(library)
    assert set(entry.details["validation_mm"]) == {"clean_p1", "clean_p2", "noisy_p1", "noisy_p2"}
    assert entry.details["steps"] > 100  # both runs
    assert entry.details["frames"] > entry.details["steps"]
    assert entry.details["jitter_over_truth"] == 0.83


def test_matrices_are_stored_in_half_and_decays_exactly(trained):
    state = torch.load(trained[0] / "state.pt", weights_only=True)["ema"]
    stored = load_file(trained[0] / "weights.safetensors")
    assert stored.keys() == state.keys()
    halves = {name for name, value in stored.items() if value.dtype == torch.float16}
    assert sum(state[name].numel() for name in halves) > 0.5 * sum(value.numel() for value in state.values())
    for name, value in state.items():
        torch.testing.assert_close(stored[name].float(), value, rtol=2**-11 if name in halves else 0, atol=1e-7)
    decays = [name for name in state if train.DECAY.search(name)]
    assert decays and not halves & set(decays)


def test_ablations_fill_their_table(library, tmp_path):
    names = ["as shipped", "AdamW only"]
    for name in (*names, names[0]):  # a second run replaces the row of the first
        config = TrainingConfig(1e-4, SHORT, STILL)
        row = ablation.ablate(name, library, library, TINY_NET, tmp_path / name, config)
        ablation.write_row(tmp_path / "table.csv", row)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["name"] for row in rows) == sorted(names)
    assert all(math.isfinite(float(row["noisy_p2"])) and int(row["frames_seen"]) > 0 for row in rows)


@pytest.mark.requires_cuda
def test_recorded_gradients_are_those_of_the_same_step(library):
    torch.manual_seed(0)
    model = PoseMamba(replace(TINY, drop_path=0.0)).cuda()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss(inputs, joints, first):
        return losses.pose_loss(model(inputs[..., :2], first), joints, OURS.loss)

    rng = Rng(0, "cuda")
    plain, recorded = Gradients(loss, parameters, is_divisible=True), RecordedGradients(loss, parameters)
    for _ in range(3):  # recorded once, then replayed with other numbers
        portions = [Portion(make_batch(library.to("cuda"), *shape, AugmentationConfig(), rng), rng.integers(0, 100, 1))
                    for shape in ((8, 27), (2, 81))]  # fmt: skip
        expected = float(plain(portions)), [p.grad.clone() for p in parameters]
        found = float(recorded(portions)), [p.grad.clone() for p in parameters]
        assert found[0] == pytest.approx(expected[0], rel=1e-5)
        for mine, theirs in zip(found[1], expected[1], strict=True):
            assert (mine - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7  # float32, sums in another order


@pytest.mark.requires_cuda
def test_training_on_a_gpu_learns(library, tmp_path):
    before = validate(PoseMamba(TINY).eval(), library, STILL)
    after = trained_on(library, TINY_NET, tmp_path, minutes=4 / 60, schedule=SHORT, recipe=STILL, seed=1,
                        device="cuda", clock=ticking())  # fmt: skip
    assert after["clean_p1"] < 0.7 * before["clean_p1"]
