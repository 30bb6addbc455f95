"""Where the packages come from and what importing them costs."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import app
import checkpoints
import detectors
import lifter

HEAVY = ("torch", "gradio", "cv2", "mediapipe", "matplotlib")
PACKAGES = ("app", "checkpoints", "detectors", "lifter")


@pytest.mark.parametrize("package", [app, checkpoints, detectors, lifter], ids=lambda package: package.__name__)
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


def imports_of(file: Path, root: Path) -> set[str]:
    """Return the modules of ours that a file imports when it is imported itself."""
    tree, targets = ast.parse(file.read_text(encoding="utf-8")), set()
    for node in (n for statement in tree.body for n in at_import(statement)):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        else:
            targets |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in targets if name.split(".")[0] in PACKAGES and as_file(name, root)} - {
        as_module(file, root)
    }


def at_import(statement: ast.stmt) -> list[ast.Import | ast.ImportFrom]:
    """Return imports of a statement that run with its module: not those of functions or for type checkers."""
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
        return []
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    return [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom)]


def as_file(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    files = [path.with_suffix(".py"), path / "__init__.py"]
    return next((file for file in files if file.is_file()), None)


def as_module(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_packages_import_only_what_lies_below_them(root):
    allowed = {
        "app": {"app", "checkpoints", "detectors", "lifter"}, "checkpoints": {"checkpoints"},
        "detectors": {"checkpoints", "detectors"}, "lifter": {"checkpoints", "lifter"},
    }  # fmt: skip
    for package, below in allowed.items():
        for file in (root / package).rglob("*.py"):
            everywhere = [n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
            targets = {node.module for node in everywhere if node.module.split(".")[0] in PACKAGES}
            wrong = {name for name in targets if name.split(".")[0] not in below}
            if package == "detectors":
                wrong -= {"lifter.skeletons"}
            assert not wrong, f"{file.relative_to(root)} imports {wrong}"


def test_no_module_is_imported_in_a_circle(root):
    files = [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    graph = {as_module(file, root): imports_of(file, root) for file in files}
    # a package's __init__ runs before its modules; that they are in it makes no circle of its own
    graph = {name: {other for other in others if not name.startswith(f"{other}.")} for name, others in graph.items()}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_folder_is_flat(root):
    for package in PACKAGES:
        for folder in (root / package, *(path for path in (root / package).rglob("*") if path.is_dir())):
            modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
            assert len(modules) <= 12, f"{folder.relative_to(root)} has {len(modules)} modules"
