"""The scan of the ``mamba_ssm`` package: what is said where it is absent or broken, and its numbers where it runs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lifter import scan
from lifter.scan import mamba_ssm
from tests.lifter.scan.cases import assert_agrees, cross, cross_inputs

ASK = "import sys, torch; from lifter import scan; print(scan.usable_backends(sys.argv[1])['mamba_ssm'])"
WHOLE = {
    "mamba_ssm/__init__.py": "",
    "mamba_ssm/ops/__init__.py": "",
    "mamba_ssm/ops/selective_scan_interface.py": "def selective_scan_fn(*arguments): ...",
}


def reason_with(package: dict[str, str], device: str, folder: Path, root: Path) -> str:
    """Return what the probe says of a package of these files, in a process of its own."""
    for name, text in package.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", ASK, device], cwd=root, env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is not None, reason="mamba_ssm is installed")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_absent_package_comes_with_the_command_to_install_it(device):
    reason = scan.usable_backends(device)["mamba_ssm"]
    assert reason.startswith("mamba_ssm is not installed: pip install mamba-ssm --no-build-isolation")
    with pytest.raises(RuntimeError, match=r"scan backend 'mamba_ssm' cannot run on .*pip install"):
        scan.resolve_backend("mamba_ssm", device)


@pytest.mark.process
def test_a_broken_package_is_told_from_an_absent_one(tmp_path, root):
    broken = {
        **WHOLE,
        "mamba_ssm/ops/selective_scan_interface.py": "import selective_scan_cuda",
        "selective_scan_cuda.py": "raise ImportError('undefined symbol: _ZN3c105ErrorC2')",
    }
    reason = reason_with(broken, "cuda", tmp_path, root)
    assert "installed but cannot be imported (ImportError: undefined symbol: _ZN3c105ErrorC2)" in reason


@pytest.mark.process
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_whole_package_needs_a_gpu(tmp_path, root):
    assert reason_with(WHOLE, "cuda", tmp_path, root) == "needs a CUDA device: PyTorch finds none"


def test_it_holds_256_states_at_most():
    with pytest.raises(ValueError, match="at most 256 states, got 257; use backend='torch'"):
        cross(mamba_ssm.cross_scan, cross_inputs(1, 1, 1, 4, 1, 257, 1), scan.grid_orders(1, 1))


@pytest.mark.requires_cuda
def test_it_agrees_with_the_definition():
    if reason := scan.usable_backends("cuda")["mamba_ssm"]:
        pytest.skip(reason)
    order = scan.grid_orders(27, 9)

    def there(inputs):
        return cross(mamba_ssm.cross_scan, {name: x.cuda() for name, x in inputs.items()}, order.cuda()).cpu()

    assert_agrees(there, cross_inputs(2, 27, 9, 20, 2, 16, 2), order)
