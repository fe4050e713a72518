"""A camera's heat map is shown until its window is closed; the same camera goes into a file with an output."""

from __future__ import annotations

import signal
import sys
import threading
import time
import types

import av
import cv2
import numpy as np
import pytest

from diffsal.cli.progress import run_all
from diffsal.errors import InputError
from diffsal.outputs.camera_window import Screen
from diffsal.outputs.render import Outputs, render
from tests.standin import StandIn


class Webcam:
    """A camera that never ends."""

    def __init__(self, index):
        self.shots = 0

    def read(self):
        time.sleep(0.005)
        self.shots += 1
        return True, np.full((48, 64, 3), self.shots % 256, np.uint8)

    def get(self, _):
        return 30.0

    def release(self):
        pass


class Window:
    """As much of Tk's root window as is used; it closes itself after five pictures."""

    last = None

    def __init__(self):
        Window.last, self.shown, self.alive = self, [], True

    def title(self, text):
        self.text = text

    def protocol(self, name, action):
        self.on_close = action

    def bind(self, *_):
        pass

    def update(self):
        if len(self.shown) == 5:
            self.on_close()

    def destroy(self):
        self.alive = False


class Label:
    def __init__(self, root):
        self.root = root

    def pack(self):
        pass

    def configure(self, image):
        self.root.shown.append(image)


@pytest.fixture
def tk(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    fake = types.SimpleNamespace(Tk=Window, Label=Label, PhotoImage=lambda data: data)
    monkeypatch.setitem(sys.modules, "tkinter", fake)


def test_a_camera_is_shown_until_its_window_is_closed(tk):
    result = render(StandIn(), "0", Outputs())
    assert result.frames == 5 and not Window.last.alive
    assert all(data.startswith(b"P6 64 48 255\n") and len(data) == 13 + 64 * 48 * 3 for data in Window.last.shown)


def test_no_display(tk, monkeypatch):
    def refuse():
        raise RuntimeError("no display name and no $DISPLAY environment variable")

    sys.modules["tkinter"].Tk = refuse
    with pytest.raises(InputError, match=r"camera 0: no window can be opened \(no display name.*-o OUT.mp4"):
        Screen("camera 0")


def test_a_camera_in_a_file_ends_at_its_end(tk, tmp_path):
    target = tmp_path / "a.mp4"
    assert run_all(StandIn(), ["0"], Outputs(target), False, False, {"end": 0.2}) == 0
    with av.open(str(target)) as container:
        times = [f.time for f in container.decode(video=0)]
    assert times and times[-1] < 0.2


def test_ctrl_c_ends_a_camera_and_keeps_its_file(tk, tmp_path):
    target = tmp_path / "a.mp4"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background ignores it
    threading.Timer(0.7, signal.raise_signal, [signal.SIGINT]).start()
    try:
        assert render(StandIn(), "0", Outputs(target)).frames > 0
    finally:
        signal.signal(signal.SIGINT, before)
    with av.open(str(target)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 0
