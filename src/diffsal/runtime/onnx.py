"""ONNX graphs as an engine, run by ONNX Runtime on the CPU: the default for what is bundled. No torch here."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy import ndarray

from diffsal.diffusion.schedule import NoiseSchedule
from diffsal.errors import InputError
from diffsal.media.threads import worker_threads
from diffsal.runtime.engine import MOST_WORKERS, available_cores
from diffsal.runtime.graphs import Graphs, read_graphs
from diffsal.runtime.memory import give_back_memory
from diffsal.weights.metadata import spacing_of

QUIET = 4  # only fatal messages: an error is raised as well


@dataclass(frozen=True)
class Conditions:
    """What conditions the denoising of b windows, by the names of the graph's inputs."""

    inputs: dict[str, ndarray]


@lru_cache(maxsize=1)
def _make_arena() -> None:
    """One arena for all sessions of the process, which grows by what is asked for."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    settings = dict(max_mem=0, arena_extend_strategy=1, initial_chunk_size_bytes=-1, max_dead_bytes_per_chunk=-1)
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(settings))


def share_arena(options: onnxruntime.SessionOptions) -> None:
    """Let a session take its memory from the arena that all sessions share."""
    _make_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")


class OnnxEngine:
    """Graphs that ``diffsal export`` wrote, as an :class:`diffsal.runtime.engine.Engine`.

    Raises :class:`InputError` for graphs that ONNX Runtime does not take or that are of another size.
    """

    device = "cpu"

    def __init__(self, graphs: Graphs | str | Path) -> None:
        graphs = graphs if isinstance(graphs, Graphs) else read_graphs(Path(graphs))
        self.path, self.config, self.finish, self.metadata = graphs.path, graphs.config, graphs.finish, graphs.metadata
        self.spacing = spacing_of(graphs.metadata, graphs.path)
        self.encodes_frames = "frames" in graphs.parts
        cores = min(available_cores(), MOST_WORKERS)
        # Networks that see single frames keep a CPU busiest with a call per core, each on what its cache holds
        self.num_workers = cores if self.encodes_frames else 1
        self.batch_size = 1  # two take twice as long, and their maps would depend in their last bit on who is beside
        self._threads = 1 if self.encodes_frames else available_cores()
        self._parts, self._lock = dict(graphs.parts), threading.Lock()
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._schedule = NoiseSchedule.named(self.config.noise_schedule)
        _make_arena()
        names = [name for name in graphs.parts if name != "sound"]  # that one waits until something sounds
        with ThreadPoolExecutor(cores) as pool:
            self._sessions.update(zip(names, pool.map(self._made, names), strict=True))
        give_back_memory()
        self._check_sizes()
        slots = self._shape("window", "scale_0")[2] if self.encodes_frames else self.config.num_frames
        self.frame_step = self.config.num_frames // slots

    def workers(self, count: int) -> AbstractContextManager[Executor]:
        """As :meth:`diffsal.runtime.engine.Engine.workers`."""
        return worker_threads(count)

    def encode_frames(self, images: ndarray) -> Sequence[Any]:
        """As :meth:`diffsal.runtime.engine.Engine.encode_frames`."""
        if not self.encodes_frames:
            return list(images)
        return list(zip(*self._run("frames", {"images": images}), strict=True))

    def encode_sound(self, mel: ndarray) -> ndarray:
        """As :meth:`diffsal.runtime.engine.Engine.encode_sound`."""
        return self._run("sound", {"mel": mel})[0]

    def encode_windows(
        self, frames: Sequence[Sequence[Any]], brightness: ndarray | None, audio: ndarray | None
    ) -> Conditions:
        """As :meth:`diffsal.runtime.engine.Engine.encode_windows`."""
        if brightness is None:
            given = {"images": np.stack([np.stack(window) for window in frames])}
        else:
            given = {"brightness": brightness}
            for i in range(len(frames[0][0])):
                given[f"scale_{i}"] = np.stack([np.stack([x[i] for x in window], axis=1) for window in frames])
        found = self._run("window", given)
        inputs = {f"condition_{i}": x for i, x in enumerate(found)}
        if self.config.audio_encoder is not None:
            b = len(found[0])
            silence = (b, *self._shape("denoise", "audio")[1:])
            inputs["audio"] = np.zeros(silence, np.float32) if audio is None else audio
            inputs["heard"] = np.full(b, audio is not None)
        return Conditions(inputs)

    def denoise(self, x_t: ndarray, t: ndarray, conditions: Conditions) -> ndarray:
        """As :meth:`diffsal.runtime.engine.Engine.denoise`."""
        found = self._run("denoise", {"x_t": x_t, "t": t, **conditions.inputs})[0]
        if self.config.predicts != "noise":
            return found
        size = (self.config.width, self.config.height)
        noise = np.stack([cv2.resize(x[0], size, interpolation=cv2.INTER_LINEAR)[None] for x in found])
        return self._schedule.remove_noise(x_t, noise, t)

    def _run(self, name: str, given: dict[str, ndarray]) -> list[ndarray]:
        session = self._session(name)
        try:
            return session.run(None, given)
        except Exception as error:  # ONNX Runtime's own classes share no other base
            raise self._line(f"cannot run its graph {name}", error) from None

    def _session(self, name: str) -> onnxruntime.InferenceSession:
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = self._made(name)
                give_back_memory()
        return self._sessions[name]

    def _made(self, name: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = QUIET
        share_arena(options)
        try:
            return onnxruntime.InferenceSession(
                self._parts.pop(name), options, providers=["CPUExecutionProvider"], enable_fallback=0)
        except Exception as error:
            raise self._line(f"refuses its graph {name}", error) from None

    def _line(self, what: str, error: Exception) -> InputError:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return InputError(
            f"{self.path}: ONNX Runtime {what}: {said}; fetch it again, or make one with `diffsal export`")

    def _shape(self, part: str, name: str) -> list[Any]:
        return next(x.shape for x in self._session(part).get_inputs() if x.name == name)

    def _check_sizes(self) -> None:
        """The graphs are of the size that the configuration says."""
        height, width = self.config.height, self.config.width
        wanted = {("denoise", "x_t"): [1, height, width]}
        if self.encodes_frames:
            wanted |= {("frames", "images"): [height, width, 3],
                       ("window", "brightness"): [self.config.num_frames, height // 4, width // 4]}
        else:
            wanted |= {("window", "images"): [self.config.num_frames, height, width, 3]}
        for (part, name), shape in wanted.items():
            found = self._shape(part, name)[1:]
            if found != shape:
                raise InputError(f"{self.path}: {name} of its graph {part} is {found}, its configuration says {shape}: "
                                 "it is of another network")
