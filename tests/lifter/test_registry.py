"""What every entry of the registry must do, whatever network is behind it.

Networks as registered are built without memory; what runs is the same network with a single block, so that the largest
takes no longer than the smallest.
"""

import hashlib
import importlib
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from checkpoints import manifest, shipped
from checkpoints.tensors import read_weights
from lifter import LIFTERS, create_model, load_lifter
from lifter.lift import Sequence2D, lift
from lifter.load import build_for
from lifter.skeletons import COCO17, MOTION_FPS, mirror
from lifter.training.provenance import initial_weights
from lifter.training.train import save_weights

WIDTH, HEIGHT = 1280, 720


# Networks that choose neighbors may choose another one where rounding differs, which moves a few values (see
# lifter.models.layers.graph_mixers); all others agree to the tolerance everywhere.
TOLERANCE, LEAST_SHARE, MOST = 1e-4, 0.99, 0.05


def configuration(name: str):
    spec = LIFTERS[name]
    return getattr(importlib.import_module(spec.module), spec.config)


def shallow(name: str):
    """The configuration of ``name`` with a single block."""
    config = configuration(name)
    return replace(config, depth=1) if "depth" in {field.name for field in fields(config)} else config


def first_of_each_kind() -> list[str]:
    """Names whose networks differ in more than their number of blocks."""
    found = {}
    for name, spec in LIFTERS.items():
        found.setdefault((spec.module, shallow(name)), name)
    return list(found.values())


def smallest_of_each_architecture() -> list[str]:
    """One name per module: what is mirrored, and what shares a batch, depends on neither width nor window."""
    found = {}
    for name in first_of_each_kind():
        found.setdefault(LIFTERS[name].module, name)
    return list(found.values())


@pytest.fixture(scope="module")
def weights(recipe, tmp_path_factory):
    """A weights file of the shallow network of a name."""
    made = {}

    def make(name: str):
        if name not in made:
            model = importlib.import_module(LIFTERS[name].module).build(shallow(name))
            made[name] = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
            state = recipe.fill(model.state_dict(), 0)
            save_weights(state, {"normalization": "person", "unit": "m"}, made[name])
        return made[name]

    return make


@pytest.fixture(scope="module")
def ready(weights):
    made = {}

    def load(name: str):
        if name not in made:
            made[name] = load_lifter(weights(name), "cpu")
        return made[name]

    return load


def walking(frames: int, seed: int = 0) -> Sequence2D:
    """Somebody whose joints all move, as a detector would see them."""
    rng = np.random.default_rng(seed)
    pose = np.array([640, 360]) + rng.normal(size=(17, 2)) * [40, 110]
    phase, speed = rng.uniform(0, 6, (17, 2)), rng.uniform(2, 9, (17, 2))
    times = np.arange(frames) / MOTION_FPS
    keypoints = pose + 25 * np.sin(speed * times[:, None, None] + phase) + rng.normal(size=(frames, 17, 2))
    return Sequence2D(keypoints, times, WIDTH, HEIGHT, rng.uniform(0.3, 1, (frames, 17)))


def mirrored(sequence: Sequence2D) -> Sequence2D:
    order = list(COCO17.mirrored)
    keypoints = sequence.keypoints[:, order].copy()
    keypoints[..., 0] = WIDTH - 1 - keypoints[..., 0]
    return Sequence2D(keypoints, sequence.timestamps_s, WIDTH, HEIGHT, sequence.scores[:, order])


def assert_close(actual: np.ndarray, expected: np.ndarray):
    difference = np.abs(actual - expected)
    assert (difference < TOLERANCE).mean() >= LEAST_SHARE
    assert difference.max() < MOST


# ---------------------------------------------------------------------------------------------- as registered


@pytest.mark.parametrize("name", LIFTERS)
def test_the_registry_tells_what_the_network_takes(name):
    spec = LIFTERS[name]
    with torch.device("meta"):
        model = create_model(name)
    assert (spec.window, spec.channels) == (model.config.window, model.config.channels)
    assert all(text and len(text) < 70 for text in (spec.about, spec.good_for, spec.origin))


@pytest.mark.parametrize(("name", "extra"), [("mdtf-tiny", "as_released"), ("hgmamba-xs", "use_bodyscale")])
def test_extras_make_networks_of_their_own_that_weights_files_remember(name, extra, tmp_path):
    model = create_model(name, extras=[extra])
    assert model.config == replace(configuration(name), **{extra: True})
    save_weights(model.state_dict(), {}, tmp_path / "weights.safetensors")
    _, again, _ = build_for(read_weights(tmp_path / "weights.safetensors").tensors)
    assert again.config == model.config
    wanted = rf"holds weights of \S+{extra}True, expected {name}"
    with pytest.raises(ValueError, match=wanted):
        initial_weights(tmp_path / "weights.safetensors", create_model(name), name)
    tensors = initial_weights(tmp_path / "weights.safetensors", model, f"{name}, {extra}").tensors
    model.load_state_dict(tensors)


@pytest.mark.parametrize(("name", "known"), [("mdtf-tiny", "as_released"), ("ssr-stf-xs", "none")])
def test_an_extra_that_a_network_lacks_is_named_with_those_it_has(name, known):
    with pytest.raises(ValueError, match=rf"{name} has no extra 'warp'; it has {known}"):
        create_model(name, extras=["warp"])


@pytest.mark.parametrize("name", [name for name in LIFTERS if name not in shipped()])
def test_a_name_without_weights_says_what_to_do(name):
    with pytest.raises(FileNotFoundError, match=rf"no trained weights for {name} .*train --lifter {name}' or pass a w"):
        load_lifter(name)


# ---------------------------------------------------------------------------------------------- with a single block


@pytest.mark.parametrize("name", first_of_each_kind())
def test_as_many_frames_out_as_in(ready, name):
    lifter = ready(name)
    window = LIFTERS[name].window
    assert (lifter.window, lifter.channels) == (window, LIFTERS[name].channels)
    for frames in (1, window - 1, window, window + 1):
        (joints,) = lift(lifter, [walking(frames)], use_flip=False)
        assert joints.shape == (frames, 17, 3)
        assert joints.dtype == np.float32
        assert np.isfinite(joints).all()
        assert not joints[:, 0].any()  # the pelvis is the origin
        assert joints[:, 1:].any()


@pytest.mark.parametrize("name", smallest_of_each_architecture())
def test_the_mirror_image_moves_as_the_mirror_image(ready, name):
    sequence = walking(LIFTERS[name].window // 2)
    (straight,), (flipped,) = (lift(ready(name), [s]) for s in (sequence, mirrored(sequence)))
    assert_close(flipped, mirror(torch.from_numpy(straight)).numpy())


@pytest.mark.parametrize("name", smallest_of_each_architecture())
def test_a_window_does_not_depend_on_its_batch(ready, name):
    sequences = [walking(LIFTERS[name].window, 1), walking(5, 2), walking(1, 3)]
    together = lift(ready(name), sequences, use_flip=False)
    for sequence, joints in zip(sequences, together, strict=True):
        assert_close(lift(ready(name), [sequence], use_flip=False)[0], joints)


@pytest.mark.parametrize("name", first_of_each_kind())
def test_what_was_saved_is_what_is_loaded(ready, weights, recipe, name):
    lifter = ready(name)
    module = importlib.import_module(LIFTERS[name].module)
    fresh = module.build(shallow(name))
    expected = recipe.fill(fresh.state_dict(), 0)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in lifter.model.state_dict().items())
    assert lifter.model.config == shallow(name)
    told = lifter.provenance
    assert told["weights"]["sha256"] == hashlib.sha256(weights(name).read_bytes()).hexdigest()
    assert (told["window"], told["channels"]) == (LIFTERS[name].window, LIFTERS[name].channels)
    assert told["name"] == lifter.name == next((n for n in LIFTERS if configuration(n) == shallow(name)), lifter.name)


@pytest.mark.parametrize("name", first_of_each_kind())
def test_weights_of_another_network_are_refused(weights, tmp_path, monkeypatch, name):
    if shallow(name) == configuration(name):
        pytest.skip("this network has no size to change")
    path = weights(name)
    (tmp_path / "manifest.toml").write_text(
        f'[{name}]\nfile = "{path.name}"\nsha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n'
    )
    monkeypatch.setattr(manifest, "FOLDER", path.parent)
    monkeypatch.setattr(manifest, "SHIPPED_LIST", tmp_path / "manifest.toml")
    with pytest.raises(ValueError, match=rf"holds weights of \S+-depth1\S*, expected {name}"):
        load_lifter(name)


@pytest.mark.parametrize("name", first_of_each_kind())
def test_what_the_network_cannot_take_is_refused(ready, name):
    model, spec = ready(name).model, LIFTERS[name]
    with pytest.raises(ValueError, match=rf"keypoints must have shape \(B, T, 17, {spec.channels}\), got"):
        model(torch.zeros(1, spec.window, 17, 5 - spec.channels))
    with pytest.raises(ValueError, match=f"a window holds (1 to|exactly) {spec.window} frames, got {spec.window + 1}"):
        model(torch.zeros(1, spec.window + 1, 17, spec.channels))
    if model.config.fixed_length:
        with pytest.raises(ValueError, match=f"exactly {spec.window} frames, got {spec.window - 1}; split or pad"):
            model(torch.zeros(1, spec.window - 1, 17, spec.channels))


@pytest.mark.requires_cuda
@pytest.mark.parametrize("name", first_of_each_kind())
def test_a_gpu_gives_what_the_cpu_gives(ready, weights, name):
    on_gpu = load_lifter(weights(name), "auto")
    assert (on_gpu.provenance["device"], on_gpu.uses_graphs) == ("cuda", True)
    sequences = [walking(LIFTERS[name].window + 5, 1), walking(3, 2)]
    for a, b in zip(lift(on_gpu, sequences), lift(ready(name), sequences), strict=True):
        assert_close(a, b)


# ---------------------------------------------------------------------------------------------- scores


READS_SCORES = [name for name in first_of_each_kind() if LIFTERS[name].channels == 3]


@pytest.mark.parametrize("name", READS_SCORES)
def test_scores_reach_the_network(ready, name):
    sequence = walking(5)
    unsure = Sequence2D(sequence.keypoints, sequence.timestamps_s, WIDTH, HEIGHT, sequence.scores / 2)
    (sure,), (less,) = (lift(ready(name), [s], use_flip=False) for s in (sequence, unsure))
    assert np.abs(sure - less).max() > 0.01
    unknown = Sequence2D(sequence.keypoints, sequence.timestamps_s, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="reads the scores of keypoints; give Sequence2D the detector's"):
        lift(ready(name), [unknown])


@pytest.mark.parametrize("scores", [np.full((5, 17), 1.01), np.full((5, 17), np.nan), np.ones((4, 17)), np.ones(5)])
def test_scores_that_are_none_are_refused(scores):
    sequence = walking(5)
    with pytest.raises(ValueError, match="scores must"):
        Sequence2D(sequence.keypoints, sequence.timestamps_s, WIDTH, HEIGHT, scores)


def test_a_batch_holds_as_many_frames_whatever_the_window(ready):
    name = next(name for name in READS_SCORES if LIFTERS[name].window == 27)
    assert ready(name).windows_per_batch == 36  # 4 windows of 243 frames


# ---------------------------------------------------------------------------------------------- published files


@pytest.mark.parametrize("name", READS_SCORES)
def test_published_checkpoints_load_as_they_are(ready, weights, tmp_path, name):
    model = ready(name).model
    content = {
        "epoch": 59, "lr": 2.7e-4,
        "optimizer": {"state": {0: {"step": torch.tensor(9.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "model": {f"module.{key}": tensor for key, tensor in model.state_dict().items()},
        "min_mpjpe": 38.4, "wandb_id": "3b5hk2f1",
    }  # fmt: skip
    torch.save(content, tmp_path / "best_epoch.pth.tr")
    published = load_lifter(tmp_path / "best_epoch.pth.tr", "cpu")
    assert (published.name, published.normalization, published.unit) == (ready(name).name, "picture", "normalized")
    keypoints = torch.rand(1, published.window, 17, 3)
    with torch.inference_mode():
        assert torch.equal(published.model(keypoints), model(keypoints))
