"""The five targets, each as its last step: what is trained, what is scored, and what is drawn from it"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from diffsal.data.databases import find
from diffsal.errors import InputError
from diffsal.reproduce.curve import draw_figure6
from diffsal.reproduce.pictures import draw_figure7, draw_figures8_and_9
from diffsal.reproduce.steps import Drawing, Evaluation, Given, Network, Step, Training
from diffsal.reproduce.tables import draw_table7, draw_table8
from diffsal.scoring.protocols import seed_of
from diffsal.settings import nearest

MAIN = "mvit_v2_s"  # the paper's encoder
ENCODERS = ("resnet3d_50", "s3d", MAIN)  # in Table 7's order
FOLDS = (1, 2, 3)
TABLE7_SETS = ("avad", "etmd", "coutrot1")
FIGURE6_SETS = ("avad", "etmd")
FIGURE6_STAGES = (1, 2, 3, 4)
FIGURE7_SETS = ("avad", "coutrot2")  # instruments and speakers; conversations
TABLE8_SETS = ("dhf1k", "hollywood2", "ucf_sports")
FIGURE8_SET, FIGURE9_SET = "avad", "etmd"
RELEASED, QUICK = "released", "ntire"  # protocols: the paper's own code's; one that leaves no short clip out
# A network and a run that take a second: what every target becomes with ``narrow``
NARROW_FRAMES = 6  # of a clip
NARROW = ("video_encoder=mobilenet_v2", "height=64", "width=64", "num_frames=8", "widths=32,32,32,32", "noise_width=32",
          "time_width=64", "fusion_width=16", "output_width=8", "dropout=0", "batch_size=2", "epochs=1",
          "window_stride=36", "hold_out=2", "validation_windows=1", "num_workers=0")
NARROW_SOUND = ("audio_encoder=yamnet", "databases=avad,etmd,coutrot1")


@dataclass(frozen=True)
class Request:
    """What was asked for. ``weights`` by network, "" for the paper's own; ``init`` by encoder, None: from nothing.

    ``maps`` are other models' maps by name. ``settings`` are ``key=value`` of every training.
    """

    data: Path
    out: Path
    weights: dict[str, Path] = field(default_factory=dict)
    init: dict[str, Path | None] = field(default_factory=dict)
    maps: dict[str, Path] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    protocol: str | None = None
    device: str = "cpu"
    workers: int = 1
    narrow: bool = False

    def folds(self, is_main: bool) -> tuple[int, ...]:
        """All three; of what is narrow, one where the network is not the paper's own."""
        return FOLDS if is_main or not self.narrow else FOLDS[:1]

    # --- networks -------------------------------------------------------------------------------------------------

    def given(self, name: str) -> Given | None:
        """The weights that were given for a network: by its name, by its name without the fold, or for all."""
        path = self.weights.get(name) or self.weights.get(name.rpartition("-")[0])
        if path is None and (name.startswith(f"{MAIN}-") or name in TABLE8_SETS):
            path = self.weights.get("")
        return Given(name, path) if path is not None else None

    def training(
        self, name: str, recipe: str, settings: tuple[str, ...], encoders: tuple[str, ...] = (),
        after: tuple[Training | Given, ...] = (),
    ) -> Training:
        """A run in ``out/runs/NAME``, from the weights of ``after`` and those given for ``encoders``."""
        files = tuple(path for e in encoders if (path := self.init.get(e)) is not None)
        lacks = () if self.narrow else tuple(e for e in encoders if e not in self.init)
        narrow = (*NARROW, *(NARROW_SOUND if recipe == "audio_visual" else ())) if self.narrow else ()
        narrow += (f"seed={seed_of(name)}",) if self.narrow else ()  # so that networks differ
        return Training(name, recipe, self.data, self.out / "runs" / name, (*settings, *narrow, *self.settings),
                        (*after, *files), lacks)

    def video_only(self, base: str = MAIN, settings: tuple[str, ...] = ()) -> Training | Given:
        """The network without sound on DHF1K: Table 8's, and what those with sound start from."""
        name, encoder = f"{base}-video", base if base in ENCODERS else MAIN
        return self.given(name) or self.training(name, "dhf1k", (f"video_encoder={encoder}", *settings), (encoder,))

    def with_sound(self, fold: int, base: str = MAIN, settings: tuple[str, ...] = ()) -> Training | Given:
        """The network with sound on the training videos of one fold, from :meth:`video_only`."""
        name, encoder = f"{base}-fold{fold}", base if base in ENCODERS else MAIN
        return self.given(name) or self.training(
            name, "audio_visual", (f"video_encoder={encoder}", *settings, f"fold={fold}"), ("vggish",),
            (self.video_only(base, settings),))

    def stages(self, number: int, fold: int) -> Training | Given:
        """Figure 6's network of so many modulation stages; with four it is the paper's."""
        if number == FIGURE6_STAGES[-1]:
            return self.with_sound(fold)
        return self.with_sound(fold, f"stages{number}", (f"modulation_stages={number}",))

    def of_table8(self, dataset: str) -> Training | Given:
        """The network of one row of Table 8's columns; on Hollywood-2 and UCF Sports it starts from DHF1K's."""
        first = self.given("dhf1k") or self.video_only()
        return first if dataset == "dhf1k" else self.given(dataset) or self.training(dataset, dataset, (), (), (first,))

    # --- scores ---------------------------------------------------------------------------------------------------

    def evaluation(
        self, network: Training | Given, dataset: str, fold: int | None = None, keeps_maps: bool = False
    ) -> Evaluation:
        """In ``out/scores/PROTOCOL/NETWORK/DATASET``; what keeps its maps, in ``out/maps/NETWORK/DATASET``."""
        protocol = self.protocol or (QUICK if self.narrow else RELEASED)
        kind = "scores-with-maps" if keeps_maps else "scores"
        place = Path(network.name) / dataset
        return Evaluation(
            network, dataset, self.data, self.out / kind / protocol / place, protocol,
            fold if find(dataset).num_test else None, self.out / "maps" / place if keeps_maps else None,
            self.device, self.workers)

    def drawing(
        self, target: str, needs: tuple[Training | Evaluation, ...], results: tuple[str, ...],
        draw: Callable[[tuple[Path, ...]], list[str]],
    ) -> Drawing:
        paths = tuple(self.out / name for name in results)
        return Drawing(target, needs, paths, partial(draw, paths))


def table7(request: Request) -> Step:
    """Three video encoders on AVAD, ETMD and Coutrot1: a network per encoder and fold, each scored on its fold."""
    scored = {encoder: {name: tuple(request.evaluation(request.with_sound(fold, encoder), name, fold)
                                    for fold in request.folds(encoder == MAIN))
                        for name in TABLE7_SETS} for encoder in ENCODERS}
    every = tuple(one for sets in scored.values() for folds in sets.values() for one in folds)
    return request.drawing("table7", every, ("table7.md", "table7.json"), partial(draw_table7, scored))


def figure6(request: Request) -> Step:
    """One to four modulation stages on AVAD and ETMD: a network per number and fold, and a curve."""
    scored = {number: {name: tuple(request.evaluation(request.stages(number, fold), name, fold)
                                   for fold in request.folds(number == FIGURE6_STAGES[-1]))
                       for name in FIGURE6_SETS} for number in FIGURE6_STAGES}
    every = tuple(one for sets in scored.values() for folds in sets.values() for one in folds)
    results = ("figure6.png", "figure6.pdf", "figure6.md", "figure6.json")
    return request.drawing("figure6", every, results, partial(draw_figure6, scored))


def figure7(request: Request) -> Step:
    """Where sound and picture meet, over the frame: the fold-1 network on fold 1's test videos."""
    network = request.with_sound(1)
    draw = partial(draw_figure7, network, request.data, FIGURE7_SETS, request.device)
    return request.drawing("figure7", _trained(network), ("figure7.png", "figure7"), draw)


def table8(request: Request) -> Step:
    """The network without sound on DHF1K, Hollywood-2 and UCF Sports, beside eight others, with its size."""
    scored = {name: request.evaluation(request.of_table8(name), name) for name in TABLE8_SETS}
    return request.drawing("table8", tuple(scored.values()), ("table8.md", "table8.json"),
                           partial(draw_table8, scored))


def figures8_and_9(request: Request) -> Step:
    """Frames beside people's maps, ours and those of other models (``--maps``): fold 1's test videos."""
    network = request.with_sound(1)
    scored = tuple(request.evaluation(network, name, 1, keeps_maps=True) for name in (FIGURE8_SET, FIGURE9_SET))
    return request.drawing("figures8-9", scored, ("figure8.png", "figure9.png"),
                           partial(draw_figures8_and_9, scored, request.maps))


TARGETS: dict[str, Callable[[Request], Step]] = {
    "table7": table7, "figure6": figure6, "figure7": figure7, "table8": table8, "figures8-9": figures8_and_9,
}
DATABASES = {
    "table7": ("dhf1k", *TABLE7_SETS, "coutrot2"), "figure6": ("dhf1k", *TABLE7_SETS, "coutrot2"),
    "figure7": ("dhf1k", *TABLE7_SETS, "coutrot2"), "table8": TABLE8_SETS,
    "figures8-9": ("dhf1k", *TABLE7_SETS, "coutrot2"),
}  # what the narrow runs read


def _trained(network: Network) -> tuple[Training, ...]:
    return (network,) if isinstance(network, Training) else ()


def target(name: str) -> Callable[[Request], Step]:
    """``TARGETS[name]``; :class:`InputError` with the nearest name for one that is not there."""
    if name not in TARGETS:
        raise InputError(f"{name}: no such target: {nearest(name, list(TARGETS))}")
    return TARGETS[name]
