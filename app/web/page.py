"""The web app's page over ``app.web.service``: layout and messages only, no model runs here."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from app.options import ServerOptions
from app.pose_schema import read_pose_json
from app.web import html
from app.web.api import USER_ERRORS, add_endpoints, in_order, said
from app.web.job import CANCELLED, DONE, FAILED
from app.web.option_controls import controls, options_of
from app.web.service import Service

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "walk_wave.mp4"
SERVED_S = 3600  # files that a page may still load are kept this long
MAX_VISITORS = 200  # who wait or watch at the same time
FONTS = ["system-ui", "sans-serif"]  # nothing to be loaded
STYLE = """
.gradio-container { width: 100%; max-width: 1280px !important; margin: auto }
.pm-head h1 { font-size: 1.6rem; margin: .2rem 0 }
.pm-head p, .pm-hint { color: var(--body-text-color-subdued) }
.pm-progress { display: grid; gap: .35rem; padding: .8rem 0 }
.pm-progress progress { width: 100%; height: .5rem; accent-color: var(--color-accent) }
.pm-progress progress::-webkit-progress-bar { background: var(--border-color-primary); border-radius: 4px }
.pm-progress progress::-webkit-progress-value { background: var(--color-accent); border-radius: 4px }
.pm-progress progress:indeterminate { opacity: .4 }
.pm-notice { border-left: 4px solid #d9480f; padding: .7rem 1rem; background: var(--background-fill-secondary) }
.pm-report table { width: 100%; border-collapse: collapse; margin-bottom: .6rem }
.pm-report th, .pm-report td { text-align: left; padding: .3rem .5rem; border: 0 !important }
.pm-report tbody tr { border-top: 1px solid var(--border-color-primary) !important }
.pm-report ul { margin: .3rem 0 .3rem 1.2rem; list-style: disc }
#video video { max-height: 300px }
.pm-viewer { height: 700px }
#downloads [aria-label="Remove this file"], [aria-label="Trim video to selection"] { display: none }
@media (max-width: 640px) { .pm-viewer { height: 560px } .pm-report { overflow-x: auto } }
"""


def build_ui(service: Service) -> Any:
    """Return the page as ``gradio.Blocks``."""
    import gradio as gr

    with gr.Blocks(title="posemamba: video to 3D motion", delete_cache=(600, SERVED_S)) as page:
        gr.HTML(
            '<div class="pm-head"><h1>Video to 3D human motion</h1><p>Drop a video of people. You get them as moving '
            "3D skeletons, and the numbers to take home.</p></div>"
        )
        job = gr.State(None)
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
                    on_page = {name: control for name, control in settings.items() if control.visible}
                news = gr.HTML(
                    html.hint("Works best with whole bodies in the picture and a camera that stands still."),
                    elem_id="news",
                )
        with gr.Row(visible=False) as results:
            with gr.Column(min_width=320):
                overlay = gr.Video(label="Overlay", interactive=False, elem_id="overlay")
                report = gr.HTML(label="Report", elem_id="report")
                files = gr.File(label="Downloads", file_count="multiple", interactive=False, elem_id="downloads")
            with gr.Column(min_width=320):
                viewer = gr.HTML(elem_classes="pm-viewer", elem_id="viewer")

        def run(path: str | None, *chosen: Any) -> Iterator[dict[Any, Any]]:
            if path is None:
                yield {news: html.notice("there is no video yet; drop one, record one or take the sample")}
                return
            yield {news: html.hint("Looking at the file ..."), results: gr.Row(visible=False),
                   start: gr.Button(interactive=False)}  # fmt: skip
            idle = {start: gr.Button(interactive=True), cancel: gr.Button(visible=False)}
            job_id = None
            try:
                job_id = service.submit(path, options_of(dict(zip(on_page, chosen, strict=True))))
                yield {job: job_id, cancel: gr.Button(visible=True)}
                for status in service.watch(job_id):
                    yield {news: html.progress(status)}
                    if status.state == FAILED:
                        yield {**idle, news: html.notice(status.error)}
                    elif status.state == CANCELLED:
                        yield idle
                    elif status.state == DONE:
                        shown = _result(service, job_id, status.record or {})
                        yield {**idle, news: "", results: gr.Row(visible=True), overlay: shown["overlay"],
                               viewer: shown["viewer"], report: shown["report"], files: shown["files"]}  # fmt: skip
            except USER_ERRORS as error:
                yield {**idle, news: html.notice(said(error))}
            finally:  # who closes the page does not wait any more
                _cancel(service, job_id)

        start.click(
            run, [video, *on_page.values()], [job, news, results, overlay, viewer, report, files, start, cancel],
            concurrency_limit=None, show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        cancel.click(lambda job_id: _cancel(service, job_id), job, None, queue=False, api_visibility="private")
        sample.click(lambda: str(SAMPLE), None, video, queue=False, api_visibility="private")
        add_endpoints(gr, service, settings)
    return page


def _result(service: Service, job_id: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a job that is done."""
    from app.viewer import embedded

    files = service.files(job_id)
    document = read_pose_json(files["pose.json"])
    return {
        "overlay": str(files["overlay.mp4"]) if "overlay.mp4" in files else None,
        "viewer": embedded() if document["people"] else "",
        "report": html.report(document, record),
        "files": in_order(files),
    }


def _cancel(service: Service, job_id: str | None) -> None:
    if job_id is not None:
        try:
            service.cancel(job_id)
        except KeyError:  # it ended and was deleted meanwhile
            return


def launch(settings: ServerOptions, host: str, port: int | None, auth: str | None, is_open: bool) -> None:
    """Serve the page until Ctrl-C.

    Args:
        settings: Of the service.
        host: Address to listen on; 127.0.0.1 is this machine only.
        port: None takes the first free one from 7860.
        auth: "name:password", or None for everybody.
        is_open: Whether to open a browser.

    Raises:
        ValueError: ``auth`` is not NAME:PASSWORD.
        OSError: The port is taken, or there is no room for temporary files.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops a container also ends jobs and folders
    with ExitStack() as stack:
        served = stack.enter_context(tempfile.TemporaryDirectory(prefix="posemamba-web-"))
        os.environ["GRADIO_TEMP_DIR"] = served
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
        import gradio as gr  # before the worker starts, so that it has all cores: people wait for the page first

        service = stack.enter_context(Service(settings))
        from app.viewer import host_script

        link = (
            f"<script>{host_script()}\nlinkViewer('#viewer iframe', '#overlay video'); "
            "fillViewer('#viewer iframe', '#downloads a[href$=\"viewer.html\"]');</script>"
        )
        build_ui(service).queue(max_size=MAX_VISITORS, default_concurrency_limit=None).launch(
            server_name=host, server_port=port, auth=_pair(auth), inbrowser=is_open, show_error=True, share=False,
            max_threads=MAX_VISITORS, max_file_size=settings.limits.max_bytes, ssr_mode=False, quiet=True,
            allowed_paths=[str(SAMPLE)], theme=gr.themes.Soft(font=FONTS), css=STYLE, head=link, footer_links=["api"],
        )  # fmt: skip


def _pair(auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    name, colon, password = auth.partition(":")
    if not (name and colon and password):
        raise ValueError("auth must be NAME:PASSWORD, with both; got something else")
    return name, password
