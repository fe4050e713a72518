"""Shapes of networks and diffusion are checked while the tests run; goldens and the shared data are found here."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads do not take a busy machine's time

import hypothesis
import numpy as np
import pytest
from jaxtyping import install_import_hook

from tests.golden.fill import fill, noise

# For the whole session: a hook in a "with" block sees only what is imported in that block
install_import_hook(["diffsal.diffusion", "diffsal.networks"], "beartype.beartype")

if TYPE_CHECKING:  # fixtures import torch where they need it: the process that hands out the tests does not
    import torch

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])  # of the processes that tests start
GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session")
def golden():
    """``golden(name)`` is the golden file ``name`` as a dict of arrays."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def golden_state():
    """``golden_state(name)`` is the filled state dict of the reference network ``name``."""
    import torch

    def build(name: str) -> dict[str, torch.Tensor]:
        keys = json.loads((GOLDEN / f"{name}.keys.json").read_text())
        return {key: torch.from_numpy(np.asarray(fill(key, tuple(shape)))) for key, shape in keys.items()}

    return build


@pytest.fixture(scope="session")
def golden_input():
    """``golden_input(name, shape)`` is the deterministic noise tensor of that name."""
    import torch

    return lambda name, shape: torch.from_numpy(noise(name, shape))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The team's data folder beside the checkout; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED


def sampled(array: torch.Tensor) -> np.ndarray:
    """The 2,048 values of ``array`` that a golden file holds."""
    flat = array.detach().float().flatten().numpy()
    return flat[np.linspace(0, flat.size - 1, 2048).round().astype(int)]


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """Largest absolute difference over the reference's largest magnitude."""
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A small network of the compact recipe, untrained, as a file."""
    import torch

    from diffsal.networks.diffsal import DiffSal
    from diffsal.training.recipes import compact
    from diffsal.weights.files import save

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(DiffSal(replace(compact()[0], height=64, width=96)), path, half=True)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups that stay on one worker go first: at the end there are small tests for every worker."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


def pytest_sessionfinish():
    """A test that timed out leaves no process that the interpreter would wait for."""
    for child in multiprocessing.active_children():
        child.kill()
