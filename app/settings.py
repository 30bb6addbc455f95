"""Settings as dataclass fields that describe themselves; command line, page and API are built from the descriptions."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any

PAGE, PAGE_ADVANCED, API, PRIVATE = "page", "page, under Advanced", "api", "private"
MANY = 3  # choices


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The description of one field.

    Attributes:
        help: One sentence for the command line, without range and choices.
        flag: Name on the command line, without dashes; "" is the name of the field.
        limits: Least and largest value.
        unit: Unit of the value.
        choices: Allowed values; of a tuple, allowed items; or what returns them, for registries. Empty for any.
        check: Raises ValueError for a value that is not allowed, where limits and choices do not say it.
        is_advanced: Whether the help lists it under "Advanced".
        envvar: Environment variable that sets it.
        metavar: Stands for the value in the help.
        web: PAGE or PAGE_ADVANCED (the page and the API have it), API (programs only) or PRIVATE (neither).
        label: Name on the page.
        hint: One sentence for the page.
        offers: Returns what the page lists, where that is less than ``choices`` or any value is allowed.
        words: What the page calls values; it lists these and no others.
        always: Items of a tuple that the page and the API add to what is chosen.
    """

    help: str
    flag: str = ""
    limits: tuple[float, float] | None = None
    unit: str = ""
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    check: Callable[[Any], object] | None = None
    is_advanced: bool = False
    envvar: str | None = None
    metavar: str | None = None
    web: str = PRIVATE
    label: str = ""
    hint: str = ""
    offers: Callable[[], Sequence[str]] | None = None
    words: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    always: tuple[str, ...] = ()

    @property
    def allowed(self) -> tuple[str, ...]:
        """The choices as they are now."""
        return self.choices() if callable(self.choices) else self.choices

    @property
    def full_help(self) -> str:
        """The help with the range, or with choices that are too many for a column."""
        if self.limits is not None:
            low, high = self.limits
            return f"{self.help.rstrip('.')}; {low:g} to {high:g} {self.unit}".rstrip() + "."
        return f"{self.help.rstrip('.')}: {', '.join(self.allowed)}." if self.has_many_choices else self.help

    @property
    def has_many_choices(self) -> bool:
        """Whether the help lists the choices in its sentence."""
        return len(self.allowed) > MANY


def setting(default: Any, help: str, **about: Any) -> Any:
    """Return a dataclass field with this default that carries ``Setting(help=help, **about)``."""
    return dataclasses.field(default=default, metadata={"setting": Setting(help=help, **about)})


def same_as(options: type, name: str) -> Any:
    """Return a dataclass field with the default and the description of a field of another options class."""
    field = options.__dataclass_fields__[name]  # type: ignore[attr-defined]
    return dataclasses.field(default=field.default, metadata=field.metadata)


@dataclass(frozen=True)
class SettingField:
    """A field of an options class: its name, type (without None), default and description."""

    name: str
    type: Any
    default: Any
    about: Setting

    @property
    def flag(self) -> str:
        """The name on the command line, without dashes."""
        return self.about.flag or self.name.replace("_", "-")

    @property
    def is_tuple(self) -> bool:
        """Whether it holds several values."""
        return typing.get_origin(self.type) is tuple

    def check(self, value: Any) -> None:
        """Raise ValueError, with the name of the flag, if ``value`` is not allowed; None is if it is the default."""
        if value is None and self.default is None:
            return
        about = self.about
        items = value if self.is_tuple else (value,)
        if (allowed := about.allowed) and (unknown := [item for item in items if item not in allowed]):
            raise ValueError(f"unknown {self.flag} {unknown[0]!r}; choose from {', '.join(allowed)}")
        if about.limits is not None and not about.limits[0] <= value <= about.limits[1]:  # also refuses NaN
            low, high = about.limits
            raise ValueError(f"{self.flag} must lie between {low:g} and {high:g} {about.unit}, got {value}")
        if about.check is not None:
            about.check(value)


@functools.cache
def settings_of(options: Any) -> dict[str, SettingField]:
    """Return the fields of an options class that carry a ``Setting``, by name."""
    types = typing.get_type_hints(options)
    return {
        field.name: SettingField(field.name, _without_none(types[field.name]), field.default, field.metadata["setting"])
        for field in dataclasses.fields(options)
        if "setting" in field.metadata
    }


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        (annotation,) = (each for each in typing.get_args(annotation) if each is not type(None))
    return annotation


def check_settings(options: object) -> None:
    """Raise ValueError for the first value of ``options`` that its field does not allow."""
    cls: Any = type(options)
    for name, field in settings_of(cls).items():
        field.check(getattr(options, name))
