"""The API for Gradio's clients: ``/estimate`` (video and settings to summary and files) and ``/models``.

``app.web.routes`` has the one for everybody else.
"""

from __future__ import annotations

from contextlib import suppress
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from app.options import Options
from app.web.job import DONE
from app.web.option_controls import api_controls, options_of
from app.web.service import Service
from checkpoints import downloads
from detectors import DETECTORS, meanings
from lifter import LIFTERS, usable_lifters

DOWNLOADS = ("json", "npz", "csv", "bvh", "glb", "trc", "html", "mp4", "zip")  # suffixes in this order, then others
USER_ERRORS = (ValueError, RuntimeError, KeyError)  # the service raises them with a sentence for the user
ABOUT = """Analyze a video. Returns (summary, files).

summary is the clip's line of batch.jsonl: status (str), frames (int), fps (float), people (int), seconds (float),
stage_seconds, quality (a list, one entry per person) and warnings. files are paths: pose.json first, then the other
formats, overlay.mp4, and a ZIP of all. Errors are sentences that say what to do."""


def build_api(service: Service, uploads: Path, options: type = Options) -> Any:
    """Return Gradio's side of the app, ``gr.Blocks`` with both endpoints and nothing to see.

    Args:
        service: Takes the jobs.
        uploads: The folder whose files may be analyzed; every upload lies in a folder of its own there.
        options: Its fields are the arguments.
    """
    import gradio as gr

    with gr.Blocks(title="posemamba: API for Gradio's clients", analytics_enabled=False, delete_cache=(60, 600)) as api:
        _add_endpoints(gr, service, uploads, options)
    return api


def _add_endpoints(gr: Any, service: Service, uploads: Path, options: type) -> None:
    settings = api_controls(gr, options)

    def estimate(path: str | None, *chosen: Any) -> tuple[dict[str, Any], list[str]]:
        if path is None or not (upload := Path(path).resolve()).is_relative_to(uploads.resolve()):
            raise gr.Error("there is no video; pass path=handle_file('clip.mp4')", print_exception=False)
        try:
            try:
                job_id = service.submit(upload, options_of(dict(zip(settings, chosen, strict=True)), options))
            finally:
                _delete(upload)
            *_, last = service.queue.watch(job_id)
            if last.state != DONE:
                raise gr.Error(last.error or "the job was cancelled", print_exception=False)
            return last.record or {}, ordered_files(service.queue.files(job_id))
        except USER_ERRORS as error:
            raise gr.Error(error_text(error), print_exception=False) from error

    # Gradio names the arguments of the API after the parameters.
    estimate.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("path", *settings)]
    )

    def models() -> dict[str, dict[str, str]]:
        usable, names = usable_lifters(), [*LIFTERS, *(e.name for e in downloads().values() if e.lifter)]
        return {
            "detectors": {name: spec.state() for name, spec in DETECTORS.items()},
            "qualities": meanings(),
            "lifters": {name: "usable" if name in usable else "no weights here" for name in names},
        }

    video = gr.File(visible=False, label="video", type="filepath")
    summary = gr.JSON(visible=False, label="summary")
    files = gr.File(visible=False, label="files", file_count="multiple")
    gr.Button(visible=False).click(
        estimate, [video, *settings.values()], [summary, files], api_name="estimate", api_description=ABOUT,
        concurrency_limit=None,
    )  # fmt: skip
    gr.api(models, api_name="models", api_description="What can be chosen, and what it lacks.", queue=False)


def _delete(upload: Path) -> None:
    """Delete an upload and the folder that it has for itself."""
    with suppress(OSError):
        upload.unlink()
        upload.parent.rmdir()


def ordered_files(files: dict[str, Path]) -> list[str]:
    """Return the paths of a job's results, the numbers first."""

    def order(name: str) -> tuple[int, str]:
        suffix = name.rpartition(".")[2]
        is_extra = suffix not in DOWNLOADS or name in ("pose.coco.json", "movement.json")
        return len(DOWNLOADS) if is_extra else DOWNLOADS.index(suffix), name

    return [str(files[name]) for name in sorted(files, key=order)]


def error_text(error: Exception) -> str:
    """Return the sentence of an error; ``str`` would put a KeyError's in quotes."""
    return str(error.args[0] if error.args else error)
