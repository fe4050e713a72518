r"""Mutation testing: cosmic-ray's operators on a few modules, each mutant against that module's tests, by forks.

    python -m tests.mutants [schedule samplers objective metrics finish]

Each mutant is imported in the place of its module, in a process that is forked from one that has imported already what
the tests import of others; nothing is written to the source. Prints the mutants that survive as LINE: before → after,
and the score. Mutants in annotations, docstrings and messages are left out, and ``EQUIVALENT`` lists the lines on
which a mutant can change nothing that anybody sees, each with why.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.abc
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parents[1]
TARGETS = {
    "schedule": ("diffsal.diffusion.schedule", ["tests/diffusion"]),
    "samplers": ("diffsal.diffusion.samplers", ["tests/diffusion"]),
    "objective": ("diffsal.training.objective", ["tests/training/test_objective.py"]),
    "metrics": ("diffsal.scoring.metrics", [
        "tests/scoring/test_metrics.py", "tests/scoring/test_metric_classes.py",
        "--deselect=tests/scoring/test_metric_classes.py::test_two_processes_make_one_mean"]),  # six seconds
    "finish": ("diffsal.prediction.finish", ["tests/prediction/test_finish.py"]),
}
OPERATORS = [f"core/{name}" for name in (
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul",
                                                   "FloorDiv_Mul", "Mod_Mul")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt",
                                                       "Lt_Gt", "Gt_Lt", "LtE_GtE", "GtE_LtE")),
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "NumberReplacer",
)]
SECONDS = 60  # of processor time, after which a mutant counts as killed
EQUIVALENT: dict[str, str] = {  # a part of the line, before or after → why no test can tell
    "EPSILON = ": "any number that small keeps a division finite",
    "NUM_TIMESTEPS / num_timesteps": "1 for the only T in use",
    "last_timestep_share: float": "a share below 0 is none, too",
    "rng.random() < self.last": "the generator does not give the share itself",
    "noise[None], timestep[None])[0]": "of one, the first is the last",
    "BINS = 1 << 13": "the score is exact for any number of bins, only slower",
    "LARGEST_SHIFT = ": "likewise: where bins cannot be told apart all values are compared",
    "strict=True": "both have as many rows",
    "scale, shift = (BINS": "bins decide which values are compared one by one; the sum is exact either way",
    "if not (scale <": "likewise", "held = np.bincount": "likewise", "small = bool(": "likewise",
    "unclear = (1 <<": "likewise", "table[held >": "likewise",
    "nonzero()[:, -1]": "a row of pixels has one axis",
    "argsort(+1)": "of two axes the last is the first but one", "sort(+1)": "likewise", ").any(+1)": "likewise",
    "count * count >=": "both ways draw each set as often",
    "torch.where(low == high": "it is multiplied by differences that are 0",
    "torch.where(constant, 2": "it is divided by its own sum",
    "least= 0": "the mean of no fixation is NaN, too",
    "int( 2 / step": "no value lies above a threshold beyond 1",
    "cast=False": "the order of values is the same in double precision",
    "correction=0) - EPSILON": "either sign keeps a flat map finite",
    "keepdim=True) - EPSILON": "either sign keeps a quotient of zeros finite",
    "finish.centre_gain or": "a gain of 0 adds nothing, and none is above 0 without a centre",
    "finish.exponent != 0": "an exponent is above 0, and 1 changes nothing",
    "frozen=True": "no code assigns to the fields",
    "eq=False": "objects are compared by identity, arrays have no truth value",
    "__doc__": "words",
}


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports ``source`` in the place of the module ``name``."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def mutants_of(path: Path) -> list[tuple[int, str, str, str]]:
    """(line, before, after, source) of every mutant of a file that does something."""
    source, found = path.read_text(), {}
    shown = ast.dump(_without_words(source))
    for name in OPERATORS:
        for occurrence in range(10_000):
            mutated = mutate_code(source, get_operator(name)(), occurrence)
            if mutated is None:
                break
            if ast.dump(_without_words(mutated)) == shown:
                continue
            lines = [line for line in difflib.ndiff(source.splitlines(), mutated.splitlines()) if line[0] in "+-"]
            before, after = (" ".join(x[2:].strip() for x in lines if x[0] == sign) for sign in "-+")
            number = next((i for i, pair in enumerate(zip(source.splitlines(), mutated.splitlines(), strict=False), 1)
                           if pair[0] != pair[1]), 0)
            if not any(part in before or part in after for part in EQUIVALENT):
                found.setdefault(mutated, (number, before, after, mutated))
    return sorted(found.values())


def _without_words(source: str) -> ast.Module:
    """The program without annotations, strings and messages."""
    class Silence(ast.NodeTransformer):
        def visit_arg(self, node):
            node.annotation = None
            return node

        def visit_FunctionDef(self, node):
            self.generic_visit(node)
            node.returns = None
            return node

        def visit_AnnAssign(self, node):
            return ast.Assign([node.target], node.value) if node.value is not None else None

        def visit_Raise(self, node):
            return ast.Raise(None, None)

        def visit_JoinedStr(self, node):
            return ast.Constant("")

    return Silence().visit(ast.parse(source))


def survives(name: str, path: Path, source: str, tests: list[str]) -> bool:
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # kills; other programs' load does not count
    sys.meta_path.insert(0, Mutated(name, path, source))
    with contextlib.suppress(Exception):  # before the tests' own hooks, which would import it from its file
        importlib.import_module(name)
        os._exit(run_quietly(["-x", *tests]))
    os._exit(1)


def run_quietly(arguments: list[str]) -> int:
    """pytest's exit code, in a process that prints nothing more."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    return int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]))


def import_what_others_made(tests: list[str]) -> None:
    """Import what the tests do, but for the package and the tests themselves, which every mutant imports anew."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading) as names:
            wanted = names.read().split()
        os.wait()
        for name in wanted:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        return
    run_quietly(["--collect-only", *tests])
    ours = ("diffsal", "tests", "conftest", "__main__")
    os.write(writing, " ".join(n for n in list(sys.modules) if n.split(".")[0] not in ours).encode())
    os._exit(0)


def main(chosen: list[str]) -> None:
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "src"))
    killed = total = 0
    for key in chosen or TARGETS:
        name, tests = TARGETS[key]
        path = (ROOT / "src" / name.replace(".", "/")).with_suffix(".py")
        import_what_others_made(tests)
        if not survives(name, path, path.read_text(), tests):
            sys.exit(f"{key}: its tests {' '.join(tests)} fail without any mutant")
        left = []
        mutants = mutants_of(path)
        for number, before, after, source in mutants:
            if survives(name, path, source, tests):
                left.append(f"  {number}: {before}  →  {after}")
                print(left[-1], flush=True)
        killed, total = killed + len(mutants) - len(left), total + len(mutants)
        print(f"{key}: {len(mutants) - len(left)} of {len(mutants)} mutants killed", flush=True)
    print(f"{killed} of {total} killed, {killed / total:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
