"""One field is a whole setting: flag, range check, control of the page and argument of the API."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.cli.flags import ADVANCED, with_options
from app.cli.main import cli
from app.cli.run import run
from app.cli.train import NORMALIZATIONS, SCHEDULE_NAMES
from app.export import WRITERS
from app.options import BACKENDS, FORMATS, Options, ServerOptions, UploadLimits
from app.settings import PAGE, setting
from app.web.api import add_endpoints
from app.web.option_controls import controls, options_of
from lifter import normalize, scan
from lifter.training.schedules import SCHEDULES


@dataclass(frozen=True)
class MoreOptions(Options):
    sharpness: float = setting(0.5, "How sharp", limits=(0, 1), unit="points", web=PAGE, label="Sharpness")


def command_of(options: type, seen: list | None = None) -> typer.Typer:
    app = typer.Typer()

    def take(out: Path, options) -> None:
        seen.append(options)

    app.command()(with_options(run if seen is None else take, options))
    return app


def test_a_new_field_is_a_flag():
    text = CliRunner().invoke(command_of(MoreOptions), ["--help"], env={"COLUMNS": "200"}).output
    assert "--sharpness" in text
    assert "How sharp; 0 to 1 points." in text
    seen = []
    assert CliRunner().invoke(command_of(MoreOptions, seen), ["out", "--sharpness", "0.7"]).exit_code == 0
    assert seen == [MoreOptions(sharpness=0.7)]
    refused = CliRunner().invoke(command_of(MoreOptions, seen), ["out", "--sharpness", "7"])
    assert refused.exit_code == 2
    assert "sharpness must lie between 0 and 1 points, got 7.0" in refused.output


def test_a_new_field_is_a_control_and_an_argument():
    gr = pytest.importorskip("gradio", reason="needs the ui extra")
    with gr.Blocks() as page:
        settings = controls(gr, MoreOptions)
        add_endpoints(gr, None, settings, MoreOptions)
    assert (settings["sharpness"].label, settings["sharpness"].value) == ("Sharpness", 0.5)
    arguments = page.get_api_info()["named_endpoints"]["/estimate"]["parameters"]
    assert {"path", "sharpness"} <= {each["parameter_name"] for each in arguments}
    assert options_of({"sharpness": 0.2}, MoreOptions) == MoreOptions(sharpness=0.2)


def test_the_page_offers_what_it_did():
    gr = pytest.importorskip("gradio", reason="needs the ui extra")
    with gr.Blocks():
        made = controls(gr)
    assert [name for name, control in made.items() if control.visible] == [
        "quality", "detector", "lifter", "height", "fov_degrees", "has_rigid_bones", "smooth_hz", "rotate",
        "start", "stop", "slow_motion", "people", "formats",
    ]  # fmt: skip
    chosen = options_of({name: control.value for name, control in made.items()})
    assert set(chosen.formats) == set(FORMATS)
    assert all(getattr(chosen, f.name) == f.default for f in fields(Options) if f.name != "formats")


def test_defaults_of_run_are_those_of_options():
    seen = []
    CliRunner().invoke(command_of(Options, seen), ["out"])
    assert seen == [Options()]


def test_help_shows_a_dozen_flags_and_the_others_apart():
    (command,) = [each for each in cli.registered_commands if each.callback.__name__ == "run"]
    panels = [
        parameter.annotation.__metadata__[0].rich_help_panel
        for parameter in inspect.signature(command.callback).parameters.values()
        if parameter.annotation is not typer.Context
    ]
    assert panels.count(ADVANCED) == 13
    assert 12 <= panels.count(None) - 1 <= 18  # without INPUT


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"quality": "ultra"}, "unknown quality 'ultra'; choose from fast, balanced, best"),
        ({"backend": "abacus"}, "unknown backend 'abacus'"),
        ({"formats": ("json", "fbx")}, "unknown formats 'fbx'"),
        ({"up": "x"}, "unknown up 'x'"),
        ({"fov_degrees": float("nan")}, "fov must lie between 10 and 150 degrees, got nan"),
        ({"smooth_hz": 0}, "smooth must lie between 0.1 and 100 Hz, got 0"),
        ({"min_track_s": -1}, "min-track-seconds must lie between 0 and 3600 seconds, got -1"),
        ({"people": "tallest"}, "people must be all, largest, longest or ids"),
        ({"detector_weights": ("yolo26n",)}, "name it with --detector"),
    ],
)
def test_values_that_are_not_allowed_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Options(**settings)


def test_limits_of_a_server_are_checked():
    with pytest.raises(ValueError, match="workers must lie between 1 and 256 processes, got 0"):
        ServerOptions(num_workers=0)
    with pytest.raises(ValueError, match="max_fps must lie between"):
        UploadLimits(max_fps=0)


def test_choices_are_those_of_the_modules_that_import_torch():
    assert set(BACKENDS) == {"auto", *scan.BACKENDS}
    assert tuple(WRITERS) == FORMATS
    assert tuple(SCHEDULES) == SCHEDULE_NAMES
    assert tuple(normalize.NORMALIZATIONS) == NORMALIZATIONS
