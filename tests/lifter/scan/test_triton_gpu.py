"""The Triton kernels on a GPU: networks' own sizes, batches that fill it, CUDA graphs, autocast, golden outputs."""

from functools import partial

import numpy as np
import pytest
import torch

from lifter import scan
from lifter.models.posemamba import BASE, LARGE, SMALL, PoseMamba, PoseMambaConfig
from lifter.scan import reference, torch_loop, triton_scan
from lifter.scan.triton_scan import Cut
from tests.lifter.scan.cases import assert_agrees, cross, cross_inputs, error, with_gradients

pytestmark = pytest.mark.requires_cuda

CUDA_GRIDS = [
    ((3, 9, 7, 40, 3, 7, 2), Cut(chunk=8, span_chunks=1)),
    ((2, 243, 17, 128, 4, 16, 2), Cut()),
    ((2, 243, 17, 128, 4, 16, 2), Cut(span_chunks=10**6)),  # one span: first and second pass are skipped
    ((1, 243, 17, 256, 8, 16, 2), Cut()),
]


def there(call):
    """Return ``call`` with inputs and output on the CPU and the work on the GPU."""
    return lambda inputs: call({name: x.to("cuda") for name, x in inputs.items()}).to("cpu")


@pytest.fixture
def exact():
    """Full float32 matrix products and convolutions."""
    operations = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [operation.fp32_precision for operation in operations]
    for operation in operations:
        operation.fp32_precision = "ieee"
    yield
    for operation, value in zip(operations, before, strict=True):
        operation.fp32_precision = value


@pytest.mark.parametrize(("grid", "cut"), CUDA_GRIDS, ids=str)
def test_networks_own_sizes_agree_with_the_definition(grid, cut):
    order = scan.grid_orders(*grid[1:3])
    function = partial(triton_scan.cross_scan, cut=cut)
    # in float64 as exact, and 10 times faster
    definition = partial(reference.cross_scan, scan=torch_loop.selective_scan)
    assert_agrees(there(lambda x: cross(function, x, order.cuda())), cross_inputs(*grid), order, definition)


def test_the_order_of_sums_is_fixed():
    order = scan.grid_orders(81, 17).cuda()
    inputs = cross_inputs(2, 81, 17, 128, 4, 16, 2)
    call = there(lambda x: cross(triton_scan.cross_scan, x, order))
    (value, gradients), (again, gradients_again) = (with_gradients(call, inputs, torch.float32) for _ in range(2))
    assert torch.equal(value, again)
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)


def test_a_sample_does_not_depend_on_a_batch_of_64():
    order = scan.grid_orders(243, 17).cuda()
    inputs = {name: x.cuda() for name, x in cross_inputs(64, 243, 17, 256, 8, 16, 2).items()}  # y of all walks: 1 GB
    together = cross(triton_scan.cross_scan, inputs, order)
    alone = {k: v[63:] if k.startswith(("source", "projection")) else v for k, v in inputs.items()}
    assert error(together[63:], cross(triton_scan.cross_scan, alone, order).double()) < 1e-5  # cut in another way


def test_a_batch_of_64_has_gradients():
    order = scan.grid_orders(243, 17).cuda()
    inputs = cross_inputs(1, 243, 17, 256, 8, 16, 2)
    is_per_sample = {name: name.startswith(("source", "projection")) for name in inputs}
    many = {k: v.expand(64, -1, -1) if is_per_sample[k] else v for k, v in inputs.items()}
    call = there(lambda x: cross(triton_scan.cross_scan, x, order).sum(0))
    _, one = with_gradients(call, inputs, torch.float32)
    _, all_of_them = with_gradients(call, many, torch.float32)
    for name, gradient in all_of_them.items():
        expected = one[name].double() * (1 if is_per_sample[name] else 64)
        assert error(gradient[63:] if is_per_sample[name] else gradient, expected) < 5e-5


@pytest.mark.parametrize("config", [SMALL, BASE, LARGE], ids=["S", "B", "L"])
def test_a_captured_graph_repeats_the_network(config, exact):
    model = PoseMamba(config).eval().requires_grad_(False).cuda()
    scan.use_backend(model, "triton")
    keypoints = torch.randn(1, 243, 17, 2, device="cuda")
    stream = torch.cuda.Stream()
    with torch.inference_mode():
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            model(keypoints)  # compiles the kernels
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            joints = model(keypoints)
        keypoints.copy_(torch.randn_like(keypoints))
        graph.replay()
        assert torch.equal(joints, model(keypoints))


def test_autocast_trains_close_to_float32(exact):
    torch.manual_seed(0)
    model = PoseMamba(PoseMambaConfig(width=64, depth=2, drop_path=0)).cuda()
    scan.use_backend(model, "triton")
    keypoints = torch.randn(4, 81, 17, 2, device="cuda")
    joints = {}
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            joints[enabled] = model(keypoints)
        joints[enabled].float().square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert error(joints[True].float(), joints[False].double()) < 0.1  # bfloat16 has 8 bits: 4e-3 per operation


@pytest.mark.parametrize("name", ["posemamba_s_seed0", "posemamba_s_seed0_t81"])
def test_golden_output(name, root, recipe, exact):
    with np.load(root / "tests" / "golden" / f"{name}.npz") as npz:
        expected = {key: npz[key] for key in npz.files}
    model = PoseMamba(SMALL)
    model.load_state_dict(recipe.fill(model.state_dict(), int(expected["seed"])))
    scan.use_backend(model, "triton")
    with torch.inference_mode():
        answer = model.eval().cuda()(torch.as_tensor(expected["input"]).cuda()).cpu().numpy()
    assert np.abs(answer - expected["output"]).max() < 1e-4
