"""Settings on the page and in the API: controls built from the fields of ``Options``, and their values back to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.options import Options
from app.settings import PAGE, PRIVATE, SettingField, settings_of


def web_settings(options: type = Options) -> dict[str, SettingField]:
    """Return the settings that visitors may choose, by name."""
    return {name: field for name, field in settings_of(options).items() if field.about.web != PRIVATE}


def controls(gr: Any, options: type = Options) -> dict[str, Any]:
    """Return a Gradio component for every such setting, put where this is called; those of the API are invisible."""
    return {name: _control(gr, field) for name, field in web_settings(options).items()}


def _control(gr: Any, field: SettingField) -> Any:
    about, default = field.about, field.default
    usual = {"label": about.label or field.name, "info": about.hint or None, "visible": about.web == PAGE}
    offered = list(about.offers() if about.offers else about.allowed)
    if field.is_tuple:
        chosen = [name for name in offered if name not in about.always]
        return gr.CheckboxGroup(chosen, value=chosen, **usual)  # everything: files are cheap here
    if field.type is bool:
        return gr.Checkbox(value=default, **usual)
    if offered and not about.offers:
        return gr.Radio(offered, value=default, **usual)
    if offered:
        return gr.Dropdown(offered, value=default, allow_custom_value=about.is_open, **usual)
    if about.slider is not None:
        low, high, step = about.slider
        return gr.Slider(low, high, value=default or 0, step=step, **usual)
    if field.type in (int, float):
        return gr.Number(value=default or 0, step=1 if field.type is int else 0.01, **usual)
    return gr.Textbox(value=default or "", **usual)


def options_of(values: Mapping[str, Any], options: type = Options) -> Any:
    """Return ``options`` with these values of controls, by name; 0 or "" is none where a setting can be None.

    Raises:
        ValueError: As ``Options``.
    """
    fields = web_settings(options)
    return options(**{name: _value(fields[name], value) for name, value in values.items()})


def _value(field: SettingField, value: Any) -> Any:
    if field.is_tuple:
        return (*field.about.always, *value)
    if field.default is None:
        return value or None
    if value is None:  # an emptied field
        return field.default
    return int(value) if field.type is int else value
