"""Adds the Markdown files outside ``docs/`` to the site, with the files they link to; links are kept working.

The same files read well in the repository: README becomes the home page, the notebook a page with its outputs.
"""

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
HOME, NOTEBOOK = "index.md", "quickstart"
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "checkpoints/README.md", "assets/README.md")
LINKED = (
    "LICENSE", "NOTICE", "CITATION.cff", "pyproject.toml", "app/pipeline.py", "app/export/pose.schema.json",
    "assets/overlay.webp", "assets/web_app.jpg",
)  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of ``docs/`` and those beside it that belong to the site."""
    added = {name: ROOT / name for name in (*PAGES, *LINKED)} | {HOME: ROOT / "README.md"}
    for name, path in added.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    pages = notebook_as_markdown(json.loads((ROOT / "docs" / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8")))
    files.append(File.generated(config, f"{NOTEBOOK}.md", content=pages))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return a page whose links fit the site, where ``docs/`` is the root; without badges."""
    name = page.file.src_uri
    markdown = markdown.replace(f"{NOTEBOOK}.ipynb)", f"{NOTEBOOK}.md)")
    if name in (HOME, *PAGES):
        markdown = re.sub(r"^\[!\[.*\n", "", markdown, flags=re.MULTILINE)
        return re.sub(r"\]\(((?:\.\./)?)docs/", r"](\1", markdown)
    return markdown.replace("](../", "](")


def notebook_as_markdown(notebook: dict) -> str:
    """Return the cells of a notebook and their outputs as Markdown."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![Output](data:image/png;base64,{''.join(data['image/png']).strip()})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)
