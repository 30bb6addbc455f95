"""README, the pages in docs/ and the notebook: links lead somewhere, code runs, cli.md is the help."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import typer
from PIL import Image

from app.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path for pattern in ("*.md", "docs/*.md", "checkpoints/*.md", "assets/*.md", "tests/fixtures/*.md")
    for path in ROOT.glob(pattern)
)  # fmt: skip
LINK = re.compile(r"\]\(([^)\s]+)\)")


def names_of(pages: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in pages]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Git hosts and MkDocs make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    kept = [re.sub(r"[^\w\s-]", "", unicodedata.normalize("NFKD", text)).strip().lower() for text in headings]
    return {re.sub(r"\s", "-", text) for text in kept}


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        if "://" in link or name.startswith("../../actions/"):  # the badge, on the host of the repository
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_pages_name_only_data_that_a_reader_can_get(page):
    assert "../shared" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_commands_of_make_exist(page, root):
    targets = set(re.findall(r"^([\w./-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    code = re.findall(r"```\n.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
    named = {name for text in code for name in re.findall(r"^`*\s*make ([\w./-]+)", text, re.M)}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_commands_have_the_flags_that_they_are_shown_with(page):
    text = re.sub(r" *\\\n *", " ", page.read_text(encoding="utf-8"))
    found = re.findall(r"^(?:\S+/)?posemamba( .+)", text, re.M) + re.findall(r"`posemamba( [^`]+)`", text)
    for line in found if page.name != "cli.md" else ():  # that one is made of the help
        words, command = shlex.split(line, comments=True), typer.main.get_command(cli)
        while words and words[0] in getattr(command, "commands", ()):
            command = command.commands[words.pop(0)]
        flags = {"--help"}.union(*([*option.opts, *option.secondary_opts] for option in command.params))
        assert {word for word in words if word.startswith("-")} <= flags, line
        assert not hasattr(command, "commands") or not words or words[0][0] in "-.", line


def test_readme_is_short_and_begins_with_a_moving_picture(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.encode()) <= 8000
    (name,) = re.findall(r"^!\[.+\]\((.+)\)$", text, re.M)
    assert text.index(name) < text.index("```")
    assert (root / name).stat().st_size < 3_000_000
    with Image.open(root / name) as picture:
        assert picture.n_frames > 50


def test_python_in_readme_prints_what_it_says(root, monkeypatch):
    monkeypatch.chdir(root)
    (program,) = re.findall(r"```python\n(.+?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in program.splitlines() if line]) <= 4
    (said,) = re.findall(r"# (\(.+?\))", program)
    assert run(program, {}).strip() == said


def test_notebook_runs_and_prints_what_it_shows(root, monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "assets").symlink_to(root / "assets")
    monkeypatch.chdir(tmp_path)  # what the notebook writes stays there
    names: dict = {}
    for cell in json.loads((root / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            shown = "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
            assert run("".join(cell["source"]), names) == shown


def run(code: str, names: dict) -> str:
    """Return what ``code`` prints; its names go to ``names``."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def test_the_page_of_the_command_line_is_its_help(root):
    command = [sys.executable, "-m", "typer", "app.cli.main", "utils", "docs", "--name", "posemamba", "--title"]
    made = subprocess.run([*command, "Command line"], cwd=root, capture_output=True, text=True, check=True)
    page = (root / "docs" / "cli.md").read_text(encoding="utf-8")
    assert made.stdout.strip() == page.strip(), "run: make docs/cli.md"
