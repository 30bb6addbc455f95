"""One field is a whole setting: flag, range check, control of the page and argument of the API."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from html.parser import HTMLParser
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
from app.settings import PAGE, PAGE_ADVANCED, setting
from app.web.api import build_api
from app.web.option_controls import everything, form, options_of, schema
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
    pytest.importorskip("gradio", reason="needs the ui extra")
    assert '<input type="number" name="sharpness" min="0" max="1" step="any" value="0.5">' in form(PAGE, MoreOptions)
    assert "Sharpness" in form(PAGE, MoreOptions)
    about = schema(MoreOptions)["sharpness"]
    assert about == {
        "description": "How sharp; 0 to 1 points.", "type": "number", "default": 0.5, "minimum": 0, "maximum": 1,
    }  # fmt: skip
    arguments = build_api(None, Path(), MoreOptions).get_api_info()["named_endpoints"]["/estimate"]["parameters"]
    assert {"path", "sharpness"} <= {each["parameter_name"] for each in arguments}
    assert options_of({"sharpness": 0.2}, MoreOptions) == options_of({"sharpness": "0.2"}, MoreOptions)
    assert options_of({"sharpness": 0.2}, MoreOptions) == MoreOptions(sharpness=0.2)
    for value, text in (("much", "sharpness must be a number, got 'much'"), ("2", "sharpness must lie between")):
        with pytest.raises(ValueError, match=text):
            options_of({"sharpness": value}, MoreOptions)


class Fields(HTMLParser):
    """Names and values of a form as a browser sends it untouched."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag, attributes) -> None:
        found = dict(attributes)
        if tag in ("input", "select"):
            self.name = found["name"]
            self.values[self.name] = found.get("value", "")
        if tag == "option" and "selected" in found:
            self.values[self.name] = found["value"]


def test_the_page_offers_what_it_should_and_an_untouched_form_is_the_defaults():
    basic, advanced = Fields(), Fields()
    basic.feed(form(PAGE))
    advanced.feed(form(PAGE_ADVANCED))
    assert list(basic.values) == ["quality", "height", "smooth_hz", "start", "stop", "people"]
    assert list(advanced.values) == ["detector", "lifter", "fov_degrees", "has_rigid_bones", "rotate", "slow_motion"]
    chosen = options_of({**everything(), **basic.values, **advanced.values})
    assert set(chosen.formats) == set(FORMATS)
    assert all(getattr(chosen, f.name) == f.default for f in fields(Options) if f.name != "formats")
    assert options_of({"smooth_hz": "6", "has_rigid_bones": "true", "formats": "csv,bvh"}) == Options(
        smooth_hz=6.0, has_rigid_bones=True, formats=("json", "viewer", "csv", "bvh")
    )


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
    assert panels.count(ADVANCED) == 17
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
