"""``posemamba ui``: the web app."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec

import typer

from app.options import Options, ServerOptions
from app.settings import same_as, setting

SERVER = ServerOptions()


@dataclass(frozen=True)
class UiOptions:
    """``ServerOptions`` in the units of the command line, and where the page is served."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0: reachable by others.", envvar="GRADIO_SERVER_NAME")
    port: int | None = setting(None, "Default: the first free one from 7860.", envvar="GRADIO_SERVER_PORT")
    auth: str | None = setting(None, "NAME:PASSWORD that visitors need.", envvar="POSEMAMBA_AUTH")
    workers: int | None = same_as(ServerOptions, "num_workers")
    keep_minutes: float = setting(SERVER.keep_s / 60, "Results are deleted after this time.")
    max_minutes: float = setting(SERVER.limits.max_duration_s / 60, "Longest video that is taken.")
    max_megabytes: int = setting(SERVER.limits.max_bytes // 10**6, "Largest file that is taken.")
    browser: bool = setting(False, "Open the page in a browser.")
    device: str = same_as(Options, "device")

    def __post_init__(self) -> None:
        self.server()

    def server(self) -> ServerOptions:
        """Return the settings of the service."""
        limits = replace(SERVER.limits, max_duration_s=60 * self.max_minutes, max_bytes=self.max_megabytes * 10**6)
        return replace(
            SERVER, limits=limits, device=self.device, num_workers=self.workers, keep_s=60 * self.keep_minutes
        )


def require_gradio() -> None:
    """Raise typer.BadParameter with what to install where the web app cannot run."""
    if find_spec("gradio") is None:
        raise typer.BadParameter("the web app needs the package gradio: in the checkout, pip install -e '.[ui]'")


def ui(options: UiOptions) -> None:
    """Open the web app: upload a video, watch it become 3D, take the numbers home (extra ui)."""
    require_gradio()
    from app.web.server_process import serve

    serve(options.server(), options.host, options.port, options.auth, options.browser)
