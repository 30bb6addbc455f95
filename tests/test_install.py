"""Installing with and without a C++ compiler, in a copy of the source tree."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", "app", "checkpoints", "detectors",
           "lifter")  # fmt: skip

# Run in the copy. Small enough for the loop: a golden network on five frames against the compiled or looped scan.
CHECK_BACKENDS = """
import json, sys
from pathlib import Path
import lifter
from lifter import scan
print(json.dumps({
    "imported_from": str(Path(lifter.__file__).parent),
    "usable": scan.usable_backends("cpu"),
    "auto": scan.resolve_backend("auto", "cpu"),
    "kernel": scan.cpu.best_kernel(),
}))
"""

CHECK_GOLDEN = """
import importlib.util, sys
import numpy as np, torch
from lifter import scan
from lifter.models.posemamba import SMALL, PoseMamba
golden, recipe_file = sys.argv[1:]
spec = importlib.util.spec_from_file_location("recipe", recipe_file)
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)
with np.load(golden) as npz:
    expected = {key: npz[key] for key in npz.files}
model = PoseMamba(SMALL).eval()
model.load_state_dict(recipe.fill(model.state_dict(), int(expected["seed"])))
with torch.inference_mode():
    output = model(torch.from_numpy(expected["input"][:1])).numpy()
print(float(np.abs(output - expected["output"][:1]).max()))
"""

# setup.py with only the kernel that every machine can run.
BUILD_PORTABLE = """
import sys
from distutils.core import run_setup
distribution = run_setup("setup.py", ["-q", "build_ext", "--inplace"], stop_after="commandline")
distribution.ext_modules = [e for e in distribution.ext_modules if e.name.endswith("_kernel_portable")]
distribution.run_commands()
"""


@pytest.fixture
def tree(root, tmp_path) -> Path:
    """The sources as a fresh checkout has them: nothing compiled."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    left_out = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "downloaded", "*.safetensors")
    for name in SOURCES:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=left_out)
        elif source.exists():
            shutil.copy(source, copy / name)
    return copy


def python(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python in the tree, which must win over every installed copy."""
    variables = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=variables, capture_output=True, text=True, timeout=250
    )


def answer(tree: Path, *arguments: str) -> str:
    done = python(tree, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def backends(tree: Path) -> dict:
    found = json.loads(answer(tree, "-c", CHECK_BACKENDS))
    assert Path(found["imported_from"]) == tree / "lifter"
    return found


def golden_error(tree: Path, root: Path) -> float:
    folder = root / "tests" / "golden"
    return float(answer(tree, "-c", CHECK_GOLDEN, str(folder / "posemamba_s_seed0_t81.npz"), str(folder / "recipe.py")))


def test_installing_without_a_compiler_leaves_a_slower_program_that_works(tree, root):
    missing = str(tree / "no-such-compiler")
    built = python(tree, "setup.py", "build_ext", "--inplace", CC=missing, CXX=missing)
    assert built.returncode == 0, built.stderr
    assert not [*tree.rglob("*.so"), *tree.rglob("*.pyd")]
    found = backends(tree)
    assert found["usable"]["cpu"].startswith("no compiled portable kernel: install with a C++ compiler at hand")
    assert found["usable"]["torch"] is None
    assert found["auto"] == "torch"
    assert found["kernel"] is None
    assert golden_error(tree, root) < 1e-4  # as in test_posemamba.py


def test_asking_for_the_compiled_scan_without_it_says_what_to_do(tree):
    done = python(tree, "-c", "from lifter import scan; scan.resolve_backend('cpu', 'cpu')")
    assert done.returncode != 0
    assert "RuntimeError: scan backend 'cpu' cannot run on cpu: no compiled portable kernel" in done.stderr
    assert "use backend='auto'" in done.stderr


def test_installing_with_a_compiler_builds_the_portable_kernel(tree, root):
    if not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("no g++ on this machine")
    built = python(tree, "-c", BUILD_PORTABLE)
    assert built.returncode == 0, built.stderr
    assert [p.name.split(".")[0] for p in tree.rglob("*.so")].count("_kernel_portable") >= 1
    found = backends(tree)
    assert found["usable"]["cpu"] is None
    assert (found["auto"], found["kernel"]) == ("cpu", "portable")
    assert golden_error(tree, root) < 1e-4  # as in test_posemamba.py


def test_the_kernel_source_is_part_of_the_package(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    packages = text.partition("packages = [")[2].partition("]")[0]
    for init in sorted((root / "lifter").rglob("__init__.py")):
        assert f'"{".".join(init.parent.relative_to(root).parts)}"' in packages
    assert '"lifter.scan" = ["*.cpp", "*.h"]' in text
