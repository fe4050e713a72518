"""One source → every file asked for: what ``diffsal predict`` does with each of its inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsal.errors import InputError
from diffsal.media.pictures import WRITTEN_SUFFIXES, write_picture
from diffsal.media.source import Source, open_source
from diffsal.media.threads import prefetch
from diffsal.outputs.arrays import ArrayWriter
from diffsal.outputs.attention import Region
from diffsal.outputs.attention_json import AttentionWriter
from diffsal.outputs.camera_window import Screen
from diffsal.outputs.contact_sheet import SHEET_FRAMES, contact_sheet
from diffsal.outputs.maps import MapWriter
from diffsal.outputs.overlay import OVERLAY_SUFFIXES, Overlayer, PictureWriter, VideoWriter
from diffsal.outputs.qp_offsets import PredictedOffsets
from diffsal.prediction.maps import Prediction, Predictions
from diffsal.prediction.pipeline import predict, queue_size, usual_every

if TYPE_CHECKING:
    from diffsal.networks.diffsal import DiffSal
    from diffsal.prediction.spans import DrawnMaps
    from diffsal.runtime.engine import Engine

SPREAD_COLORMAP = "viridis"


@dataclass(frozen=True)
class Outputs:
    """Where the results of one source go; None: not wanted. ``maps`` is a folder, the others are files."""

    overlay: Path | None = None
    maps: Path | None = None
    npz: Path | None = None
    sheet: Path | None = None
    json: Path | None = None
    moments: Path | None = None
    qp_map: Path | None = None

    @property
    def files(self) -> list[Path]:
        """All but the maps."""
        return [p for p in (self.overlay, self.npz, self.sheet, self.json, self.moments, self.qp_map) if p]

    def check(self, source: Source, force: bool) -> None:
        """Refuse to overwrite the source, other files without ``force``, and to write where there is no folder."""
        given = (source.path, source.sound_path, *source.pictures)
        read = {Path(p).resolve() for p in given if p and "://" not in str(p)}
        if self.maps is not None and not source.is_picture and self.maps.resolve() in {p.parent for p in read}:
            raise InputError(f"{self.maps}: the input's own pictures lie there; give another folder with --maps")
        resolved = [p.resolve() for p in (*self.files, *([self.maps] if self.maps else []))]
        twice = next((p for p in resolved if resolved.count(p) > 1), None)
        if twice is not None:
            raise InputError(f"{twice}: two outputs have this name; give each its own")
        suffixes = WRITTEN_SUFFIXES if source.is_picture else OVERLAY_SUFFIXES
        if self.overlay is not None and self.overlay.suffix.lower() not in suffixes:
            raise InputError(f"{self.overlay}: an overlay of {source.name} is one of {' '.join(suffixes)}; rename it")
        if self.maps is not None and self.maps.exists() and not self.maps.is_dir():
            raise InputError(f"{self.maps}: is a file, but maps need a folder; give another name with --maps")
        one_map = self.maps / f"{Path(source.name).stem}.png" if self.maps and source.is_picture else None
        for path in [*self.files, *([one_map] if one_map else [])]:
            if path.resolve() in read:
                raise InputError(f"{path}: is the input itself; give another name with -o")
            if path.is_dir():
                raise InputError(f"{path}: is a folder; give a file in it")
            if path.exists() and not force:
                raise InputError(f"{path}: exists already; give another name with -o or overwrite it with --force")
            if path is not one_map and not path.parent.is_dir():
                raise InputError(f"{path.parent}: no such folder; make it first")
        if self.maps is not None and one_map is None and any(self.maps.glob("*.png")) and not force:
            raise InputError(f"{self.maps}: holds PNG files already; give another folder or overwrite with --force")


@dataclass(frozen=True)
class Rendered:
    """What was done: frames predicted, and the source's problems, a line each."""

    frames: int
    problems: list[str]


def default_outputs(source: Source, given: str) -> Outputs:
    """``VIDEO.saliency.mp4`` beside the video, ``PICTURE.saliency.png`` beside a picture; none for a camera."""
    if source.camera is not None:
        return Outputs()
    if given.startswith(("http://", "https://")):
        return Outputs(overlay=Path(f"{Path(given.split('?')[0]).stem or 'video'}.saliency.mp4"))
    path = Path(given)
    path = path if path.name not in ("", "..") else path.resolve()
    name = path.name if path.is_dir() else path.stem
    return Outputs(overlay=path.parent / f"{name}.saliency{'.png' if source.is_picture else '.mp4'}")


def render(
    model: DiffSal | Engine,
    source: str | Source,
    outputs: Outputs,
    *,
    colormap: str = "inferno",
    opacity: float = 0.7,
    on_frame: Callable[[int, int | None], None] | None = None,
    start: float | None = None,
    end: float | None = None,
    regions: Sequence[Region] = (),
    drawn: DrawnMaps | None = None,
    **settings,
) -> Rendered:
    """Predict every frame of ``source`` and write ``outputs``; ``settings`` and ``drawn`` are
    :func:`diffsal.predict`'s.

    ``regions`` are those whose share of attention stands in ``outputs.json``. With several samples the overlay shows
    their mean on the left and their spread on the right.

    ``on_frame(done, expected)`` is called after each frame. Files appear whole or not at all; maps written stay. A
    camera without ``outputs`` is shown in a window; it ends with that window, with Ctrl-C or at ``end``.
    """
    source = source if isinstance(source, Source) else open_source(source)
    overlayer, of_spread = Overlayer(colormap, opacity), Overlayer(SPREAD_COLORMAP, opacity)
    expected, done = expected_frames(source, start, end), 0
    sheet: list[tuple[Any, ...]] = []
    writers: list[Any] = []
    wanted = sheet_indices(expected)
    screen = Screen(source.name) if source.camera is not None and outputs == Outputs() else None
    drawing = screen or outputs.overlay or outputs.sheet or outputs.moments
    if source.camera is not None:
        settings.setdefault("batch_size", 1)  # a map as soon as it can be
    settings["every"] = settings.get("every") or usual_every(model, source)
    settings["spacing"] = settings.get("spacing") or model.spacing
    finished = prefetch(predict(model, source, start=start, end=end, drawn=drawn, **settings).maps, queue_size(source))

    def write(prediction: Prediction) -> None:
        heat = [overlayer.draw(prediction.image, prediction.saliency)] if drawing else []
        if drawing and prediction.spread is not None:
            heat.append(of_spread.draw(prediction.image, prediction.spread))
        shown = np.concatenate(heat, axis=1) if len(heat) > 1 else heat[0] if heat else None
        for writer in writers:
            writer.write(prediction, shown)
        if outputs.sheet and (done in wanted or not sheet):
            sheet.append((prediction.seconds, np.array(prediction.image), *heat))

    try:
        open_writers(writers, source, outputs, start, end)
        if outputs.json:
            writers.append(AttentionWriter(outputs.json, source, {"start": start, "end": end, **settings}, regions))
        writers.extend([screen] if screen else [])
        with contextlib.suppress(*([KeyboardInterrupt] if source.camera is not None else [])):
            for prediction in Predictions(finished):
                write(prediction)
                del prediction  # before the next is made: 4K takes 80 MB
                done += 1
                if on_frame:
                    on_frame(done, expected)
                if screen and screen.closed:
                    break
        finished.close()
        if not done:
            raise InputError(f"{source.name}: no frame lies between --start and --end")
        for writer in writers:
            writer.close()
        if outputs.sheet:
            write_picture(outputs.sheet, contact_sheet(sheet[-SHEET_FRAMES:]))
    finally:
        finished.close()
        for writer in writers:
            writer.discard()
    return Rendered(done, source.problems)


def open_writers(writers: list, source: Source, outputs: Outputs, start: float | None, end: float | None) -> None:
    """Append a writer for each of ``outputs`` to ``writers``, as far as they can be opened."""
    if outputs.overlay:
        path = outputs.overlay
        writers.append(PictureWriter(path) if source.is_picture else VideoWriter(path, source, start, end))
    if outputs.maps:
        writers.append(MapWriter(outputs.maps, Path(source.name).stem if source.is_picture else None))
    if outputs.npz:
        writers.append(ArrayWriter(outputs.npz))
    if outputs.moments:
        from diffsal.outputs.moments import MomentsWriter  # it draws text, by modules that nothing else needs

        writers.append(MomentsWriter(outputs.moments, Path(source.name).name))
    if outputs.qp_map:
        writers.append(PredictedOffsets(outputs.qp_map))


def expected_frames(source: Source, start: float | None, end: float | None) -> int | None:
    """How many frames there should be, as far as the container tells."""
    if source.num_frames is None or (start is None and end is None):
        return source.num_frames
    whole = source.num_frames / source.frame_rate
    return max(1, round((min(end or whole, whole) - (start or 0.0)) * source.frame_rate))


def sheet_indices(expected: int | None) -> set[int]:
    """Evenly spaced frames for the contact sheet."""
    count = expected or SHEET_FRAMES
    if count <= SHEET_FRAMES:
        return set(range(count))
    return {int((i + 0.5) * count / SHEET_FRAMES) for i in range(SHEET_FRAMES)}


def outputs_for(name: str, source: Source, wanted: Outputs, only_maps: bool, several: bool) -> Outputs:
    """One input's own outputs: where there are several inputs, ``wanted`` names folders in which each gets its own."""
    own = default_outputs(source, name)
    if not several and wanted.overlay and wanted.overlay.is_dir() and own.overlay:
        wanted = replace(wanted, overlay=wanted.overlay / own.overlay.name)
    if not several:
        return replace(wanted, overlay=None if only_maps else wanted.overlay or own.overlay)
    own_name = own.overlay.name if own.overlay else f"camera{name}.saliency.mp4"
    stem = own_name.split(".saliency")[0]
    overlay = wanted.overlay / own_name if wanted.overlay else own.overlay
    return Outputs(
        overlay=None if only_maps else overlay,
        maps=wanted.maps and (wanted.maps if source.is_picture else wanted.maps / stem),
        npz=wanted.npz and wanted.npz / f"{stem}.npz",
        sheet=wanted.sheet and wanted.sheet / f"{stem}.png",
        json=wanted.json and wanted.json / f"{stem}.json",
        moments=wanted.moments and wanted.moments / f"{stem}.png",
        qp_map=wanted.qp_map and wanted.qp_map / f"{stem}.csv",
    )
