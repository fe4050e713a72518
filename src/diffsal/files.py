"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np


def partial_path(path: Path) -> Path:
    """Where ``path`` grows until it is whole: hidden, in the same folder, with the same ending."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


def write_whole(path: Path, data: bytes) -> None:
    """``data`` as a file; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    partial.write_bytes(data)
    partial.replace(path)


def write_picture(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """uint8 or uint16, grey (h, w) or RGB (h, w, 3), as the ending of ``path`` says; ``quality`` is a JPEG's."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    coded = cv2.imencode(path.suffix, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    write_whole(path, coded.tobytes())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, which takes the place of ``folder`` when all went well."""
    growing = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    try:
        yield growing
        if folder.exists():
            shutil.rmtree(folder)
        growing.replace(folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
