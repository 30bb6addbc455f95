"""Where the packages come from and what importing them costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import app
import detectors
import lifter

HEAVY = ("torch", "gradio", "cv2", "mediapipe", "matplotlib")


@pytest.mark.parametrize("package", [app, detectors, lifter], ids=lambda package: package.__name__)
def test_packages_come_from_this_checkout(package, root):
    assert Path(package.__file__).resolve() == root / package.__name__ / "__init__.py"


def imported_by(statement: str, root: Path) -> set[str]:
    """Return which of the heavy packages a fresh interpreter has loaded after ``statement``."""
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["app", "lifter", "lifter.skeletons", "lifter.windows", "lifter.metrics", "detectors", "checkpoints"]
)
def test_light_modules_import_nothing_heavy(module, root):
    assert not imported_by(f"import {module}", root)


def test_the_registry_needs_no_torch(root):
    assert not imported_by("from lifter import LIFTERS; assert 'posemamba-s' in LIFTERS; list(LIFTERS.values())", root)


def test_the_command_line_imports_no_torch(root):
    # what is imported decides how fast --help is; counting modules does not depend on the machine's load
    assert not imported_by("import app.cli.main", root)


def test_loading_a_lifter_imports_no_compiler(root):
    # shapes are compared before memory is taken; done carelessly that imports torch._dynamo, which takes longer than
    # all the rest of the start
    code = """
import sys, torch
from lifter import LIFTERS, create_model
from lifter.load import build_for
for name, spec in LIFTERS.items():
    with torch.device("meta"):
        create_model(name)
build_for(create_model("posemamba-s").state_dict())
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["lifter", "detectors", "checkpoints"])
def test_inner_packages_import_neither_the_app_nor_each_other(package, root):
    others = {"lifter", "detectors", "app"} - {package}
    for file in (root / package).rglob("*.py"):
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
        targets = {words[1].split(".")[0] for words in lines if len(words) > 1 and words[0] in ("import", "from")}
        assert not targets & others, f"{file.relative_to(root)} imports {targets & others}"
