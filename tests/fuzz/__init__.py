"""The campaign: broken inputs without end, each of which must be read, or refused in one line, within a time.

    make fuzz                                       # an hour; FUZZ_SECONDS=600 make fuzz: ten minutes
    FUZZ_SEED=7 FUZZ_SECONDS=60 pytest tests/fuzz   # other cases than the ones of CI
    FUZZ_CASES=1000 pytest tests/fuzz               # a thousand of each kind, however long it takes

``FUZZ_SECONDS`` is divided among the kinds, each of which has at most four cases for every second of the whole: a
faster machine tries no others. ``FUZZ_REPORT=FILE`` adds a line of JSON for each kind: what was tried, how often, how
many were refused, how many lost something in silence, and the seconds of the slowest. docs/reliability.md shows them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from diffsal.errors import InputError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
CASES = int(os.environ.get("FUZZ_CASES", "0"))  # of each kind; 0: as many as the time allows
LEAST_CASES = 20
MOST_CASES = round(4 * SECONDS)  # of each kind, within FUZZ_SECONDS
REPORT = os.environ.get("FUZZ_REPORT")
NUM_KINDS = 45  # about as many as there are, all files of this folder together
HANG_SECONDS = 60
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
WORDS = (b"../", b"\0", b"\n", b"\xff\xfe", b"%s%n", b"\x1b[2J", b"NaN", b"1e999", b"-1", b"[", b"]", b'"', b",", b";")


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` with one to four faults: bits, bytes, lengths, words, cuts, repeats, gaps."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            return bytes(out)
        at, kind = int(rng.integers(len(out))), int(rng.integers(9))
        span = int(rng.integers(1, max(2, min(64, len(out) - at))))
        if kind <= 1:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            out[at] = int(rng.integers(256))
        elif kind == 3:
            width = int(rng.choice((1, 2, 4, 8)))
            value = int(rng.choice(len(NUMBERS)))
            number = (NUMBERS[value] & (1 << 8 * width) - 1).to_bytes(width, ("little", "big")[int(rng.integers(2))])
            out[at : at + width] = number[: len(out) - at]
        elif kind == 4:
            out[at:at] = WORDS[int(rng.integers(len(WORDS)))]
        elif kind == 5:
            del out[at : at + span]
        elif kind == 6:
            out[at:at] = out[at : at + span] * int(rng.integers(1, 5))
        elif kind == 7:
            out[at : at + span] = rng.bytes(span)
        elif rng.integers(4) == 0:
            del out[at:]
        else:
            out[at : at + span] = bytes(span)
    return bytes(out)


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """``TimeoutError`` where the block hangs."""

    def stop(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Silent(Exception):
    """What ``read`` raises where something is lost without a word."""


def attack(kind: str, seeds: list[bytes], path: Path, read: Callable[[Path], object], share: float = 1.0) -> list[int]:
    """Mutate ``seeds`` for this kind's share of the time, write each to ``path`` and ``read`` it.

    :class:`InputError` of one line is right, and so is a result. Anything else is kept beside ``path`` and fails.
    Returns the numbers of the cases that lost something in silence (:class:`Silent`); they are kept, too.
    """
    end, cases, refused, slowest = time.monotonic() + share * SECONDS / NUM_KINDS, 0, 0, 0.0
    silent: list[int] = []
    for seed in seeds:  # whole they are read
        path.write_bytes(seed)
        read(path)
    while cases < (CASES or LEAST_CASES) or (not CASES and cases < MOST_CASES and time.monotonic() < end):
        rng = np.random.default_rng([SEED, *kind.encode(), cases])
        data = mutate(seeds[cases % len(seeds)], rng)
        path.write_bytes(data)
        began = time.monotonic()
        try:
            with no_longer_than(HANG_SECONDS):
                read(path)
        except InputError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1 and str(error).isprintable(), repr(str(error))
        except Silent:
            silent.append(cases)
            path.with_name(f"silent-{cases}{path.suffix}").write_bytes(data)
        except BaseException as error:
            kept = path.with_name(f"failed-{cases}{path.suffix}")
            kept.write_bytes(data)
            where = f"{kind}, case {cases} of seed {SEED}, kept as {kept}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}\n{traceback.format_exc()}") from error
        slowest, cases = max(slowest, time.monotonic() - began), cases + 1
    report(kind, cases, refused, slowest, len(silent))
    return silent


def report(kind: str, cases: int, refused: int, slowest: float, silent: int = 0) -> None:
    """One line in ``FUZZ_REPORT``."""
    if REPORT:
        with open(REPORT, "a") as file:
            line = {"kind": kind, "cases": cases, "refused": refused, "silent": silent, "slowest": round(slowest, 2)}
            file.write(json.dumps(line) + "\n")
