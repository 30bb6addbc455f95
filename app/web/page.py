"""The page of the web app: its components, and what a job shows in them; no model runs here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.pose_schema import read_pose_json
from app.viewer import embedded, host_script
from app.web import html
from app.web.api import USER_ERRORS, add_endpoints, error_text, ordered_files
from app.web.job import CANCELLED, DONE, FAILED
from app.web.option_controls import controls, options_of
from app.web.service import Service

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "walk_wave.mp4"
STYLE = Path(__file__).with_name("style.css")
SERVED_S = 3600  # files that a page may still load are kept this long
FONTS = ["system-ui", "sans-serif"]  # nothing is loaded from elsewhere
INTRODUCTION = (
    '<div class="pm-head"><h1>Video to 3D human motion</h1><p>Drop a video of people. You get them as moving '
    "3D skeletons, and the numbers to take home.</p></div>"
)


@dataclass(frozen=True)
class Components:
    """The components of the page that events read or change."""

    job: gr.State  # id of the job
    video: gr.Video
    start: gr.Button
    cancel: gr.Button
    sample: gr.Button
    settings: dict[str, Any]  # all that the API takes, by name
    status: gr.HTML
    results: gr.Row
    overlay: gr.Video
    report: gr.HTML
    files: gr.File
    viewer: gr.HTML

    @property
    def on_page(self) -> dict[str, Any]:
        """The settings that visitors of the page see."""
        return {name: control for name, control in self.settings.items() if control.visible}


def build_page(service: Service) -> gr.Blocks:
    """Return the page, with the API's endpoints."""
    with gr.Blocks(title="posemamba: video to 3D motion", delete_cache=(600, SERVED_S)) as page:
        ui = _add_components()

        def run(path: str | None, *settings: Any) -> Iterator[dict[Any, Any]]:
            yield from run_job(service, ui, path, settings)  # Gradio asks whether this function is a generator

        ui.start.click(
            run, [ui.video, *ui.on_page.values()],
            [ui.job, ui.status, ui.results, ui.overlay, ui.viewer, ui.report, ui.files, ui.start, ui.cancel],
            concurrency_limit=None, show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        ui.cancel.click(lambda job_id: _cancel(service, job_id), ui.job, None, queue=False, api_visibility="private")
        ui.sample.click(lambda: str(SAMPLE), None, ui.video, queue=False, api_visibility="private")
        add_endpoints(gr, service, ui.settings)
    return page


def launch_settings() -> dict[str, Any]:
    """Return what the page needs of ``gr.Blocks.launch``: style, scripts and the sample clip."""
    script = (
        f"<script>{host_script()}\nlinkViewer('#viewer iframe', '#overlay video'); "
        "fillViewer('#viewer iframe', '#downloads a[href$=\"viewer.html\"]');</script>"
    )
    return {
        "allowed_paths": [str(SAMPLE)], "theme": gr.themes.Soft(font=FONTS), "css": STYLE.read_text(encoding="utf-8"),
        "head": script, "footer_links": ["api"],
    }  # fmt: skip


def run_job(service: Service, ui: Components, path: str | None, settings: tuple) -> Iterator[dict[Any, Any]]:
    """Analyze a video and yield what changes on the page until it is done; closing the page cancels the job."""
    if path is None:
        yield {ui.status: html.notice("there is no video yet; drop one, record one or take the sample")}
        return
    yield {
        ui.status: html.hint("Checking the file ..."),
        ui.results: gr.Row(visible=False),
        ui.start: gr.Button(interactive=False),
    }
    idle = {ui.start: gr.Button(interactive=True), ui.cancel: gr.Button(visible=False)}
    job_id = None
    try:
        job_id = service.submit(path, options_of(dict(zip(ui.on_page, settings, strict=True))))
        yield {ui.job: job_id, ui.cancel: gr.Button(visible=True)}
        for status in service.queue.watch(job_id):
            yield {ui.status: html.progress(status)}
            if status.state == FAILED:
                yield {**idle, ui.status: html.notice(status.error)}
            elif status.state == CANCELLED:
                yield idle
            elif status.state == DONE:
                yield {**idle, ui.status: "", **_results(ui, service.queue.files(job_id), status.record or {})}
    except USER_ERRORS as error:
        yield {**idle, ui.status: html.notice(error_text(error))}
    finally:
        _cancel(service, job_id)


def _add_components() -> Components:
    gr.HTML(INTRODUCTION)
    with gr.Row():
        with gr.Column(min_width=320):
            video = gr.Video(label="Your video", sources=["upload", "webcam"], include_audio=True, elem_id="video")
            with gr.Row():
                start = gr.Button("Make it 3D", variant="primary", elem_id="start")
                cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
                sample = gr.Button("Take the sample", elem_id="sample")
        with gr.Column(min_width=320):
            with gr.Accordion("Options", open=False):
                settings = controls(gr)
            hint = html.hint("Works best with whole bodies in the picture and a camera that stands still.")
            status = gr.HTML(hint, elem_id="status")
    with gr.Row(visible=False) as results:
        with gr.Column(min_width=320):
            overlay = gr.Video(label="Overlay", interactive=False, elem_id="overlay")
            report = gr.HTML(label="Report", elem_id="report")
            files = gr.File(label="Downloads", file_count="multiple", interactive=False, elem_id="downloads")
        with gr.Column(min_width=320):
            viewer = gr.HTML(elem_classes="pm-viewer", elem_id="viewer")
    return Components(
        gr.State(None), video, start, cancel, sample, settings, status, results, overlay, report, files, viewer
    )


def _results(ui: Components, files: dict[str, Path], record: dict[str, Any]) -> dict[Any, Any]:
    """Return what the page shows of a job that is done."""
    document = read_pose_json(files["pose.json"])
    return {
        ui.results: gr.Row(visible=True),
        ui.overlay: str(files["overlay.mp4"]) if "overlay.mp4" in files else None,
        ui.viewer: embedded() if document["people"] else "",
        ui.report: html.report(document, record),
        ui.files: ordered_files(files),
    }


def _cancel(service: Service, job_id: str | None) -> None:
    if job_id is not None:
        with suppress(KeyError):  # it has ended and was deleted
            service.queue.cancel(job_id)
