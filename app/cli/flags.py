"""Command-line flags out of options classes, for every command in the same way."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import typer

from app.settings import SettingField, settings_of

ADVANCED = "Advanced"


def with_options(
    command: Callable[..., Any],
    options: type,
    only: Sequence[str] = (),
    defaults: dict[str, Any] | None = None,
    presets: dict[str, dict[str, Any]] | None = None,
) -> Callable[..., Any]:
    """Return ``command`` with one flag for every field of ``options`` in place of its parameter ``options``.

    Args:
        command: A function with a parameter ``options``; its other parameters are annotated as typer wants them.
        options: Dataclass whose fields are made by ``app.settings.setting``.
        only: Fields that become flags; empty for all. The others keep their defaults.
        defaults: Defaults of this command in place of those of the fields.
        presets: Values of fields by the name that ``--for`` takes; flags that are given win over them.
    """
    fields = {name: field for name, field in settings_of(options).items() if not only or name in only}

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        values = {name: _to_value(field, given.pop(name)) for name, field in fields.items()}
        if presets:
            context, preset = given.pop("context"), given.pop("preset")
            for name, value in presets[preset].items() if preset else ():
                if name not in fields or context.get_parameter_source(name).name == "DEFAULT":
                    values[name] = value
        try:
            chosen = options(**values)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return command(**given, options=chosen)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name == "options":
            parameters += _preset_parameters(presets) if presets else []
            parameters += [_flag(field, (defaults or {}).get(name, field.default)) for name, field in fields.items()]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _preset_parameters(presets: dict[str, dict[str, Any]]) -> list[inspect.Parameter]:
    """Return the flag ``--for``, and typer's context, which knows the flags that were given."""
    help_text = "What the files are for: chooses formats, smoothing and feet. Flags that are given win."
    choice: Any = Literal[tuple(presets)]
    flag = Annotated[choice | None, typer.Option("--for", help=help_text)]
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("context", kind, annotation=typer.Context),
        inspect.Parameter("preset", kind, default=None, annotation=flag),
    ]


def _flag(field: SettingField, default: Any) -> inspect.Parameter:
    """Return the parameter that typer makes a flag of."""
    about = field.about
    is_text = field.is_tuple and bool(about.allowed)  # "json,npz"; tuples of anything are flags that repeat
    name = f"--{field.flag}/--no-{field.flag}" if field.type is bool else f"--{field.flag}"
    option = typer.Option(
        name,
        help=about.full_help,
        envvar=about.envvar,
        metavar=about.metavar or ("NAME" if about.has_many_choices else None),
        rich_help_panel=ADVANCED if about.is_advanced else None,
    )
    kind: Any = field.type
    if field.is_tuple:
        kind = str if is_text else list[str]
    elif about.allowed:
        kind = Literal[about.allowed]
    value = ",".join(default) if is_text else list(default) if field.is_tuple else default
    annotation = Annotated[kind | None if default is None else kind, option]  # type: ignore[valid-type]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=annotation)


def _to_value(field: SettingField, given: Any) -> Any:
    """Return the value of the field for what the command line gave."""
    if not field.is_tuple:
        return given
    return tuple(part.strip() for part in given.split(",")) if isinstance(given, str) else tuple(given)
