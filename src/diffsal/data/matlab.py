"""MATLAB files of fixations, read by scipy in a process of their own that may die without taking us with it.

One flipped byte makes scipy's reader crash or ask for terabytes. The process reads file after file, has limits of
memory and time, and is started again where a file ended it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped

from diffsal.errors import InputError

FIXATION_VARIABLES = ("I", "eyeMap")  # DHF1K's and STAViS's names
MOST_PIXELS = 100_000_000  # of a fixation matrix; a picture of 8K has 33 million
MOST_BYTES = 3 << 30  # of memory that the process may ask for
MOST_SECONDS = 20.0  # for one file
_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None
_owner = 0  # the process that started it: a fork must not share its pipes


def read_matrix(path: Path) -> Shaped[np.ndarray, "h w"]:
    """The matrix ``I`` or ``eyeMap`` of a MATLAB file up to version 7.

    Raises :class:`InputError`, naming the file, for anything else: missing, damaged, of version 7.3, too large.
    """
    with _lock:
        try:
            answer, data = _ask(str(path.absolute()))
        except (OSError, ValueError, EOFError):
            answer, data = {"problem": _end()}, b""
    if "problem" in answer:
        raise InputError(f"{path}: {answer['problem']}")
    try:
        return np.frombuffer(data, np.dtype(answer["dtype"])).reshape(answer["shape"])
    except (KeyError, TypeError, ValueError):  # a file that broke the process without ending it
        raise InputError(f"{path}: damaged; fetch it again") from None


def _ask(path: str) -> tuple[dict[str, Any], bytes]:
    process = _running()
    assert process.stdin is not None and process.stdout is not None
    timer = threading.Timer(MOST_SECONDS, process.kill)
    timer.start()
    try:
        process.stdin.write(json.dumps(path).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        data = process.stdout.read(answer.get("bytes", 0))
        if len(data) != answer.get("bytes", 0):
            raise EOFError
        return answer, data
    finally:
        timer.cancel()


def _running() -> subprocess.Popen[bytes]:
    global _process, _owner
    if _process is None or _owner != os.getpid() or _process.poll() is not None:
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
                       "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
        _process = subprocess.Popen(
            [sys.executable, "-c", "from diffsal.data.matlab import serve; serve()"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        _owner = os.getpid()
    return _process


def _end() -> str:
    """What ended the process, in words."""
    global _process
    assert _process is not None
    try:
        code = _process.wait(1)
    except subprocess.TimeoutExpired:
        _process.kill()
        code = _process.wait()
    for pipe in (_process.stdin, _process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]
    _process = None
    return f"damaged: reading it ended MATLAB's reader (code {code}); fetch it again"


def serve() -> None:
    """What the process does: a path a line in, a line of JSON and the matrix's bytes out. It ends with its parent."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # Windows has no limits, macOS not all
        pass
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes the pipe
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    for line in requests:
        _answer(json.loads(line), answers)
        answers.flush()


def _answer(path: str, answers: IO[bytes]) -> None:
    try:
        matrix = np.ascontiguousarray(_read(path))
        head = {"dtype": matrix.dtype.str, "shape": matrix.shape, "bytes": matrix.nbytes}
        answers.write(json.dumps(head).encode() + b"\n" + matrix.tobytes())
    except InputError as error:
        answers.write(json.dumps({"problem": str(error)}).encode() + b"\n")
    except (Exception, MemoryError) as error:  # a broken file may raise almost anything there
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"not a MATLAB file that can be read ({reason}); fetch it again"
        answers.write(json.dumps({"problem": problem}).encode() + b"\n")


def _read(path: str) -> np.ndarray:
    from scipy.io import loadmat
    from scipy.sparse import issparse

    try:
        with open(path, "rb") as file:
            variables = loadmat(file, variable_names=list(FIXATION_VARIABLES), verify_compressed_data_integrity=True)
    except NotImplementedError:
        raise InputError("MATLAB 7.3 file, expected 7 or older; save it again with '-v7'") from None
    except OSError as error:
        if error.errno is None:  # of the reader: the file is cut short
            raise
        raise InputError(f"cannot be read ({error.strerror}); fetch it again") from None
    found = next((variables[name] for name in FIXATION_VARIABLES if name in variables), None)
    if found is None:
        raise InputError(f"no variable {' or '.join(FIXATION_VARIABLES)} in it; is it a fixation map?")
    shape: tuple[int, ...] = getattr(found, "shape", ())
    if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MOST_PIXELS:
        raise InputError(f"its matrix is {' x '.join(map(str, shape))}, expected at most {MOST_PIXELS:,} pixels, "
                         "rows by columns; fetch it again")
    matrix = found.toarray() if issparse(found) else np.asarray(found)
    if matrix.dtype.kind not in "buif":
        raise InputError(f"{matrix.dtype} of shape {shape}, expected a matrix of numbers; fetch it again")
    return matrix
