"""What the network attends to: the audio-visual interaction of every stage, and the difference that the sound makes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from diffsal.config import SamplingConfig, Spacing
from diffsal.errors import InputError
from diffsal.media.mel import Sound, log_mel
from diffsal.media.source import Source, open_source
from diffsal.media.threads import prefetch
from diffsal.networks.diffsal import DiffSal
from diffsal.outputs.attention import moved
from diffsal.outputs.overlay import OVERLAY_SUFFIXES, VideoWriter
from diffsal.outputs.panels import Panel, figure, heat, heat_over, signed_heat, write_figure
from diffsal.prediction.hearing import Heard
from diffsal.prediction.maps import FinishedMaps, Prediction
from diffsal.prediction.pipeline import Stream, Window, queue_size, sound_for
from diffsal.prediction.plan import Plan
from diffsal.prediction.speakers import SpeakingFace
from diffsal.runtime.torch import TorchEngine

HEARD_SECONDS = 0.96  # of sound around the frame, shown as a spectrogram
SAME_FRAME_SECONDS = 1e-4
MAX_STAGES = 4
SPEAKS, LISTENS = (80, 220, 90), (170, 170, 170)  # colours of boxes around faces
PICTURE_SUFFIXES = (".png", ".jpg", ".pdf")


@dataclass(frozen=True, eq=False)
class Explanation:
    """One frame. ``prediction`` is with its own sound; ``muted`` and ``elsewhere`` (h, w) without, and with another
    moment's; ``interactions`` the root mean square over channels of audio times picture (before its softmax; the
    paper's Figure 7) at every modulation stage, coarse to fine, (H, W) each. Without sound: None, None and [].
    ``heard`` are the log-mel spectrograms (64, n) around the frame: its own, the other moment's.
    """

    prediction: Prediction
    muted: np.ndarray | None = None
    elsewhere: np.ndarray | None = None
    interactions: tuple[np.ndarray, ...] = ()
    heard: tuple[np.ndarray, ...] = ()


def explain(
    model: DiffSal,
    source: str | Path | Source,
    *,
    frame: int | None = None,
    start: float | None = None,
    end: float | None = None,
    shift_seconds: float | None = None,
    steps: int = 1,
    seed: int = 0,
    spacing: Spacing | None = None,
    device: str = "cpu",
) -> Iterator[Explanation]:
    """Explain one ``frame`` (0-based), or every frame from ``start`` to ``end`` seconds, as a stream.

    Maps are those of the frame alone, before the mean of the maps around it in time (:class:`diffsal.config.Finish`).
    The other moment's sound is the clip's own, moved round by ``shift_seconds`` (default: half of its length).
    The other settings are :func:`diffsal.predict`'s. Raises :class:`InputError` for a frame that the clip lacks.
    """
    if not isinstance(model, DiffSal):
        raise InputError('explain looks into the torch network: load it by diffsal.load("compact", engine="torch")')
    source = source if isinstance(source, Source) else open_source(source)
    if frame is not None:
        seconds = frame_seconds(source, frame)
        start, end = seconds - SAME_FRAME_SECONDS, seconds + SAME_FRAME_SECONDS
    engine, sampling = TorchEngine(model, device), SamplingConfig(steps, spacing or model.spacing, seed)
    own = sound_for(engine, source)
    other = None if own is None else shifted(own, shift_seconds)
    plan = Plan(engine.config.num_frames, start=start, end=end)
    stream = Stream(engine, source, plan, [own] if other is None else [own, other], 1)
    read = prefetch(stream.read(), queue_size(source))
    try:
        with engine.workers(1) as pool:
            for window in stream.windows(stream.encode(read, pool), deque()):
                yield _explanation(model, stream, window, sampling, own, other)
    finally:
        read.close()


def shifted(sound: Sound, shift_seconds: float | None) -> Sound:
    """``sound`` moved round by ``shift_seconds``, by default by half of its length: at each moment, another's."""
    shift = sound.duration_seconds / 2 if shift_seconds is None else shift_seconds
    return replace(sound, waveform=np.roll(sound.waveform, -round(shift * sound.rate)))


def _explanation(
    model: DiffSal, stream: Stream, window: Window, sampling: SamplingConfig, own: Sound | None, other: Sound | None
) -> Explanation:
    """One frame's maps under its own sound, without sound and under the other moment's."""

    def under(heard: Heard) -> Prediction:
        raw = stream.draw([window], sampling, heard=[heard])[0]
        finished = FinishedMaps(window.frame, stream.finished(window, raw, heard), heard.faces)
        return stream.enlarged(finished).prediction()

    if own is None or other is None:
        return Explanation(under(Heard()))
    with interactions(model) as seen:
        prediction = under(window.heard[0])
    last = seen[-len(model.unet.stages) :]
    stages = tuple(x.float().square().mean(1).sqrt()[0].cpu().numpy() for x in last)
    heard = tuple(_spectrogram(sound, window.frame.seconds) for sound in (own, other))
    return Explanation(prediction, under(Heard()).saliency, under(window.heard[1]).saliency, stages, heard)


@contextmanager
def interactions(model: DiffSal) -> Iterator[list[Tensor]]:
    """A list that fills with the audio-visual interaction of each stage, call by call of the network."""
    seen: list[Tensor] = []
    hooks = [stage.register_forward_hook(lambda _stage, _given, result: seen.append(result[1]))
             for stage in model.unet.stages]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def frame_seconds(source: Source, index: int) -> float:
    """When frame ``index`` is shown. Raises :class:`InputError` where the clip ends before."""
    last = None
    for frame in source.frames(max(0.0, (index - 2) / source.frame_rate) if index > 100 else None):
        if frame.index == index:
            return frame.seconds
        if frame.index > index:  # frames come unevenly: look from the beginning
            return next(f.seconds for f in source.frames() if f.index == index)
        last = frame.index
    if last is None and index > 100:
        last = max((f.index for f in source.frames()), default=-1)
    raise InputError(f"{source.name}: has no frame {index}, its last is {last}; frames count from 0")


def _spectrogram(sound: Sound, seconds: float) -> np.ndarray:
    middle = round((seconds - sound.start_seconds) * sound.rate)
    half = round(HEARD_SECONDS / 2 * sound.rate)
    return log_mel(sound.excerpt(middle - half, middle + half), 0.01).T


def draw(explanation: Explanation, name: str = "", aspect: Fraction = Fraction(1)) -> np.ndarray:
    """The figure of one frame: picture and maps above, the stages' interactions over the frame below; RGB uint8.

    ``aspect`` is the shape of the picture's pixels, width over height: the figure's are square.
    """
    prediction = explanation.prediction
    size = (max(1, round(prediction.image.shape[1] * aspect)), prediction.image.shape[0])


    def square(pixels: np.ndarray) -> np.ndarray:
        return pixels if aspect == 1 else np.asarray(cv2.resize(pixels, size))

    image, own = square(prediction.image), square(prediction.saliency)
    title = f"{name}  frame {prediction.index}, {prediction.seconds:.2f} s".strip()
    if explanation.muted is None or explanation.elsewhere is None:
        return figure([[Panel(image, "picture"), Panel(heat(own), "saliency")]], title,
                      ["No sound: the file has none, or the network takes none. There is no interaction to show."])
    muted, elsewhere = square(explanation.muted), square(explanation.elsewhere)
    highest = max(float(x.max()) for x in (own, muted, elsewhere))
    difference = own - muted
    maps = [
        Panel(with_faces(image, prediction), "picture", _said(prediction.faces)),
        Panel(heat(own, highest), "map with its sound", f"highest {own.max():.2f}"),
        Panel(heat(muted, highest), "without sound", f"{moved(own, muted):.1%} of attention elsewhere"),
        Panel(heat(elsewhere, highest), "another moment’s sound",
              f"{moved(own, elsewhere):.1%} of attention elsewhere"),
        Panel(signed_heat(difference), "with minus without", f"dark {_signed(min(0, difference.min()))}, "
              f"grey 0, light {_signed(max(0, difference.max()))}"),
    ]
    stages = [
        Panel(heat_over(image, x), f"sound × picture, stage {i + 1}",
              f"{x.shape[0]}x{x.shape[1]}, {x.min() / x.mean():.1f} to {x.max() / x.mean():.1f} of its mean")
        for i, x in enumerate(explanation.interactions)
    ]
    stages += [Panel(None)] * (MAX_STAGES - len(stages))
    stages.append(Panel(_heard(explanation.heard, image.shape), f"what is heard ({HEARD_SECONDS} s)",
                        "above: its own; below: the other moment’s"))
    return figure([maps, stages], title, [
        "Maps share one scale. An interaction is the root mean square over channels of audio times picture, "
        "each stretched from its lowest to its highest."
    ])


def with_faces(image: np.ndarray, prediction: Prediction) -> np.ndarray:
    """The picture with a box around each face: green where it is taken to speak, grey where not."""
    if not prediction.faces:
        return image
    drawn, across = image.copy(), image.shape[1] / prediction.image.shape[1]  # pixels may not be square
    thick = max(1, image.shape[0] // 150)
    for face in prediction.faces:
        colour = SPEAKS if (face.speaking or 0.0) > 0.5 else LISTENS
        corner = round(face.left * across), round(face.top)
        other = round((face.left + face.width) * across), round(face.top + face.height)
        cv2.rectangle(drawn, corner, other, colour, thick)
        text = f"{face.track}" if face.speaking is None else f"{face.track}: {face.speaking:.2f}"
        cv2.putText(drawn, text, (corner[0], max(10, corner[1] - 3 * thick)), cv2.FONT_HERSHEY_SIMPLEX,
                    image.shape[0] / 700, colour, thick, cv2.LINE_AA)
    return drawn


def _said(faces: tuple[SpeakingFace, ...]) -> str:
    if not faces:
        return " "
    speaking = [str(face.track) for face in faces if (face.speaking or 0.0) > 0.5]
    count = f"{len(faces)} face{'s' * (len(faces) != 1)}"
    return f"{count}; speaking: {', '.join(speaking) or 'nobody'}"


def _signed(value: float) -> str:
    rounded = round(float(value), 3)
    return f"{rounded:+.3f}" if rounded else "0"


def _heard(spectrograms: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    low = min(float(s.min()) for s in spectrograms)
    high = max(float(s.max()) for s in spectrograms)
    height, width = shape[:2]
    bar = max(2, height // 60)
    half = max(1, (height - bar) // 2)
    parts = [cv2.resize(heat(s[::-1] - low, high - low), (width, half), interpolation=cv2.INTER_NEAREST)
             for s in spectrograms]
    for part in parts:
        part[:, width // 2] = 255  # the frame's own moment
    whole = np.concatenate([parts[0], np.full((height - 2 * half, width, 3), 255, np.uint8), parts[1]])
    return whole


def write_explanation(
    model: DiffSal,
    source: Source,
    path: Path,
    on_frame: Callable[[int], None] | None = None,
    **settings,
) -> int:
    """:func:`explain` into a picture (PNG, JPEG, PDF) or, for a span, a video with the sound; how many frames.

    Files appear whole or not at all. Raises :class:`InputError` where no frame lies in the span.
    """
    is_video = settings.get("frame") is None and not source.is_picture
    suffixes = OVERLAY_SUFFIXES if is_video else PICTURE_SUFFIXES
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: this explanation is one of {' '.join(suffixes)}; rename it")
    name, done = Path(source.name).name, 0
    square = replace(source, sample_aspect_ratio=Fraction(1))
    writer = VideoWriter(path, square, settings.get("start"), settings.get("end")) if is_video else None
    try:
        for explanation in explain(model, source, **settings):
            image = draw(explanation, name, source.sample_aspect_ratio)
            if writer:
                writer.write(explanation.prediction, image)
            else:
                write_figure(path, image)
            done += 1
            if on_frame:
                on_frame(done)
        if not done:
            raise InputError(f"{source.name}: no frame lies between --start and --end")
        if writer:
            writer.close()
    finally:
        if writer:
            writer.discard()
    return done
