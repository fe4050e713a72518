"""Figures 7, 8 and 9: what sound and picture have in common over a frame; maps beside people's and other models'"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from diffsal.data.clip import Clip
from diffsal.data.databases import find, root_of
from diffsal.data.map_files import MapFiles
from diffsal.errors import InputError
from diffsal.figures import compare
from diffsal.figures.explain import draw as draw_explanation
from diffsal.figures.explain import explain
from diffsal.outputs.panels import Panel, figure, heat_over, write_figure
from diffsal.reproduce.steps import Evaluation, Network
from diffsal.scoring.map_sources import MapFolder, folder_of
from diffsal.weights.files import load

CLIPS = 3  # of a set, evenly spread over its list
PAIRS = 2  # in a row of Figure 7
OURS = "DiffSal"
FOLD = 1


def shown_clips(data: Path, dataset: str) -> list[Clip]:
    """The test videos of fold 1 that are shown: the first, and others evenly spread."""
    database = find(dataset)
    clips = database(root_of(data, dataset), database.scored_split, FOLD)
    return clips[:: -(-len(clips) // CLIPS)]


def draw_figure7(
    network: Network, data: Path, datasets: Sequence[str], device: str, paths: tuple[Path, ...]
) -> list[str]:
    """Pairs of pictures as ``paths[0]``; every clip's whole explanation in the folder ``paths[1]``."""
    sheet, folder = paths
    model, pairs, problems = load(str(network.weights)), [], []
    folder.mkdir(parents=True, exist_ok=True)
    for clip in (clip for name in datasets for clip in shown_clips(data, name)):
        try:
            index = clip.num_frames // 2
            (seen,) = explain(model, clip.source(), frame=index, device=device)
        except InputError as error:
            problems.append(str(error))
            continue
        if not seen.interactions:
            problems.append(f"{clip.video}: has no sound, or the network takes none; left out of Figure 7")
            continue
        name = f"{clip.dataset} {clip.name}"
        write_figure(folder / f"{clip.dataset}-{clip.name}.png", draw_explanation(seen, name, Fraction(1)))
        image = seen.prediction.image
        pairs.append([Panel(image, f"{name}, {seen.prediction.seconds:.2f} s"),
                      Panel(heat_over(image, common_area(seen.interactions)), "sound × picture")])
    if not pairs:
        raise InputError(f"figure7: no clip can be shown: {problems[0] if problems else 'there is none'}")
    rows = [[panel for pair in pairs[i : i + PAIRS] for panel in pair] for i in range(0, len(pairs), PAIRS)]
    write_figure(sheet, figure(rows, "Figure 7: key audio-visual areas", [
        f"Test videos of fold {FOLD}, each its middle frame. Heat: the root mean square over channels of sound times "
        "picture, mean of the modulation stages, each over its own mean."]))
    return problems


def common_area(interactions: Sequence[np.ndarray]) -> np.ndarray:
    """The stages' interactions (H, W), coarse to fine, as one map at the finest size: each over its mean, averaged."""
    height, width = interactions[-1].shape
    scaled = (np.float32(x / max(float(x.mean()), 1e-12)) for x in interactions)
    return np.mean([cv2.resize(x, (width, height)) for x in scaled], axis=0)


def draw_figures8_and_9(
    scored: Sequence[Evaluation], others: dict[str, Path], paths: tuple[Path, ...]
) -> list[str]:
    """One picture per evaluation: its clips one below the other, on frames that ``diffsal compare`` chooses."""
    problems: list[str] = []
    for evaluation, path in zip(scored, paths, strict=True):
        images = []
        for clip in shown_clips(evaluation.data, evaluation.dataset):
            try:
                images.append(compared(clip, evaluation, others, problems))
            except InputError as error:
                problems.append(str(error))
        if not images:
            raise InputError(f"{path}: no clip of {evaluation.dataset} can be shown: {problems[-1]}")
        width = max(image.shape[1] for image in images)
        write_figure(path, np.concatenate([
            np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)), constant_values=255) for image in images]))
    return problems


def compared(clip: Clip, evaluation: Evaluation, others: dict[str, Path], problems: list[str]) -> np.ndarray:
    """One clip's frames: picture, people, ours, and the other models that have maps of it; RGB uint8."""
    assert evaluation.maps is not None and isinstance(clip.truth, MapFiles)
    source, models = clip.source(), []
    for name, root in {OURS: evaluation.maps, **others}.items():
        folder = folder_of(root, clip) if name == OURS else MapFolder(name, root).folder(clip)
        if folder is None:
            problems.append(f"{root}: holds no folder of {clip.name}, so {name} is not shown beside it")
            continue
        models.append(compare.Maps.read(name, folder, source))
    humans = compare.Humans.read(clip.truth.maps.parent, source)
    comparison = compare.measure(source, models, humans)
    problems += comparison.problems
    return compare.draw(source, models, humans, comparison)
