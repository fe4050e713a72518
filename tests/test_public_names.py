"""The public names: each is there when asked for, and editors see the same ones."""

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import diffsal

SOURCE = ast.parse(Path(diffsal.__file__).read_text())


def seen_by_editors() -> dict[str, str]:
    """Name → module that it is imported from, under ``if TYPE_CHECKING``."""
    block = next(n for n in SOURCE.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    return {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}


@pytest.mark.parametrize("name", diffsal.__all__)
def test_a_public_name_is_what_editors_see(name):
    home = seen_by_editors()[name]
    try:
        expected = importlib.import_module(f"{home}.{name}")  # a module as a whole: diffsal.metrics
    except ModuleNotFoundError:
        expected = getattr(importlib.import_module(home), name)
    assert getattr(diffsal, name) is expected


def test_no_name_is_left_out():
    assert set(diffsal.__all__) == set(seen_by_editors()) == set(diffsal._HOMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = diffsal.nothing


def test_examples_in_docstrings_are_true():
    run = 0
    for module in pkgutil.walk_packages(diffsal.__path__, "diffsal."):
        if not module.name.endswith("__main__"):
            result = doctest.testmod(importlib.import_module(module.name))
            assert result.failed == 0, module.name
            run += result.attempted
    assert run > 0


def test_types_are_for_others_too():
    assert (Path(diffsal.__file__).parent / "py.typed").exists()
