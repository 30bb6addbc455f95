"""What holds for every architecture: published sizes, keys and shapes; configurations read from weights; gradients."""

import hashlib
import importlib
from dataclasses import replace

import pytest
import torch

from lifter.models import hgmamba, mdtf, motionagformer, posemamba, ssr_stf
from lifter.models.hgmamba import HGMambaConfig
from lifter.models.mdtf import MDTFConfig
from lifter.models.motionagformer import MotionAGFormerConfig
from lifter.models.posemamba import PoseMambaConfig
from lifter.models.ssr_stf import SSRSTFConfig

# Parameters, tensors, and the start of the SHA-256 of all keys, in order, with their shapes: lines "key (1, 2)".
# Those of PoseMamba and MDTF were recorded where they agreed with lists of the published files' keys and shapes.
NETWORKS = [
    (posemamba, "SMALL", 1_470_211, 392, "072e544412f5a3ef"),
    (posemamba, "BASE", 4_742_659, 392, "c46472ef553e1a5c"),
    (posemamba, "LARGE", 9_450_499, 772, "a90cd75008b1e630"),
    (mdtf, "TINY", 110_526 + 823_269, 218 + 628, "0a4d570eb18729b0"),  # first and second stage
    (mdtf, "LARGE", 110_526 + 4_313_781, 218 + 908, "9653d3dfcf04ecae"),
    (hgmamba, "XS", 2_877_087, 1173, "5a8eb0f35a3cad1b"),
    (hgmamba, "SMALL", 6_194_157, 2531, "96a2f7e9b4c0e3e0"),
    (hgmamba, "BASE", 14_200_403, 1561, "2bfe82b86c7e629f"),
    (motionagformer, "XS", 2_241_531, 801, "dbd9a955776bb284"),
    (motionagformer, "SMALL", 4_817_119, 1725, "4d4b0adf0e9aef74"),
    (motionagformer, "BASE", 11_723_811, 1065, "95087810c17c2b52"),
    (motionagformer, "LARGE", 19_007_111, 1725, "223e865edec94d3f"),
    (ssr_stf, "XS", 1_763_883, 777, "9aee239998cca34a"),
    (ssr_stf, "SMALL", 3_786_063, 1673, "a7f62f73332934b6"),
    (ssr_stf, "BASE", 9_141_603, 1033, "04788a5f319c6b00"),
]
MODULES = [posemamba, mdtf, hgmamba, motionagformer, ssr_stf]
TINY = [PoseMambaConfig(16, 2, 27), MDTFConfig(16, 2, 27), HGMambaConfig(16, 2, 6), MotionAGFormerConfig(16, 2, 6),
        SSRSTFConfig(16, 2, 27)]  # fmt: skip


def name_of(value) -> str:
    return value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else type(value).__name__


def build(config):
    return importlib.import_module(type(config).__module__).build(config)


@pytest.mark.parametrize(("module", "size", "parameters", "tensors", "keys"), NETWORKS)
def test_sizes_keys_and_shapes_are_the_published_ones(module, size, parameters, tensors, keys):
    config = getattr(module, size)
    with torch.device("meta"):
        model = module.build(config)
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(state) == tensors
    lines = "\n".join(f"{key} {tuple(x.shape)}" for key, x in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest().startswith(keys)
    assert module.config_of(state) == config


@pytest.mark.parametrize(
    "config",
    [PoseMambaConfig(32, 3, window=81), replace(mdtf.TINY, as_released=True), MDTFConfig(32, 3, window=81),
     HGMambaConfig(64, 12, 27, use_bodyscale=True), SSRSTFConfig(32, 1, 243), *TINY],
)  # fmt: skip
def test_other_configurations_are_read_from_the_weights(config):
    with torch.device("meta"):
        state = build(config).state_dict()
    assert importlib.import_module(type(config).__module__).config_of(state) == config


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_weights_of_something_else_are_refused(module):
    with torch.device("meta"):
        others = [build(config).state_dict() for config in TINY if type(config).__module__ != module.__name__]
        strange = [MotionAGFormerConfig(12, 1, 3), SSRSTFConfig(20, 1, 27)]  # widths that no heads can share
        others += [build(config).state_dict() for config in strange if type(config).__module__ == module.__name__]
    second = {key: x for key, x in build(MDTFConfig(16, 2)).state_dict().items() if not key.startswith("bam.")}
    junk = [{}, {"conv.weight": torch.zeros(1)}, {"layers.x.y": torch.zeros(1)}, second,
            {"Spatial_pos_embed": torch.zeros(1, 17, 0)}]  # fmt: skip
    for state in (*others, *junk):
        with pytest.raises(ValueError, match=r"no \S+ weights: expected keys such as"):
            module.config_of(state)


@pytest.mark.parametrize("config", [config for config in TINY if not config.fixed_length], ids=name_of)
def test_first_frame_moves_the_temporal_embedding(config, recipe):
    model = build(config)
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    x = torch.randn(1, 9, 17, config.channels)
    state = dict(model.state_dict())
    if "Temporal_pos_embed" in state:
        state["Temporal_pos_embed"] = state["Temporal_pos_embed"].roll(-10, dims=1)
    moved = build(config).eval()
    moved.load_state_dict(state)
    with torch.inference_mode():
        for first in (10, torch.tensor([10])):
            assert torch.equal(model.eval()(x, first_frame=first), moved(x))
    last = config.window - 8
    with pytest.raises(ValueError, match="a window holds 1 to 8 frames, got 9"):
        model(x, first_frame=last)


@pytest.mark.parametrize("config", TINY, ids=name_of)
def test_gradients_reach_every_parameter_that_learns(config, recipe):
    model = build(config)
    model.load_state_dict(recipe.fill(model.state_dict(), 0))
    model.train()(torch.randn(2, config.window, 17, config.channels)).square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert all(name.startswith("bam.") for name in still)  # the first stage of MDTF has a loss of its own
    dead = {name.split(".")[-2] if ".V." in name else name.split(".")[-1]
            for name, p in model.named_parameters() if not p.requires_grad}  # fmt: skip
    assert dead <= ({"alpha1", "alpha2", "V"} if isinstance(config, HGMambaConfig) else set())  # released, unused


@pytest.mark.parametrize(
    ("config", "stacks"),
    [(PoseMambaConfig(16, 5, drop_path=0.2), ("STEblocks", "TTEblocks")),
     (MDTFConfig(16, 5, drop_path=0.2), ("STEblocks", "TTEblocks", "bam.STEblocks", "bam.TTEblocks"))],
    ids=name_of,
)  # fmt: skip
def test_drop_path_grows_with_depth(config, stacks):
    model = build(config)
    for blocks in map(model.get_submodule, stacks):
        count = len(blocks)
        assert [b.drop_path for b in blocks] == pytest.approx([0.2 * i / (count - 1) for i in range(count)])
