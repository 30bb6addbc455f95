"""CUDA graphs: replaying must give what running gives."""

import subprocess
import sys

import pytest
import torch

from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.runtime.cuda_graphs import GraphedModel, padded_size
from lifter.runtime.devices import GPU_BACKENDS
from lifter.scan import usable_backends, use_backend

ROW = (27, 17, 2)
MOST_ROWS = 8


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (64, 64), (65, 96), (96, 96)])
def test_batches_are_padded_to_a_few_sizes(rows, size):
    assert padded_size(rows, 96) == size


@pytest.mark.parametrize("rows", [0, 97])
def test_a_batch_that_no_graph_holds_is_refused(rows):
    with pytest.raises(ValueError, match=f"1 to 96 rows, got {rows}"):
        padded_size(rows, 96)


@pytest.fixture(params=GPU_BACKENDS)
def model(request, recipe):
    """A small network on the GPU, on every kernel that can be recorded."""
    if reason := usable_backends("cuda")[request.param]:
        pytest.skip(reason)
    network = PoseMamba(PoseMambaConfig(width=16, depth=2))
    network.load_state_dict(recipe.fill(network.state_dict(), 0))
    use_backend(network, request.param)
    return network.eval().requires_grad_(False).cuda()


def graphed(model) -> GraphedModel:
    return GraphedModel(model, ROW, torch.device("cuda"), MOST_ROWS)


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *ROW, generator=torch.Generator().manual_seed(seed)).cuda() * 2 - 1


def eager(model, inputs):
    with torch.inference_mode():
        return model(inputs)


# Padding changes the shapes of matrix products, so sums are taken in another order: float32, outputs around 1.
TOLERANCE = 1e-5


@pytest.mark.requires_cuda
def test_replaying_gives_what_running_gives(model):
    replayed = graphed(model)
    for count in (3, 8, 1, 5, 3, 2, 8):  # sizes come back, in another order than they were recorded in
        torch.testing.assert_close(
            replayed(rows(count, count)), eager(model, rows(count, count)), rtol=0, atol=TOLERANCE
        )


@pytest.mark.requires_cuda
def test_nothing_is_left_from_the_input_before(model):
    replayed = graphed(model)
    first = replayed(rows(4, 1))
    kept = first.clone()
    second = replayed(rows(3, 2))  # the fourth row of the buffer still holds an old one
    torch.testing.assert_close(second, eager(model, rows(3, 2)), rtol=0, atol=TOLERANCE)
    assert torch.equal(first, kept)  # an answer is the caller's: later replays do not write to it


@pytest.mark.requires_cuda
def test_inputs_from_the_cpu_are_taken(model):
    torch.testing.assert_close(graphed(model)(rows(2).cpu()), eager(model, rows(2)), rtol=0, atol=TOLERANCE)


@pytest.mark.requires_cuda
def test_new_weights_in_the_same_place_are_used(model):
    replayed = graphed(model)
    replayed(rows(2))
    model.head[1].weight.mul_(2)
    torch.testing.assert_close(replayed(rows(2)), eager(model, rows(2)), rtol=0, atol=TOLERANCE)


@pytest.mark.requires_cuda
def test_rows_of_another_length_are_refused(model):
    with pytest.raises(ValueError, match=r"rows must have shape \(27, 17, 2\), got \(26, 17, 2\)"):
        graphed(model)(rows(2)[:, :26])


@pytest.mark.process
@pytest.mark.requires_cuda
def test_what_waits_for_the_gpu_cannot_be_recorded_and_says_so(root):
    code = (
        "import torch\n"
        "from lifter.runtime.cuda_graphs import capture\n"
        "ones = torch.ones(4, device='cuda')\n"
        "capture(lambda: ones * ones.sum().item())"
    )  # in a process of its own: torch may not tidy up after a spoilt capture
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: the network could not be recorded as a CUDA graph: ")
    assert "--backend torch" in answer.stderr
