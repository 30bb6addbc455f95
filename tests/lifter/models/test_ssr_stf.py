"""SSR-STF: there is nothing published to compare with, so its parts must do what their descriptions promise."""

import itertools

import pytest
import torch

from lifter.models.ssr_stf import CHAINS, IN_CHAINS, IN_ORDER, SSRSTF, RefineAttention, SSRSTFConfig
from lifter.skeletons import H36M17

SMALLEST = SSRSTFConfig(width=16, depth=2, window=27)
REACH = 5  # frames to either side: 1 of the near kernel, 3 of the dilated one, 1 of the gates


def awake(model: torch.nn.Module) -> torch.nn.Module:
    """The model with weights that make every part matter: fresh layer scales hide all of them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
            if "layer_scale" in name:
                parameter += 0.5
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> SSRSTF:
    return awake(SSRSTF(SMALLEST))


def keypoints(frames: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, frames, 17, 3, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------- any length


def test_no_weight_depends_on_the_window(model):
    longer = SSRSTF(SSRSTFConfig(width=16, depth=2, window=80)).eval()
    longer.load_state_dict(model.state_dict())
    # another length of the batch axes rounds matrix products differently
    torch.testing.assert_close(longer(keypoints(27)), model(keypoints(27)), rtol=0, atol=1e-5)
    assert longer(keypoints(80)).isfinite().all()


# ---------------------------------------------------------------------------------------------- local and global


def reached(block, frames: int, frame: int, joint: int) -> torch.Tensor:
    """Which tokens (frames, 17) of a block's output change with one token of its input."""
    x = torch.randn(1, frames, 17, 16, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, frame, joint] = torch.randn(16, generator=torch.Generator().manual_seed(1))
    return (block(changed) - block(x)).abs().amax((0, 3)) > 1e-6  # rounding of what did not change: none


def test_spatial_refinement_looks_at_one_frame(model):
    moved = reached(model.layers[0].ssr_spatial, 9, frame=4, joint=7)
    # near 1, dilated 2, gates 1
    assert moved.nonzero().tolist() == [[4, joint] for joint in range(7 - 4, 7 + 5)]


def test_temporal_refinement_looks_at_one_joint(model):
    moved = reached(model.layers[0].ssr_temporal, 27, frame=13, joint=7)
    # 13 in the middle; near 1, dilated 3, gates 1, as far as these leave no gaps
    assert moved.nonzero().tolist() == [[frame, 7] for frame in range(13 - 5, 13 + 6)]


def test_criss_cross_attention_reaches_every_frame_and_every_joint(model):
    moved = reached(model.layers[0].stf, 27, frame=0, joint=0)
    assert moved[0].all()  # all joints of the frame
    assert moved[:, 0].all()  # all frames of the joint
    assert moved[1, 1]  # 3x3
    assert moved.sum() == 17 + 27 - 1 + 1  # nothing else


def test_the_local_stream_moves_with_the_motion(model):
    def local(x):
        return model.layers[0].ssr_temporal(model.layers[0].ssr_spatial(x))

    x = torch.randn(1, 40, 17, 16)
    early, late = local(x[:, :30]), local(x[:, 10:])  # frame t of late is frame t + 10 of early
    difference = (early[:, 10:] - late[:, :20]).abs().amax((0, 2, 3))
    assert difference[0] > 1e-3  # the border is zeros
    assert difference[REACH:-REACH].max() < 1e-5  # float32


@pytest.mark.parametrize(("kernel", "dilation"), [((1, 3), (1, 2)), ((5, 1), (3, 1))], ids=["joints", "frames"])
def test_gates_lie_between_0_and_1_and_select(kernel, dilation):
    mixer = awake(RefineAttention(16, kernel, dilation))
    near, far = torch.randn(2, 1, 9, 17, 16) * 3
    gates = mixer.gates(near, far)
    assert gates.shape == (1, 9, 17, 2)
    assert ((gates > 0) & (gates < 1)).all()
    assert gates.std() > 0.01
    mixer.sel.weight.zero_()
    mixer.sel.bias.copy_(torch.tensor([100.0, -100.0]))  # near only: what the far convolution does is of no account
    x = torch.randn(1, 9, 17, 16)
    before = mixer(x)
    mixer.far.weight.add_(1)
    assert torch.equal(mixer(x), before)


def test_chains_run_along_the_skeleton():
    assert sorted(IN_CHAINS) == list(range(17))
    assert [IN_CHAINS[place] for place in IN_ORDER] == list(range(17))
    bones = {frozenset(edge) for edge in H36M17.edges}
    breaks = [pair for pair in itertools.pairwise(CHAINS)
              if frozenset(H36M17.index(name) for name in pair) not in bones]  # fmt: skip
    assert breaks == [("left_ankle", "spine"), ("head", "left_wrist"), ("left_shoulder", "right_shoulder")]


# ---------------------------------------------------------------------------------------------- whole network


def test_joints_come_out_in_the_order_they_went_in(model):
    # blocks that do nothing leave every joint to itself
    still = SSRSTF(SMALLEST).eval()
    still.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, parameter in still.named_parameters():
            if "layer_scale" in name:
                parameter.zero_()
    x = keypoints(3)
    changed = x.clone()
    changed[:, :, 5] += 1
    assert (still(changed) - still(x)).abs().amax((0, 1, 3)).nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("part", ["ssr_spatial", "ssr_temporal", "stf"])
def test_gradients_are_those_of_the_function(part):
    block = awake(SSRSTF(SMALLEST)).double().layers[0]
    x = torch.randn(1, 3, 17, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(getattr(block, part), x, fast_mode=True)
