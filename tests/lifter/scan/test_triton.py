"""The Triton kernels against the definition, in Triton's interpreter and on a GPU.

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

import pytest
import torch

from lifter import scan
from lifter.models.layers.bimamba import both_ways
from lifter.models.posemamba import PoseMamba, PoseMambaConfig
from lifter.scan import reference, triton_scan
from lifter.scan.fused_ops import grid_conv
from lifter.scan.triton_scan import Cut
from tests.lifter.scan.cases import (
    assert_agrees,
    cross,
    cross_inputs,
    error,
    with_gradients,
    with_steps,
    without_memory,
)

IS_INTERPRETED = triton_scan.is_interpreted()
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
not_interpreted = pytest.mark.skipif(IS_INTERPRETED, reason="not for the interpreter")

# An interpreted token takes some 10 ms per walk, so sequences are short and chunks shorter: what counts is on which
# side of a border of tiles, chunks, spans and blocks of channels a length lies.
SMALL_CUT = Cut(chunk=4, tile=4, span_chunks=1)
GRIDS = [  # batch, frames, joints, inner width, rank, states, sources; how it is cut
    ((1, 2, 3, 8, 4, 16, 2), Cut()),
    ((2, 2, 3, 8, 8, 4, 2), SMALL_CUT),
    ((1, 3, 3, 36, 3, 7, 1), Cut(chunk=4, tile=4, span_chunks=2)),  # two blocks of channels
    ((1, 2, 2, 4, 1, 16, 4), Cut(chunk=2, tile=2, span_chunks=1)),
]
WALKS = [  # batch, tokens, inner width, states of a single walk; how it is cut
    ((1, 1, 5, 3), Cut()),
    ((1, 7, 4, 16), Cut(chunk=8, tile=4, span_chunks=1)),
    ((1, 8, 4, 16), Cut(chunk=8, tile=2, span_chunks=1)),
    ((2, 9, 6, 5), SMALL_CUT),
    ((1, 70, 4, 2), SMALL_CUT),  # 18 spans: more than the second pass takes at once
    ((1, 66, 4, 16), Cut()),
]


def numerical(test):
    """Mark a test that runs wherever DEVICE is, given Triton."""
    return needs_triton(test if IS_INTERPRETED else pytest.mark.requires_cuda(test))


def there(call):
    """Return ``call`` with inputs and output on the CPU and the work on DEVICE."""
    return lambda inputs: call({name: x.to(DEVICE) for name, x in inputs.items()}).to("cpu")


# ---------------------------------------------------------------------------------------------- both places


def scanned(order, cut=SMALL_CUT):
    """Return the scan along ``order`` on DEVICE, as a function of inputs."""
    return there(lambda x: cross(partial(triton_scan.cross_scan, cut=cut), x, order.to(DEVICE)))


@numerical
@pytest.mark.parametrize(("grid", "cut"), GRIDS, ids=str)
def test_cross_scan_agrees_with_the_definition(grid, cut):
    order = scan.grid_orders(*grid[1:3])
    assert_agrees(scanned(order, cut), cross_inputs(*grid), order)


@numerical
@pytest.mark.parametrize(("walk", "cut"), WALKS, ids=str)
def test_a_single_walk_agrees_with_the_definition(walk, cut):
    batch, tokens, width, states = walk
    inputs = cross_inputs(batch, 1, tokens, width, 1, states, 1, num_walks=1)
    order = torch.arange(tokens)[None]
    assert_agrees(scanned(order, cut), inputs, order)


@numerical
def test_a_scan_forth_and_back_agrees_with_the_definition():  # HGMamba's and MDTF's
    order = both_ways(9, "cpu")
    assert_agrees(scanned(order), cross_inputs(3, 1, 9, 8, 4, 4, 2, num_walks=2), order)


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
@pytest.mark.parametrize("steps", [(-100.0, -30.0), (-17.0, -5.0), (15.0, 25.0)], ids=str)
def test_softplus_far_from_zero(steps):
    # tiny steps keep their digits, huge negative ones give neither NaN nor infinity, above 20 it is the identity
    inputs = with_steps(cross_inputs(1, 1, 8, 4, 1, 4, 1, num_walks=1), torch.linspace(*steps, 8))
    inputs["A"] = inputs["A"] / 50
    order = torch.arange(8)[None]
    assert_agrees(scanned(order, Cut(chunk=8, tile=8)), inputs, order)


@numerical
def test_a_state_that_decays_to_nothing_in_one_step():
    inputs = cross_inputs(1, 1, 9, 4, 1, 4, 1, num_walks=1)
    inputs["dt_bias"] = torch.full((1, 4), 3000.0)
    value, gradients = with_gradients(scanned(torch.arange(9)[None]), inputs, torch.float32)
    assert error(value, without_memory(inputs)) < 1e-5  # as TOLERANCE of cases.py
    assert all(torch.isfinite(g).all() for g in gradients.values())


@numerical
def test_cross_scan_follows_any_order_of_strided_inputs():
    inputs = cross_inputs(1, 2, 4, 4, 2, 4, 2)
    order = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(k)) for k in range(4)])
    strided = {name: x.transpose(0, -1).contiguous().transpose(0, -1) for name, x in inputs.items()}
    value = scanned(order.T.contiguous().T)(strided)
    assert error(value, cross(reference.cross_scan, {k: v.double() for k, v in inputs.items()}, order)) < 1e-5


@numerical
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_types_are_scanned_in_float32(dtype):
    inputs = {name: x.to(dtype) for name, x in cross_inputs(1, 2, 3, 4, 1, 4, 2).items()}
    order = scan.grid_orders(2, 3)
    value, gradients = with_gradients(scanned(order, Cut()), inputs, dtype)
    expected, _ = with_gradients(lambda x: cross(reference.cross_scan, x, order), inputs, torch.float64)
    assert value.dtype == dtype
    assert {g.dtype for g in gradients.values()} == {dtype}
    assert error(value, expected) < max(1e-5, torch.finfo(dtype).eps)  # one rounding of the result


@numerical
def test_the_output_is_float32_under_autocast():
    inputs = {name: x.bfloat16() for name, x in cross_inputs(1, 1, 2, 4, 1, 4, 2).items()}
    with torch.autocast(DEVICE, torch.bfloat16):
        assert scanned(scan.grid_orders(1, 2))(inputs).dtype == torch.float32


@numerical
@pytest.mark.parametrize(("batch", "frames"), [(0, 3), (2, 0)])
def test_nothing_to_scan(batch, frames):
    value = scanned(scan.grid_orders(frames, 1))(cross_inputs(batch, frames, 1, 4, 1, 4, 2))
    assert value.shape == (batch, frames, 4)


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
    assert int(passed[1]) >= len(GRIDS) + len(WALKS) + 8


def compiled(name: str, capability: int, E: int, R: int):
    """Return kernel ``name`` compiled for a GPU that need not be there, as a network of these sizes launches it."""
    from triton import compile as compile_source
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lifter.scan import triton_kernels as kernels

    kernel = getattr(kernels, name)
    shape = triton_scan._Shape(4, 2, E, 16, R, 1, 4131)
    split = triton_scan.BACKWARD_SPLIT if name == "backward" else triton_scan.FORWARD_SPLIT
    constants = {
        "s": triton_scan._Plan(shape, Cut(), True).sizes(split), "keeps": True, "is_split": True, "is_reverse": False,
        "rows": triton_scan.SPAN_ROWS, "lanes": triton_scan.SPAN_LANES,
    }  # fmt: skip
    constants = {argument: constants[argument] for argument in kernel.arg_names if argument in constants}
    walks = kernels.Walks(("*fp32",) * 2, ("*fp32",) * 2, "*i64", *["*fp32"] * 4)
    types = {"w": walks, "L": "i32", "span_length": "i32", "num_spans": "i32", **dict.fromkeys(constants, "constexpr")}
    signature = {argument: types.get(argument, "*fp32") for argument in kernel.arg_names}
    paths = [(i,) for i, argument in enumerate(signature) if signature[argument] == "*fp32"]
    if "w" in signature:
        paths += [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6)]
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
    inputs = {name: x.to("meta") for name, x in cross_inputs(1, 1, 2, 2, 1, 4, 1, num_walks=1).items()}
    inputs["source0"] = torch.empty(1, 2**30, 2, device="meta")
    with pytest.raises(ValueError, match=r"less than 2\^31 numbers, got 1073741824 tokens of 9"):
        cross(triton_scan.cross_scan, inputs, None)


@pytest.mark.parametrize("cut", [{"chunk": 6, "tile": 4}, {"chunk": 6, "tile": 3}], ids=str)
def test_a_cut_that_does_not_fit_is_refused(cut):
    with pytest.raises(ValueError, match="a chunk must be a multiple of a power of two, got 6 tokens by"):
        Cut(**cut)
