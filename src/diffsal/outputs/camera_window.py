"""A window on the screen that shows a camera's heat map as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diffsal.errors import InputError

if TYPE_CHECKING:
    from diffsal.prediction.maps import Prediction


class Screen:
    """Shows overlays until its window is closed, or ``q`` or Escape is pressed: then ``closed`` is true.

    Raises :class:`InputError` where there is no display or Python was built without Tk.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter

            self.root = tkinter.Tk()
        except Exception as error:  # ImportError without Tk, TclError without a display: Tk must be there to name it
            reason = " ".join(str(error).split())
            raise InputError(f"{title}: no window can be opened ({reason}); write a file with -o OUT.mp4") from None
        self.photo_image = tkinter.PhotoImage
        self.closed = self.is_gone = False
        self.root.title(f"diffsal: {title}")
        self.root.protocol("WM_DELETE_WINDOW", self.stop)
        for key in ("<q>", "<Escape>"):
            self.root.bind(key, lambda _: self.stop())
        self.label = tkinter.Label(self.root)
        self.label.pack()

    def stop(self) -> None:
        self.closed = True

    def write(self, prediction: Prediction, image: np.ndarray) -> None:
        """Show one overlay, uint8 RGB (height, width, 3)."""
        header = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
        self.shown = self.photo_image(data=header + np.ascontiguousarray(image).tobytes())  # Tk keeps no hold of it
        self.label.configure(image=self.shown)
        self.root.update()

    def close(self) -> None:
        """Take the window away."""
        if not self.is_gone:
            self.root.destroy()
            self.is_gone = True

    discard = close
