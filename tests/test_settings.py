"""Settings check their types, from a file and from what a user types: an odd value is one clear line."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsal.errors import InputError
from diffsal.settings import Bounds, Settings, change, require

Positive = Annotated[float, Bounds(over=0)]
Share = Annotated[float, Bounds(least=0, most=1)]


@dataclass(frozen=True)
class Colours(Settings):
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: Annotated[tuple[float, float, float], Bounds(over=0)] = (0.2, 0.2, 0.2)
    cut: Literal["time", "frame"] = "time"


@dataclass(frozen=True)
class Network(Settings):
    encoder: Literal["mvit", "s3d"] = "mvit"
    audio: Literal["vggish", "yamnet"] | None = "vggish"
    stages: Annotated[int, Bounds(least=1, most=4)] = 4
    widths: tuple[int, int, int, int] = (8, 4, 2, 1)
    noise_widths: tuple[int, int, int] | None = None
    scale: Literal[1, 2, 4] = 2
    rate: Positive = 1.0
    prior: bool = False
    colours: Colours = field(default_factory=Colours)

    def check(self) -> None:
        require(self.widths[0] % 2 == 0, f"widths is {self.widths}: the first must be even")


@dataclass(frozen=True)
class Run(Settings):
    out: str = "here"
    seed: Annotated[int, Bounds(least=0)] = 0
    share: Share = 0.25
    sets: tuple[str, ...] = ("osie",)
    milestones: Annotated[tuple[float, ...], Bounds(over=0, below=1)] = (0.5,)
    weights: dict[str, Positive] = field(default_factory=dict)


@dataclass(frozen=True)
class Needed(Settings):
    name: str
    size: int
    depth: int = 1


BOTH = (Network(), Run())

# What a user may type, and a part of the line that answers
TYPED = {
    "noise_widths=8,4": "noise_widths=8,4: expected 3 whole numbers or none", "noise_widths=84": "expected 3 whole",
    "noise_widths=8,4,x": "expected 3", "noise_widths=8,4,2,1": "expected 3", "noise_widths=": "expected 3",
    "noise_widths=8,,4": "expected 3", "noise_widths=8,4,2.5": "expected 3", "noise_widths=(8,4,2)": "expected 3",
    "noise_widths=[8,4,2]": "expected 3", "widths=none": "expected 4 whole numbers", "widths=1,2,3": "expected 4",
    "widths=True,2,3,4": "expected 4", "widths=1,2,3,4": "the first must be even", "stages=0": "at least 1 and at",
    "stages=5": "at most 4", "stages=two": "a whole number", "stages=2.0": "a whole number", "stages=1e0": "whole",
    "stages=": "a whole number", "stages=true": "a whole number", "stages=none": "a whole", "stages=٣": "a whole",
    "stages=1_0": "a whole number", "stages= 2": "a whole number", "stages=" + "9" * 5000: "a whole number",
    "stages=nan": "a whole", "encoder=": "one of mvit, s3d", "encoder=none": "one of", "encoder=MVIT": "one of mvit",
    "encoder=mvit,s3d": "one of", "encoder='mvit'": "one of", "audio=nothing": "one of vggish, yamnet or none",
    "audio=": "one of", "scale=3": "one of 1, 2, 4", "scale=2.0": "one of", "scale=True": "one of", "rate=0": "above 0",
    "rate=-1": "above 0", "rate=nan": "a finite number", "rate=inf": "a finite number", "rate=-Infinity": "a finite",
    "rate=1e999": "a finite number", "rate=1,5": "a finite number", "rate=1e": "a finite", "rate=0x10": "a finite",
    "rate=": "a finite number", "rate=none": "a finite", "rate=true": "a finite", "prior=1": "true or false",
    "prior=yes": "true or false", "prior=": "true or false", "prior=none": "true or false", "prior=tru": "true or",
    "seed=-1": "at least 0", "seed=1.5": "a whole", "share=1.01": "at most 1", "share=-0.1": "at least 0",
    "milestones=0.5,1": "above 0 and below 1", "milestones=0": "above 0", "milestones=0.5,": "finite numbers",
    "milestones=a": "finite numbers", "sets=a,,b": "expected texts", "sets=a\x00b": "expected texts", "out=": "a text",
    "out=a\nb": "a text", "weights=osie": "name=value pairs", "weights=osie=": "pairs", "weights=osie=x": "pairs",
    "weights=osie=0": "above 0", "weights==1": "pairs", "weights=osie=nan": "pairs", "stagse=2": "did you mean stages?",
    "Seed=1": "did you mean seed?", "=2": "no such setting", "stages": "expected key=value", "": "expected key=value",
    "colours=1": "no such setting", "check=1": "no such setting", "__class__=1": "no such setting",
    "x" * 1000 + "=1": "no such setting",
}


@pytest.mark.parametrize("typed", TYPED)
def test_an_odd_setting_is_one_line(typed):
    with pytest.raises(InputError) as error:
        change(BOTH, [typed])
    told = str(error.value)
    assert TYPED[typed] in told and "\n" not in told and len(told) < 300


# What a file may hold for a network, and a part of the line that answers
HELD: list[tuple[Any, str]] = [
    ([], "expected names with values"), (None, "expected names"), ("{}", "expected names"), (1, "expected names"),
    ({"widths": "8421"}, "widths is '8421', expected 4 whole numbers"), ({"widths": [8, 4, 2]}, "expected 4"),
    ({"widths": [8, 4, 2, True]}, "expected 4"), ({"widths": [8, 4, 2, 1.0]}, "expected 4"),
    ({"widths": {"a": 1}}, "expected 4"), ({"widths": [[8], 4, 2, 1]}, "expected 4"), ({"widths": 8}, "expected 4"),
    ({"widths": None}, "expected 4"), ({"noise_widths": [8, 4]}, "expected 3 whole numbers or none"),
    ({"noise_widths": "none"}, "expected 3"), ({"noise_widths": []}, "expected 3"), ({"stages": "4"}, "a whole number"),
    ({"stages": True}, "a whole number"), ({"stages": 4.0}, "a whole number"), ({"stages": None}, "a whole number"),
    ({"stages": 10**400}, "at most 4"), ({"rate": float("nan")}, "a finite number"), ({"rate": 10**400}, "finite"),
    ({"rate": float("inf")}, "a finite"), ({"rate": "1"}, "a finite"), ({"rate": False}, "a finite"),
    ({"rate": -0.0}, "above 0"), ({"prior": 1}, "true or false"), ({"prior": "true"}, "true or false"),
    ({"encoder": ["mvit"]}, "one of mvit, s3d"), ({"encoder": None}, "one of"), ({"encoder": 0}, "one of"),
    ({"audio": "none"}, "or none"), ({"audio": False}, "or none"), ({"scale": True}, "one of 1, 2, 4"),
    ({"scale": 1.0}, "one of"), ({"encodr": "s3d"}, "did you mean encoder?"), ({"": 1}, "no such setting"),
    ({"colours": 5}, "expected settings"), ({"colours": {"mean": [1, 2]}}, "mean is [1, 2], expected 3 finite numbers"),
    ({"colours": {"std": [1, 2, 0]}}, "std is"), ({"colours": {"men": 1}}, "men': no such setting: did you mean mean?"),
    ({"colours": {"mean": [1, 2, float("nan")]}}, "mean is"), ({"encoder": "x" * 10_000}, "one of mvit"),
]


@pytest.mark.parametrize(("held", "answer"), HELD, ids=[str(h)[:40] for h, _ in HELD])
def test_an_odd_file_is_one_line(held, answer):
    with pytest.raises(InputError) as error:
        Network.from_dict(held)
    told = str(error.value)
    assert answer in told and "\n" not in told and len(told) < 300


def test_there_are_many_odd_ones():
    assert len(TYPED) + len(HELD) >= 68


def test_values_are_read_by_their_types():
    network, run = change(BOTH, [
        "noise_widths=8, 4,2", "audio=None", "stages=3", "stages=2", "prior=TRUE", "rate=1e-3", "scale=4", "sets=",
        "milestones=.5,0.75", "weights=hevc=1,hevc100=0.25", "out=a=b", "seed=+7",
    ])
    assert network.noise_widths == (8, 4, 2) and network.audio is None and network.stages == 2 and network.prior is True
    assert (network.rate, network.scale, run.seed) == (1e-3, 4, 7)
    assert run.sets == () and run.milestones == (0.5, 0.75) and run.out == "a=b"
    assert run.weights == {"hevc": 1.0, "hevc100": 0.25}
    assert change(BOTH, ["noise_widths=none"])[0].noise_widths is None
    assert change(BOTH, []) == BOTH


def test_a_file_gives_back_what_was_written():
    network = Network(audio=None, noise_widths=[3, 2, 1], rate=2, colours={"mean": [0, 0, 1]})
    assert network.noise_widths == (3, 2, 1) and type(network.rate) is float
    assert network.colours == Colours(mean=(0.0, 0.0, 1.0))
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network


def test_a_field_without_a_default_must_be_there():
    assert Needed.from_dict({"name": "a", "size": 2}) == Needed("a", 2)
    with pytest.raises(InputError, match="size: not given"):
        Needed.from_dict({"name": "a"})


@given(st.sampled_from([*Network.__dataclass_fields__, *Run.__dataclass_fields__]), st.text(max_size=20))
def test_whatever_is_typed_is_a_value_of_the_type_or_an_input_error(name, text):
    try:
        for settings in change(BOTH, [f"{name}={text}"]):
            assert type(settings).from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    except InputError as error:
        assert str(error)


@given(st.sampled_from([*Network.__dataclass_fields__]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=5), one, max_size=3), max_leaves=6))
def test_whatever_a_file_holds_is_a_value_of_the_type_or_an_input_error(name, value):
    try:
        assert Network.from_dict({name: value}).to_dict().keys() == Network.__dataclass_fields__.keys()
    except InputError as error:
        assert str(error)
