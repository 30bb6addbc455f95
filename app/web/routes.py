"""The web app: the page, ``/jobs`` for pages and programs, and Gradio's API at the same address."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import gradio as gr
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from app import __version__
from app.options import person_ids
from app.settings import PAGE, PAGE_ADVANCED
from app.viewer import host_script
from app.web.api import USER_ERRORS, build_api, error_text
from app.web.job_folders import safe_name, too_large
from app.web.job_view import JobView, plain, public_files, sentence, view
from app.web.option_controls import everything, form, options_of, schema
from app.web.service import Service

ASSETS = Path(__file__).resolve().parents[2] / "assets"
STATIC = Path(__file__).parent
EXAMPLES = {  # by name: the moving picture of the result, its size, and what is seen
    "walk_wave": ("overlay.webp", 800, 384, "A man walks in, waves, turns round and leaves"),
    "two_people": ("two_people.webp", 480, 190, "Two people cross, one hidden by the other for a moment"),
}
MAX_FIELDS = 64
FORM_BYTES = 1 << 16  # of a request beside the file
ABOUT = """Send a video to `POST /jobs`, ask `GET /jobs/ID` until `status` is final, take the files, delete the job.

Errors have a sentence in `detail` that says what to do."""


def build_app(service: Service, uploads: Path, login: str | None = None) -> FastAPI:
    """Return the whole app.

    Args:
        service: Takes the jobs.
        uploads: Folder for what Gradio's clients upload; each file is deleted when its job has a copy.
        login: "name:password" that visitors need (HTTP Basic); None for everybody.
    """
    app = FastAPI(
        title="posemamba", version=__version__, description=ABOUT, docs_url=None, redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    _add_page(app, service)
    _add_jobs(app, service)
    _add_results(app, service)
    _add_gradio(app, service, uploads)
    if login is not None:
        app.add_middleware(_Login, login=login)
    return app


def _add_page(app: FastAPI, service: Service) -> None:
    files = {name: (STATIC / name).read_text(encoding="utf-8") for name in ("page.html", "page.js", "style.css")}
    limits, keep_s = service.settings.limits, service.settings.keep_s
    words = {
        "minutes": f"{limits.max_duration_s / 60:g}", "megabytes": f"{limits.max_bytes / 1e6:g}",
        "fps": f"{limits.max_fps:g}", "keep": f"{keep_s / 60:g}", "version": __version__,
        "basic": form(PAGE), "advanced": form(PAGE_ADVANCED), "max_bytes": limits.max_bytes,
        "max_s": f"{limits.max_duration_s:g}",
        "examples": "".join(
            f'<button type="button" class="example" data-example="{name}"><img src="assets/{picture}" alt="" '
            f'width="{width}" height="{height}"><span>{escape(about)}</span></button>'
            for name, (picture, width, height, about) in EXAMPLES.items()
        ),
    }  # fmt: skip

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> HTMLResponse:
        base = escape(str(request.base_url))
        return HTMLResponse(
            Template(files["page.html"]).substitute(words, base=base), headers={"Cache-Control": "no-cache"}
        )

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name == "viewer_host.js":
            return Response(host_script(), media_type="text/javascript")
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type="text/css" if name.endswith("css") else "text/javascript")

    @app.get("/assets/{name}", include_in_schema=False)
    def asset(name: str) -> FileResponse:
        if name not in {"web_app.jpg", *(picture for picture, *_ in EXAMPLES.values())}:
            raise HTTPException(404)
        return FileResponse(ASSETS / name)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the server is ready (the networks are loaded), what it runs on, and how many jobs wait and run."""
        return {"status": "ready" if service.about else "starting", "version": __version__, **service.about,
                **service.queue.counts}  # fmt: skip


def _add_jobs(app: FastAPI, service: Service) -> None:
    properties = {"video": {"type": "string", "format": "binary", "description": "The video file."}, **schema()}
    body = {"content": {"multipart/form-data": {"schema": {"type": "object", "properties": properties}}}}

    def shown(job_id: str) -> JobView:
        return view(service.queue.job(job_id), service.queue.status(job_id))

    @app.post("/jobs", status_code=201, openapi_extra={"requestBody": body})
    async def create_job(request: Request) -> JobView:
        """Send a video as the field `video` of a form; other fields are settings.

        Instead of a video, `example` is the name of one of the samples. Answers when the file has been checked: 400 if
        it is refused, 413 if it is too large, 503 if too many jobs wait.
        """
        with sentences():
            values, upload = await read_form(request, service.settings.limits.max_bytes)
            try:
                return shown(await run_in_threadpool(_start, service, values, upload))
            finally:
                if upload is not None:
                    await upload.close()

    @app.get("/jobs/{job_id}")
    def read_job(job_id: str) -> JobView:
        """How far a job is, and its results when it is done."""
        with sentences():
            return shown(job_id)

    @app.delete("/jobs/{job_id}", status_code=204)
    def delete_job(job_id: str) -> None:
        """Cancel a job; delete its video and everything made of it, at once."""
        with sentences():
            service.delete(job_id)

    @app.post("/jobs/{job_id}/people/{ids}", status_code=201)
    def choose_people(job_id: str, ids: str) -> JobView:
        """Start a job with the results of this one for some of its people, such as `0,2`; no network runs."""
        with sentences():
            person_ids(ids)
            return shown(service.choose_people(job_id, ids))


def _start(service: Service, values: dict[str, Any], upload: UploadFile | None) -> str:
    """Return the id of the job that a form asks for."""
    if upload is not None:
        return service.submit(upload.file, options_of({**everything(), **values}), upload.filename or "")
    example = values.get("example")
    if example is None:
        raise ValueError("there is no video: send it as the field 'video', curl -F video=@clip.mp4")
    if example not in EXAMPLES:
        raise ValueError(f"there is no example {example!r}; examples are {', '.join(EXAMPLES)}")
    return service.example(ASSETS / f"{example}.mp4", options_of(everything()))


def _add_results(app: FastAPI, service: Service) -> None:
    def served(paths: dict[str, Path], name: str) -> FileResponse:
        path = paths.get(name)
        if path is None or not path.is_file():
            raise HTTPException(404, f"There is no file {name!r} in this job; files are {', '.join(paths) or 'none'}.")
        headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, filename=name, headers=headers)  # as an attachment: it never runs as a page of ours

    @app.get("/jobs/{job_id}/files/{name}", response_class=FileResponse)
    def read_file(job_id: str, name: str) -> FileResponse:
        """One file of a result, by its name in `files`."""
        with sentences():
            return served(public_files(service.queue.job(job_id)), name)

    @app.get("/jobs/{job_id}/people/{name}", response_class=FileResponse)
    def read_picture(job_id: str, name: str) -> FileResponse:
        """The picture of a person, `ID.jpg`."""
        with sentences():
            job = service.queue.job(job_id)
            ids = [each["id"] for each in (job.record or {}).get("tracks", [])]
            return served({f"{each}.jpg": job.pictures / f"{each}.jpg" for each in ids}, name)


def _add_gradio(app: FastAPI, service: Service, uploads: Path) -> None:
    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request) -> list[str]:
        """Store an upload in a folder of its own: Gradio gives equal files one place, and none could be deleted."""
        with sentences():
            _, file = await read_form(request, service.settings.limits.max_bytes, "files")
            if file is None:
                raise ValueError("there is no file")
            place = uploads / secrets.token_urlsafe(24) / safe_name(file.filename or "")
            await run_in_threadpool(_store, file, place)
            return [str(place)]

    gr.set_static_paths([service.folder])  # results are served from where they are, and gone when they are deleted
    api = build_api(service, uploads)
    api.queue(default_concurrency_limit=None)
    limit = service.settings.limits.max_bytes
    gr.mount_gradio_app(app, api, path="", show_error=True, ssr_mode=False, footer_links=["api"], max_file_size=limit)
    api.has_launched = True  # else Gradio takes any file of this machine for an upload


def _store(file: UploadFile, place: Path) -> None:
    place.parent.mkdir(mode=0o700, parents=True)
    with place.open("xb") as target:
        while block := file.file.read(1 << 20):
            target.write(block)


async def read_form(request: Request, max_bytes: int, name: str = "video") -> tuple[dict[str, Any], UploadFile | None]:
    """Return the text fields of a form and its file; nothing larger than the limit is taken in."""
    received = 0

    async def receive() -> Any:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_bytes + FORM_BYTES:
            raise HTTPException(413, sentence(too_large("the upload", received, max_bytes)))
        return message

    announced = int(request.headers.get("content-length", "0") or 0)
    if announced > max_bytes + FORM_BYTES:
        raise HTTPException(413, sentence(too_large("the upload", announced, max_bytes)))
    try:
        fields = await Request(request.scope, receive).form(max_files=1, max_fields=MAX_FIELDS)
    except MultiPartException as error:
        raise ValueError(f"this is no form that can be read: {error.message}") from error
    upload = fields.get(name)
    texts = {key: value for key, value in fields.items() if isinstance(value, str) and key != name}
    return texts, upload if isinstance(upload, UploadFile) and upload.filename else None


@contextmanager
def sentences() -> Iterator[None]:
    """Turn errors with a sentence for the user into answers."""
    try:
        yield
    except USER_ERRORS as error:
        code = 404 if isinstance(error, KeyError) else 400 if isinstance(error, ValueError) else 503
        raise HTTPException(code, sentence(plain(error_text(error)))) from error


class _Login:
    """Lets in who knows name and password (HTTP Basic); for all routes but /health, Gradio's too."""

    def __init__(self, app: Callable[..., Awaitable[None]], login: str) -> None:
        self._app = app
        self._expected = b"Basic " + base64.b64encode(login.encode())

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        given = dict(scope.get("headers", [])).get(b"authorization", b"")
        is_open = scope["type"] == "lifespan" or scope["path"] == "/health"
        if not is_open and not secrets.compare_digest(given, self._expected):
            refusal = Response(
                "Name and password, please.", 401, {"WWW-Authenticate": 'Basic realm="posemamba", charset="UTF-8"'}
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
