"""The numbers that the page's unit tests compare it with are those of the code as it is."""

import json

import numpy as np

from tests.web.values import FILE, values


def test_the_pages_numbers_are_what_python_computes():
    compare(json.loads(FILE.read_text()), values(), "python.json")


def compare(written, computed, where: str) -> None:
    """Structures of the same names, whose numbers are near."""
    if isinstance(written, dict):
        assert written.keys() == computed.keys(), where
        for name in written:
            compare(written[name], computed[name], f"{where}: {name}")
    elif written and isinstance(written[0], list | dict):
        assert len(written) == len(computed), where
        for n, (one, other) in enumerate(zip(written, computed, strict=True)):
            compare(one, other, f"{where}[{n}]")
    else:
        one, other = (np.array(x, float) for x in (written, computed))
        within = 3 if where.startswith("python.json: rgb") else 1e-4  # FFmpeg rounds otherwise on other processors
        np.testing.assert_allclose(one, other, atol=within, err_msg=where)
