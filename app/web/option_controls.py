"""Settings of visitors, built from the fields of ``Options``: form of the page, arguments of the API, and back."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from app.options import Options
from app.settings import PRIVATE, SettingField, settings_of


def web_settings(options: type = Options) -> dict[str, SettingField]:
    """Return the settings that visitors may choose, by name."""
    return {name: field for name, field in settings_of(options).items() if field.about.web != PRIVATE}


def form(web: str, options: type = Options) -> str:
    """Return the fields of an HTML form for the settings whose ``Setting.web`` is this: PAGE or PAGE_ADVANCED."""
    return "".join(_row(field) for field in web_settings(options).values() if field.about.web == web)


def schema(options: type = Options) -> dict[str, Any]:
    """Return the JSON schema of the settings by name, as part of a form that programs send."""
    return {name: _schema(field) for name, field in web_settings(options).items()}


def _schema(field: SettingField) -> dict[str, Any]:
    about, default = field.about, list(field.default) if field.is_tuple else field.default
    types = {bool: "boolean", int: "integer", float: "number"}
    content: dict[str, Any] = {"type": "array" if field.is_tuple else types.get(field.type, "string")}
    if field.is_tuple:
        content["items"] = {"type": "string", "enum": list(about.allowed)}
        content["default"] = list(about.allowed)
    elif about.allowed:
        content["enum"] = list(about.allowed)
    if about.limits is not None:
        content |= {"minimum": about.limits[0], "maximum": about.limits[1]}
    return {"description": about.full_help, "default": default, **content}


def _row(field: SettingField) -> str:
    about, name = field.about, escape(field.name)
    label, hint = escape(about.label or field.name), escape(about.hint)
    return f'<label class="option"><span>{label}</span>{_input(field, name)}<small>{hint}</small></label>'


def _input(field: SettingField, name: str) -> str:
    about, usual = field.about, _text(field.default)
    offered = about.words or {value: str(value) for value in (about.offers() if about.offers else about.allowed)}
    if field.type is bool:
        offered = {False: "no", True: "yes"}
    if offered:
        items = "".join(
            f'<option value="{escape(_text(value))}"{" selected" * (_text(value) == usual)}>{escape(word)}</option>'
            for value, word in offered.items()
        )
        return f'<select name="{name}">{items}</select>'
    if field.type in (int, float):
        low, high = about.limits or ("", "")
        step = 1 if field.type is int else "any"
        return f'<input type="number" name="{name}" min="{low}" max="{high}" step="{step}" value="{usual}">'
    return f'<input name="{name}" value="{escape(usual)}">'


def _text(value: Any) -> str:
    """Return a value as the form sends it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def api_controls(gr: Any, options: type = Options) -> dict[str, Any]:
    """Return an invisible Gradio component for every setting: they are what its clients see as arguments."""
    return {name: _api_control(gr, field) for name, field in web_settings(options).items()}


def _api_control(gr: Any, field: SettingField) -> Any:
    usual = {"label": field.about.full_help, "visible": False}
    if field.is_tuple:
        chosen = [name for name in field.about.allowed if name not in field.about.always]
        return gr.CheckboxGroup(chosen, value=chosen, **usual)  # everything: files are cheap here
    if field.type is bool:
        return gr.Checkbox(value=field.default, **usual)
    if field.type in (int, float):
        return gr.Number(value=field.default or 0, step=1 if field.type is int else 0.01, **usual)
    return gr.Textbox(value=field.default or "", **usual)


def everything(options: type = Options) -> dict[str, Any]:
    """Return the settings that visitors of the page and of ``/jobs`` have unless they choose: files of every kind."""
    return {name: field.about.allowed for name, field in web_settings(options).items() if field.is_tuple}


def options_of(values: Mapping[str, Any], options: type = Options) -> Any:
    """Return ``options`` with these values of controls, by name; 0 or "" is none where a setting can be None.

    Values of a form are text.

    Raises:
        ValueError: As ``Options``, or there is no such setting, or a text is no number.
    """
    fields = web_settings(options)
    if unknown := [name for name in values if name not in fields]:
        raise ValueError(f"there is no setting {unknown[0]!r}; settings are {', '.join(fields)}")
    return options(**{name: _value(fields[name], value) for name, value in values.items()})


def _value(field: SettingField, value: Any) -> Any:
    if field.is_tuple:
        items = value.split(",") if isinstance(value, str) else value
        return (*field.about.always, *(item for item in items if item and item not in field.about.always))
    if field.default is None and value in (None, "", 0, "0"):
        return None
    if value in (None, "") and field.type is not str:  # an emptied field
        return field.default
    if not isinstance(value, str):
        return int(value) if field.type is int else value
    if field.type is bool:
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{field.flag} must be true or false, got {value!r}")
        return value.lower() == "true"
    try:
        return field.type(value)
    except ValueError as error:
        raise ValueError(f"{field.flag} must be a number, got {value!r}") from error
