"""Settings: frozen dataclasses that check their fields, whether a user typed the values or a file holds them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from diffsal.errors import InputError

WRONG = (TypeError, ValueError, LookupError, OverflowError)  # of a value that is not of its type
LONGEST_VALUE = 60  # characters of a value that an error repeats
S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Bounds:
    """The numbers that a field takes, as ``Annotated[float, Bounds(least=0, below=1)]``; of a tuple, each of them."""

    least: float = -math.inf
    over: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and self.over < value < self.below

    def __str__(self) -> str:
        words = {"at least": self.least, "above": self.over, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {bound:g}" for word, bound in words.items() if math.isfinite(bound))


class Settings:
    """The base of a frozen dataclass of settings. Every field is checked against its type when an object is made.

    Types: ``bool``, ``int``, ``float``, ``str``, ``Literal``, ``None``, unions, ``tuple[X, ...]``, ``tuple[X, Y]``,
    ``dict[str, X]``, other settings, and numbers with :class:`Bounds`. A list becomes a tuple, a whole number a
    float where a float is wanted; a bool is no number; NaN and infinity are refused. :meth:`check` is for what
    concerns several fields. Raises :class:`InputError`, one line that names the field.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, conform(name, hint, getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Raise :class:`InputError` where fields do not go together."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[S], values: Any) -> S:
        """The inverse of :meth:`to_dict`, for what a file holds. An unknown name gets the nearest right one."""
        if not isinstance(values, dict):
            raise InputError(f"settings are {_short(values)}, expected names with values")
        known = list(_hints(cls))
        for name in values:
            if name not in known:
                raise InputError(f"{_short(name)}: no such setting: {nearest(str(name), known)}")
        try:
            return cls(**values)
        except TypeError:  # a field without a default
            absent = [name for name in known if name not in values and not hasattr(cls, name)]
            raise InputError(f"{', '.join(absent)}: not given") from None


def require(condition: object, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


def change(owners: Sequence[Settings], settings: Iterable[str]) -> tuple[Any, ...]:
    """``owners`` with ``key=value`` settings applied, each to the one that has a field of that name.

    A value is read by its field's type: ``none`` is None, commas divide a tuple. Of a name that comes twice the last
    value counts. Raises :class:`InputError` for an unknown name, with the nearest right one, and for a wrong value.
    """
    hints = [_typed(type(owner)) for owner in owners]
    changes: list[dict[str, Any]] = [{} for _ in owners]
    for setting in settings:
        name, equals, text = setting.partition("=")
        require(equals, f"{_short(setting)}: expected key=value")
        owner = next((i for i, names in enumerate(hints) if name in names), None)
        if owner is None:
            raise InputError(f"{_short(name)}: no such setting: {nearest(name, [n for h in hints for n in h])}")
        changes[owner][name] = read(name, hints[owner][name], text)
    return tuple(replace(owner, **changed) for owner, changed in zip(owners, changes, strict=True))  # type: ignore


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that is most like ``name``, as a question; else all known names."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def conform(name: str, hint: Any, value: Any) -> Any:
    """``value`` as the type ``hint`` has it; :class:`InputError` with ``name`` where it is of another type."""
    try:
        return _conform(hint, value)
    except InputError:  # of settings within settings: it says more
        raise
    except WRONG:
        raise InputError(f"{name} is {_short(value)}, expected {_words(hint)}") from None


def read(name: str, hint: Any, text: str) -> Any:
    """What a user typed, as the type ``hint`` has it; :class:`InputError` as :func:`conform`."""
    try:
        return _conform(hint, _read(hint, text))
    except WRONG:
        raise InputError(f"{name}={_short(text)[1:-1]}: expected {_words(hint)}") from None


def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def _typed(cls: Any) -> dict[str, Any]:
    """The fields that a user can type: all but settings within settings."""
    return {name: hint for name, hint in _hints(cls).items() if not is_dataclass(hint)}


def _conform(hint: Any, value: Any) -> Any:
    """TypeError or ValueError where ``value`` is of another type."""
    arguments = get_args(hint)
    match _kind(hint):
        case "bounded":
            found = _conform(arguments[0], value)
            for number in found if isinstance(found, tuple) else (found,):
                _demand(number in arguments[1])
            return found
        case "union":
            return _first(arguments, lambda one: _conform(one, value))
        case "literal":
            return [a for a in arguments if type(a) is type(value) and a == value][0]  # noqa: RUF015
        case "tuple":
            _demand(isinstance(value, (list, tuple)))
            return tuple(_conform(k, v) for k, v in zip(_each(arguments, len(value)), value, strict=True))
        case "dict":
            _demand(isinstance(value, dict))
            return {_conform(str, k): _conform(arguments[1], v) for k, v in value.items()}
        case "settings":
            _demand(isinstance(value, (dict, hint)))
            return hint.from_dict(value) if isinstance(value, dict) else value
    _demand(isinstance(value, (int, float) if hint is float else hint) and (hint is bool or type(value) is not bool))
    value = float(value) if hint is float else value
    _demand(hint is not float or math.isfinite(value))
    return value


def _read(hint: Any, text: str) -> Any:
    """Text as :func:`_conform` takes it."""
    arguments = get_args(hint)
    items = [item.strip() for item in text.split(",")] if text.strip() else []
    match _kind(hint):
        case "bounded":
            return _read(arguments[0], text)
        case "union" if text.lower() == "none" and type(None) in arguments:
            return None
        case "union":
            return _first(arguments, lambda one: _conform(one, _read(one, text)))
        case "literal":
            return [a for a in arguments if str(a) == text][0]  # noqa: RUF015
        case "tuple":
            return tuple(_read(kind, item) for kind, item in zip(_each(arguments, len(items)), items, strict=True))
        case "dict":
            pairs = [item.partition("=") for item in items]
            return {_read(str, key): _read(arguments[1], value) for key, _, value in pairs}
    if hint is bool:
        return {"true": True, "false": False}[text.lower()]
    number = r"[+-]?\d{1,300}" if hint is int else r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
    if hint in (int, float):
        _demand(re.fullmatch(number, text, re.ASCII))
        return hint(text)
    _demand(text and text.isprintable())
    return text


def _first(hints: tuple[Any, ...], conform: Callable[[Any], Any]) -> Any:
    """Of a union's types, what the first that takes the value makes of it."""
    for hint in hints:
        with suppress(*WRONG):
            return conform(hint)
    raise TypeError


def _each(arguments: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """The types of a tuple's values; with ``...`` there are as many as ``count``."""
    return arguments[:1] * count if arguments[-1] is Ellipsis else arguments


def _kind(hint: Any) -> str:
    kinds: dict[Any, str] = {Annotated: "bounded", Union: "union", UnionType: "union", Literal: "literal",
                             tuple: "tuple", dict: "dict"}
    return "settings" if is_dataclass(hint) else kinds.get(get_origin(hint), "simple")


def _words(hint: Any, several: str = "") -> str:
    """A type in words, for an error."""
    arguments = get_args(hint)
    match _kind(hint):
        case "bounded":
            return f"{_words(arguments[0], several)} {arguments[1]}"
        case "union":
            return " or ".join(_words(one, several) for one in arguments)
        case "literal":
            return "one of " * (len(arguments) > 1) + ", ".join(map(str, arguments))
        case "tuple" if _kind(arguments[0]) == "tuple":
            return f"rows of {_words(get_args(arguments[0])[0], 's')}"
        case "tuple" if arguments[-1] is Ellipsis:
            return f"{_words(arguments[0], 's')} with commas between"
        case "tuple":
            return f"{len(arguments)} {_words(arguments[0], 's')}"
        case "dict":
            return f"name=value pairs, each value {_words(arguments[1])}"
    words = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text", type(None): "none"}
    one = words.get(hint, "settings")
    return one.removeprefix("a ") + several if several and one.startswith("a ") else one


def _demand(condition: object) -> None:
    if not condition:
        raise TypeError


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…{text[-1]}"
