"""The Triton kernels against the definition, in Triton's interpreter and on a GPU; the probe of ``mamba_ssm``.

The interpreter has to be chosen before Triton is imported, and then for good. So ``test_the_interpreter_agrees`` runs
this file again in a process of its own with TRITON_INTERPRET=1; there, DEVICE is the CPU and what is marked
``numerical`` runs. In any other process the same tests run on a GPU or are skipped.
"""

import importlib.util
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lifter import scan
from lifter.models.layers.bimamba import both_ways
from lifter.models.posemamba import BASE, LARGE, SMALL, PoseMamba, PoseMambaConfig
from lifter.scan import mamba_ssm, reference, torch_loop, triton_scan
from lifter.scan.fused_ops import grid_conv
from lifter.scan.triton_scan import Cut
from tests.lifter.scan.test_scan import (
    assert_agrees,
    cross,
    cross_inputs,
    error,
    selective,
    selective_inputs,
    with_gradients,
)

IS_INTERPRETED = triton_scan.is_interpreted()
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
not_interpreted = pytest.mark.skipif(IS_INTERPRETED, reason="not for the interpreter")

# An interpreted token takes some 10 ms per walk, so sequences are short and chunks shorter: what counts is on which
# side of a border of tiles, chunks, spans and blocks of channels a length lies.
SELECTIVE = [  # batch, channels, groups, states, length; how it is cut
    ((1, 5, 1, 3, 1), Cut()),
    ((1, 4, 1, 16, 7), Cut(chunk=8, tile=4, span_chunks=1)),
    ((1, 4, 1, 16, 8), Cut(chunk=8, tile=2, span_chunks=1)),
    ((2, 6, 2, 5, 9), Cut(chunk=4, tile=4, span_chunks=1)),
    ((1, 4, 1, 2, 17), Cut(chunk=4, tile=4, span_chunks=2)),
    ((1, 4, 1, 2, 70), Cut(chunk=4, tile=4, span_chunks=1)),  # 18 spans: more than the second pass takes at once
    ((1, 40, 1, 4, 5), Cut()),  # two blocks of channels
    ((1, 4, 1, 16, 66), Cut()),
]
GRIDS = [  # batch, frames, joints, inner width, rank, states, sources; how it is cut
    ((1, 2, 3, 8, 4, 16, 2), Cut()),
    ((2, 2, 3, 8, 8, 4, 2), Cut(chunk=4, tile=4, span_chunks=1)),
    ((1, 3, 3, 36, 3, 7, 1), Cut(chunk=4, tile=4, span_chunks=2)),
    ((1, 2, 2, 4, 1, 16, 4), Cut(chunk=2, tile=2, span_chunks=1)),
]
CUDA_GRIDS = [
    ((3, 9, 7, 40, 3, 7, 2), Cut(chunk=8, span_chunks=1)),
    ((2, 243, 17, 128, 4, 16, 2), Cut()),
    ((2, 243, 17, 128, 4, 16, 2), Cut(span_chunks=10**6)),  # one span: first and second pass are skipped
    ((1, 243, 17, 256, 8, 16, 2), Cut()),
]


def numerical(test):
    """Mark a test that runs wherever DEVICE is, given Triton."""
    return needs_triton(test if IS_INTERPRETED else pytest.mark.requires_cuda(test))


def gpu_only(test):
    """Mark a test for a GPU and compiled kernels."""
    return not_interpreted(pytest.mark.requires_cuda(test))


def there(call):
    """Return ``call`` with inputs and output on the CPU and the work on DEVICE."""
    return lambda inputs: call({name: x.to(DEVICE) for name, x in inputs.items()}).to("cpu")


# ---------------------------------------------------------------------------------------------- both places


@numerical
@pytest.mark.parametrize(("shape", "cut"), SELECTIVE, ids=str)
def test_selective_scan_agrees_with_the_definition(shape, cut):
    inputs = selective_inputs(*shape)
    function = partial(triton_scan.selective_scan, cut=cut)
    assert_agrees(there(lambda x: selective(function, x)), lambda x: selective(reference.selective_scan, x), inputs)


@numerical
@pytest.mark.parametrize(("grid", "cut"), GRIDS, ids=str)
def test_cross_scan_agrees_with_the_definition(grid, cut):
    order = scan.grid_orders(*grid[1:3])
    function = partial(triton_scan.cross_scan, cut=cut)
    assert_agrees(
        there(lambda x: cross(function, x, order.to(DEVICE))),
        lambda x: cross(reference.cross_scan, x, order),
        cross_inputs(*grid),
    )


@numerical
def test_a_scan_forth_and_back_agrees_with_the_definition():  # HGMamba's and MDTF's
    order = both_ways(9, "cpu")
    function = partial(triton_scan.cross_scan, cut=Cut(chunk=4, tile=4, span_chunks=1))
    assert_agrees(
        there(lambda x: cross(function, x, order.to(DEVICE))),
        lambda x: cross(reference.cross_scan, x, order),
        cross_inputs(3, 1, 9, 8, 4, 4, 2, num_walks=2),
    )


@numerical
@pytest.mark.parametrize(
    "grid", [(1, 1, 1, 4), (2, 5, 17, 70), (3, 40, 3, 16)], ids=str
)  # batch, frames, joints, channels
def test_the_grid_convolution_agrees_with_pytorchs(grid):
    torch.manual_seed(0)
    *_, E = grid
    wide, weight, bias, dy = (torch.randn(s) for s in ((*grid[:3], 2 * E), (E, 1, 3, 3), (E,), grid))

    def results(backend, device, dtype):
        leaves = [x.to(device, dtype).requires_grad_() for x in (wide, weight, bias)]
        y = grid_conv(leaves[0].chunk(2, dim=-1)[0], *leaves[1:], backend)  # every other half row is somebody else's
        return [x.cpu() for x in (y.detach(), *torch.autograd.grad((y * dy.to(device, dtype)).sum(), leaves))]

    for found, expected in zip(
        results("triton", DEVICE, torch.float32), results("torch", "cpu", torch.float64), strict=True
    ):
        assert error(found, expected) < 1e-5  # float32; sums of weight gradients run over all tokens


@numerical
def test_steps_are_used_as_they_are_without_softplus():
    inputs = selective_inputs(1, 4, 1, 4, 9)
    inputs["delta"], inputs["delta_bias"] = inputs["delta"].abs() / 10, inputs["delta_bias"].abs() / 100
    function = partial(triton_scan.selective_scan, cut=Cut(chunk=4, tile=4, span_chunks=1))
    assert_agrees(
        there(lambda x: selective(function, x, softplus=False)),
        lambda x: selective(reference.selective_scan, x, softplus=False),
        inputs,
    )


@numerical
@pytest.mark.parametrize("steps", [(-100.0, -30.0), (-17.0, -5.0), (15.0, 25.0)], ids=str)
def test_softplus_far_from_zero(steps):
    # tiny steps keep their digits, huge negative ones give neither NaN nor infinity, above 20 it is the identity
    inputs = selective_inputs(1, 4, 1, 4, 8)
    inputs["delta"] = torch.linspace(*steps, 8).expand(1, 4, -1).clone()
    inputs["delta_bias"] = torch.zeros(4)
    inputs["A"] = inputs["A"] / 50
    function = partial(triton_scan.selective_scan, cut=Cut(chunk=8, tile=8))
    assert_agrees(there(lambda x: selective(function, x)), lambda x: selective(reference.selective_scan, x), inputs)


@numerical
def test_a_state_that_decays_to_nothing_in_one_step():
    inputs = selective_inputs(1, 4, 1, 4, 9)
    inputs["delta_bias"] = torch.full((4,), 3000.0)
    function = partial(triton_scan.selective_scan, cut=Cut(chunk=4, tile=4, span_chunks=1))
    value, gradients = with_gradients(there(lambda x: selective(function, x)), inputs, torch.float32)
    x = {name: tensor.double() for name, tensor in inputs.items()}
    expected = ((x["delta"] + 3000) * (x["B"] * x["C"]).sum(2) + x["D"][:, None]) * x["u"]
    assert error(value, expected) < 1e-5  # as TOLERANCE of test_scan.py
    assert all(torch.isfinite(g).all() for g in gradients.values())


@numerical
def test_cross_scan_follows_any_order_of_strided_inputs():
    inputs = cross_inputs(1, 2, 4, 4, 2, 4, 2)
    order = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(k)) for k in range(4)])
    function = partial(triton_scan.cross_scan, cut=Cut(chunk=4, tile=4, span_chunks=1))
    strided = {name: x.transpose(0, -1).contiguous().transpose(0, -1) for name, x in inputs.items()}
    columns = order.T.contiguous().T.to(DEVICE)
    value = there(lambda x: cross(function, x, columns))(strided)
    assert error(value, cross(reference.cross_scan, {k: v.double() for k, v in inputs.items()}, order)) < 1e-5


@numerical
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_types_are_scanned_in_float32(dtype):
    inputs = {name: x.to(dtype) for name, x in selective_inputs(1, 4, 1, 4, 6).items()}
    value, gradients = with_gradients(there(lambda x: selective(triton_scan.selective_scan, x)), inputs, dtype)
    expected, _ = with_gradients(lambda x: selective(reference.selective_scan, x), inputs, torch.float64)
    assert value.dtype == dtype
    assert {g.dtype for g in gradients.values()} == {dtype}
    assert error(value, expected) < max(1e-5, torch.finfo(dtype).eps)  # one rounding of the result


@numerical
def test_the_output_is_float32_under_autocast():
    inputs = {name: x.bfloat16() for name, x in selective_inputs(1, 4, 1, 4, 2).items()}
    with torch.autocast(DEVICE, torch.bfloat16):
        assert there(lambda x: selective(triton_scan.selective_scan, x))(inputs).dtype == torch.float32


@numerical
def test_nothing_to_scan():
    for shape in ((0, 4, 1, 4, 3), (2, 4, 1, 4, 0)):
        value = there(lambda x: selective(triton_scan.selective_scan, x))(selective_inputs(*shape))
        assert value.shape == (shape[0], 4, shape[4])


@numerical
def test_a_whole_network_trains_as_with_the_definition():
    torch.manual_seed(0)
    model = PoseMamba(PoseMambaConfig(width=16, depth=1, drop_path=0)).to(DEVICE)
    keypoints = torch.randn(1, 1, 17, 2).to(DEVICE)
    found = {}
    for backend in ("reference", "triton"):
        scan.use_backend(model, backend)
        model.zero_grad()
        joints = model(keypoints)
        joints.square().sum().backward()
        found[backend] = {"joints": joints.detach(), **{name: p.grad.clone() for name, p in model.named_parameters()}}
    worst = {name: error(found["triton"][name], x.double()) for name, x in found["reference"].items()}
    assert max(worst.values()) < 1e-4, worst  # two float32 evaluations, 1e-6 apart in the interpreter


# ---------------------------------------------------------------------------------------------- without a GPU


@pytest.mark.process
@pytest.mark.interpreter
@needs_triton
@not_interpreted
def test_the_interpreter_agrees(root):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).relative_to(root))],
        cwd=root, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= len(SELECTIVE) + len(GRIDS) + 8


def compiled(name: str, capability: int, E: int, R: int):
    """Return kernel ``name`` compiled for a GPU that need not be there, as a network of these sizes launches it."""
    from triton import compile as compile_source
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lifter.scan import triton_kernels as kernels

    kernel = getattr(kernels, name)
    shape = triton_scan._Shape(4, 2, E, 16, R, 1, 4131, softplus=True, is_summed=True)
    split = triton_scan.BACKWARD_SPLIT if name == "backward" else triton_scan.FORWARD_SPLIT
    constants = {
        "s": triton_scan._Plan(shape, Cut(), True).sizes(split), "keeps": True, "is_split": True, "is_reverse": False,
        "rows": triton_scan.SPAN_ROWS, "lanes": triton_scan.SPAN_LANES,
    }  # fmt: skip
    constants = {argument: constants[argument] for argument in kernel.arg_names if argument in constants}
    walks = kernels.Walks(("*fp32",) * 2, ("*fp32",) * 2, "constexpr", "*i64", *["*fp32"] * 4)
    types = {"w": walks, "L": "i32", "span_length": "i32", "num_spans": "i32", **dict.fromkeys(constants, "constexpr")}
    signature = {argument: types.get(argument, "*fp32") for argument in kernel.arg_names}
    paths = [(i,) for i, argument in enumerate(signature) if signature[argument] == "*fp32"]
    if "w" in signature:
        paths += [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 3), (0, 4), (0, 5), (0, 6), (0, 7)]
        constants[(0, 2)] = None  # no given step sizes
    aligned = {path: [["tt.divisibility", 16]] for path in paths}  # as all memory from PyTorch is
    return compile_source(
        ASTSource(kernel, signature, constants, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True},
    )


def resources(cubin: bytes, folder: Path) -> dict[str, int]:
    """Return registers, stack and shared memory (REG, STACK, SHARED, ...) of compiled code."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this triton comes without cuobjdump")
    (folder / "kernel.cubin").write_bytes(cubin)
    done = subprocess.run(
        [tool, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True, timeout=60
    )
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED):(\d+)", done.stdout)}


@needs_triton
@not_interpreted
@pytest.mark.parametrize("name", ["span_ends", "chain_spans", "forward", "adjoint_ends", "backward"])
@pytest.mark.parametrize(
    ("capability", "E", "R"),
    [pytest.param(80, 128, 4, marks=pytest.mark.slow, id="sm_80, S"), pytest.param(90, 256, 8, id="sm_90, L")],
)
def test_a_kernel_compiles_without_spilling(name, capability, E, R, tmp_path):
    import triton

    bundled = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    if not (bundled.exists() or os.environ.get("TRITON_PTXAS_PATH")):
        pytest.skip("this triton comes without ptxas")
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 8):
        pytest.skip("triton 3.6 was seen to spill 80 bytes; 3.8 and 3.9 nothing")
    used = resources(compiled(name, capability, E, R).asm["cubin"], tmp_path)
    assert used["STACK"] == 0  # where spilled registers would go


@needs_triton
@not_interpreted
@pytest.mark.parametrize("name", ["convolve", "gradients"])
def test_the_grid_convolution_compiles_for_a_gpu(name, tmp_path):
    from triton import compile as compile_source
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lifter.scan import triton_depthwise as kernels

    kernel = getattr(kernels, name)
    constants = {"has_silu": True, "rows": kernels.ROWS, "columns": kernels.COLUMNS, "blocks": kernels.BLOCKS}
    constants = {argument: value for argument, value in constants.items() if argument in kernel.arg_names}
    types = {**dict.fromkeys(("num_tokens", "T", "J", "row", "E"), "i32"), **dict.fromkeys(constants, "constexpr")}
    signature = {argument: types.get(argument, "*fp32") for argument in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    used = resources(compile_source(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"], tmp_path)
    assert used["STACK"] == 0  # where spilled registers would go


@pytest.mark.process
@not_interpreted
def test_importing_the_door_loads_no_kernel(root):
    kernels = "('triton', 'lifter.scan.triton_kernels', 'lifter.scan.triton_depthwise')"
    code = f"import sys, lifter.models.posemamba; print([m for m in sys.modules if m in {kernels}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@needs_triton
@not_interpreted
def test_the_kernels_say_what_they_need():
    reason = scan.usable_backends("cpu")["triton"]
    assert reason == "needs a CUDA device, not cpu (set TRITON_INTERPRET=1 to interpret the kernels, for tests)"
    if not torch.cuda.is_available():
        assert scan.usable_backends("cuda")["triton"] == "needs a CUDA device: PyTorch finds none"


@pytest.mark.process
@needs_triton
@not_interpreted
def test_auto_never_chooses_the_interpreter(root):
    code = """
from lifter import scan
print(scan.usable_backends("cpu")["triton"], scan.describe("triton"), scan.resolve_backend("auto", "cpu"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split()[:3] == ["None", "triton", "(interpreted)"], done.stderr
    assert done.stdout.split()[3] in ("cpu", "torch")


@not_interpreted
def test_a_sample_too_long_for_its_offsets_is_refused():
    inputs = {name: x.to("meta") for name, x in selective_inputs(1, 2, 1, 4, 2).items()}
    inputs["u"] = inputs["delta"] = torch.empty(1, 2, 2**30, device="meta")
    inputs["B"] = inputs["C"] = torch.empty(1, 1, 4, 2**30, device="meta")
    with pytest.raises(ValueError, match=r"less than 2\^31 numbers, got 1073741824 tokens of 8"):
        selective(triton_scan.selective_scan, inputs)


@pytest.mark.parametrize("cut", [{"chunk": 6, "tile": 4}, {"chunk": 6, "tile": 3}], ids=str)
def test_a_cut_that_does_not_fit_is_refused(cut):
    with pytest.raises(ValueError, match="a chunk must be a multiple of a power of two, got 6 tokens by"):
        Cut(**cut)


# ---------------------------------------------------------------------------------------------- mamba_ssm


ASK_MAMBA = "import sys, torch; from lifter import scan; print(scan.usable_backends(sys.argv[1])['mamba_ssm'])"


def reason_with(package: dict[str, str], device: str, folder: Path, root: Path) -> str:
    """Return what the probe says of a package of these files, in a process of its own."""
    for name, text in package.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", ASK_MAMBA, device], cwd=root, env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="mamba_ssm is installed")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_absent_mamba_ssm_comes_with_the_command_to_install_it(device):
    reason = scan.usable_backends(device)["mamba_ssm"]
    assert reason.startswith("mamba_ssm is not installed: pip install mamba-ssm --no-build-isolation")
    with pytest.raises(RuntimeError, match=r"scan backend 'mamba_ssm' cannot run on .*pip install"):
        scan.resolve_backend("mamba_ssm", device)


@pytest.mark.process
@not_interpreted
def test_a_broken_mamba_ssm_is_told_from_an_absent_one(tmp_path, root):
    package = {
        "mamba_ssm/__init__.py": "",
        "mamba_ssm/ops/__init__.py": "",
        "mamba_ssm/ops/selective_scan_interface.py": "import selective_scan_cuda",
        "selective_scan_cuda.py": "raise ImportError('undefined symbol: _ZN3c105ErrorC2')",
    }
    reason = reason_with(package, "cuda", tmp_path, root)
    assert "installed but cannot be imported (ImportError: undefined symbol: _ZN3c105ErrorC2)" in reason
    assert reason_with(package, "cpu", tmp_path, root) == "needs a CUDA device, not cpu"


@pytest.mark.process
@not_interpreted
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_whole_mamba_ssm_needs_a_gpu(tmp_path, root):
    package = {
        "mamba_ssm/__init__.py": "",
        "mamba_ssm/ops/__init__.py": "",
        "mamba_ssm/ops/selective_scan_interface.py": "def selective_scan_fn(*arguments, **names): ...",
    }
    assert reason_with(package, "cuda", tmp_path, root) == "needs a CUDA device: PyTorch finds none"


@not_interpreted
def test_mamba_ssm_holds_256_states_at_most():
    with pytest.raises(ValueError, match="at most 256 states, got 257; use backend='torch'"):
        selective(mamba_ssm.selective_scan, selective_inputs(1, 1, 1, 257, 1))


# ---------------------------------------------------------------------------------------------- on a GPU only


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


@gpu_only
@pytest.mark.parametrize(("grid", "cut"), CUDA_GRIDS, ids=str)
def test_networks_own_sizes_agree_with_the_definition(grid, cut):
    order = scan.grid_orders(*grid[1:3]).cuda()
    function = partial(triton_scan.cross_scan, cut=cut)
    definition = partial(
        reference.cross_scan, scan=torch_loop.selective_scan
    )  # in float64 as exact, and 10 times faster
    assert_agrees(
        there(lambda x: cross(function, x, order)), there(lambda x: cross(definition, x, order)), cross_inputs(*grid)
    )


@gpu_only
def test_mamba_ssm_agrees_with_the_definition():
    if reason := scan.usable_backends("cuda")["mamba_ssm"]:
        pytest.skip(reason)
    inputs = selective_inputs(2, 20, 2, 16, 243)
    function = mamba_ssm.selective_scan
    assert_agrees(there(lambda x: selective(function, x)), lambda x: selective(reference.selective_scan, x), inputs)


@gpu_only
def test_the_order_of_sums_is_fixed():
    order = scan.grid_orders(81, 17).cuda()
    inputs = cross_inputs(2, 81, 17, 128, 4, 16, 2)
    call = there(lambda x: cross(triton_scan.cross_scan, x, order))
    (value, gradients), (again, gradients_again) = (with_gradients(call, inputs, torch.float32) for _ in range(2))
    assert torch.equal(value, again)
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)


@gpu_only
def test_a_sample_does_not_depend_on_a_batch_of_64():
    order = scan.grid_orders(243, 17).cuda()
    inputs = {name: x.cuda() for name, x in cross_inputs(64, 243, 17, 256, 8, 16, 2).items()}  # y of all walks: 1 GB
    together = cross(triton_scan.cross_scan, inputs, order)
    alone = {k: v[63:] if k.startswith(("source", "projection")) else v for k, v in inputs.items()}
    assert error(together[63:], cross(triton_scan.cross_scan, alone, order).double()) < 1e-5  # cut in another way


@gpu_only
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


@gpu_only
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


@gpu_only
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


@gpu_only
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
