"""The settings of a network, of sampling and of a finished map: frozen dataclasses that validate themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from diffsal.settings import Bounds, Settings, require

CLIP_FRAMES = 16  # frames in a window
FACE_CROPS, FACE_CROP_SIDE = 5, 112  # how many of a face LR-ASD takes at once, and their side in pixels

VideoEncoderName = Literal["mvit_v2_s", "s3d", "resnet3d_50", "i3d", "mobilenet_v2", "efficientnet_lite0"]
AudioEncoderName = Literal["vggish", "yamnet"]
FRAME_ENCODERS = ("mobilenet_v2", "efficientnet_lite0")  # the video encoders that encode single frames
Spacing = Literal["linspace", "leading", "trailing"]
Prediction = Literal["x_0", "noise", "map"]
SoundFusion = Literal["modulation", "cross_attention", "addition", "concatenation"]
NoiseScheduleName = Literal["cosine", "linear"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# The audio-visual network's normalisation (REFERENCE.md, section 1), from 0-255 to [0, 1]
AUDIO_VISUAL_MEAN = (114.7748 / 255, 107.7354 / 255, 99.475 / 255)
AUDIO_VISUAL_STD = (38.7568578 / 255, 37.88248729 / 255, 40.02898126 / 255)


Count = Annotated[int, Bounds(least=1)]
Side = Annotated[int, Bounds(least=32, most=2048)]  # of the input, in pixels
Gain = Annotated[float, Bounds(least=0, most=100)]
Share = Annotated[float, Bounds(least=0, below=1)]


@dataclass(frozen=True)
class Preprocessing(Settings):
    """How a frame and its sound become the network's input.

    ``mean`` and ``std`` are per RGB channel, for pixels in [0, 1]. ``sound`` says how a window's sound is cut:
    ``"timestamps"`` by time on the video's clock (ours), ``"released"`` as the released code does it, by counting
    frames at the file's own sample rate (golden/RELEASED.md, "Sound -> mel").
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: Annotated[tuple[float, float, float], Bounds(over=0)] = IMAGENET_STD
    sound: Literal["timestamps", "released"] = "timestamps"


@dataclass(frozen=True)
class ModelConfig(Settings):
    """One DiffSal network. The defaults are the paper's, with what the released code gets wrong mended.

    Widths go from the coarsest stage to the finest, as the decoder runs. Where the paper can be read in two ways, the
    nearer reading is named first and docs/paper.md gives the reason for the default.
    """

    video_encoder: VideoEncoderName = "mvit_v2_s"
    audio_encoder: AudioEncoderName | None = "vggish"
    modulation_stages: Annotated[int, Bounds(least=1, most=4)] = 4
    num_frames: Annotated[int, Bounds(least=8, most=64)] = CLIP_FRAMES
    height: Side = 224
    width: Side = 384
    widths: Annotated[tuple[int, int, int, int], Bounds(least=1)] = (768, 384, 192, 96)  # channels of the four stages
    noise_width: Count = 96  # channels of the noise branch's first convolution
    noise_widths: Annotated[tuple[int, int, int], Bounds(least=1)] | None = None  # a narrower branch's; None: the same
    time_width: Count = 384  # width of the time embedding
    fusion_width: Count = 768  # channels into which the stages' slots are reduced
    output_width: Count = 96  # channels before the last 1x1 convolution
    centre_prior: bool = False  # a learned map of where people look whatever they see, added before the sigmoid
    map_stride: Literal[1, 2, 4, 8] = 2  # the stages are summed at this stride of the input (the paper: 112x192)
    heads: Count = 2
    mlp_ratio: Annotated[float, Bounds(over=0)] = 2.0
    dropout: Share = 0.1  # in the noise branch's residual blocks
    drop_path: Share = 0.0  # stochastic depth, its rate at the last of the encoder's blocks
    fused_slots: Count | None = None  # slots the temporal reduction sees; None: all. The released code: 5 of 9
    attention_scale: Literal["head", "width"] = "head"
    interaction_softmax: Literal["picture", "row"] = "picture"
    interaction_scale: Literal["one", "positions"] = "positions"  # a picture's gates as they are, or times H·W: mean 1
    attention_span: Literal["window", "slot"] = "slot"  # whether a position attends to all slots, or to its own
    encoder_stream: Literal["plain", "normalised"] = "normalised"  # what MViT's next block gets after a scale's norm
    audio_memory: Literal["aligned", "released"] = "aligned"  # "released": memory re-read without transposing
    query_depth: Literal[1, 3] = 1  # temporal extent of Q's kernel over its one slot; the released network carries 3
    sound_fusion: SoundFusion = "modulation"  # the paper's; the others are its ablations, without a gate
    audio_key: Literal["replace", "add"] = "replace"  # gated audio in place of K's input, or added to it
    predicts: Prediction = "x_0"  # what the last layer gives: S_0, the noise, or the map without noise and timestep
    noise_schedule: NoiseScheduleName = "cosine"  # of the forward process: the paper's, or Ho et al.'s linear betas
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def check(self) -> None:
        require(self.num_frames % 2 == 0, f"num_frames is {self.num_frames}, expected an even number from 8 to 64")
        require(self.video_encoder not in FRAME_ENCODERS or self.num_frames % 4 == 0,
                f"num_frames is {self.num_frames}, expected a multiple of 4: {self.video_encoder} mixes every second "
                "frame of a window, its own among them")
        for name in ("height", "width"):
            value = getattr(self, name)
            require(value % 32 == 0, f"{name} is {value}, expected a multiple of 32")
        for w in self.widths:
            require(w % self.heads == 0, f"stage width {w} is not a multiple of heads = {self.heads}")

    @classmethod
    def released(cls, sound: bool) -> ModelConfig:
        """The released network, oddities included (golden/RELEASED.md); ``sound``: the audio-visual one."""
        mean, std = (AUDIO_VISUAL_MEAN, AUDIO_VISUAL_STD) if sound else (IMAGENET_MEAN, IMAGENET_STD)
        return cls(
            audio_encoder="vggish" if sound else None,
            fused_slots=5,
            attention_scale="width",
            interaction_softmax="row",
            audio_memory="released",
            query_depth=3,
            preprocessing=Preprocessing(mean, std, "released"),
        )


@dataclass(frozen=True)
class Finish(Settings):
    """What is done to a network's map once, after the last step of Algorithm 2. The network itself applies nothing.

    In this order, at the map's own stride: ``centre_gain`` times ``centre`` (the logarithm of a mean map, rows from the
    top, enlarged bilinearly) is added to the map's logit; the map is raised to ``exponent``; it is multiplied by
    exp(``motion_gain`` × motion + ``sound_gain`` × sound + ``speaker_gain`` × speaker), scaled so that the map's peak
    stays as high as it was; it becomes the mean of the maps around it in time, each weighed by exp(−distance /
    ``past_seconds``) before it and exp(−distance / ``future_seconds``) after it. The defaults change nothing.
    """

    exponent: Annotated[float, Bounds(over=0, most=10)] = 1.0  # above 1: narrower peaks on a darker ground
    motion_gain: Gain = 0.0  # of what moves in a picture that is otherwise still
    sound_gain: Gain = 0.0  # of what moves as the sound gets loud
    speaker_gain: Gain = 0.0  # of the face that speaks
    centre_gain: Gain = 0.0
    centre: tuple[tuple[float, ...], ...] | None = None  # height / 32 rows of width / 32 values
    past_seconds: Annotated[float, Bounds(least=0, most=2)] = 0.0  # of the mean over time; 0: no maps before
    future_seconds: Annotated[float, Bounds(least=0, most=2)] = 0.0

    def check(self) -> None:
        require(self.centre is not None or self.centre_gain == 0, "centre_gain needs a centre")
        rows = self.centre
        require(rows is None or (0 < len(rows) <= 64 and 0 < len(rows[0]) <= 64
                                 and all(len(row) == len(rows[0]) for row in rows)),
                "centre needs 1 to 64 rows of equal length, 1 to 64")
        require(rows is None or all(abs(v) <= 100 for row in rows for v in row), "centre holds a value beyond 100")


@dataclass(frozen=True)
class SamplingConfig(Settings):
    """Algorithm 2's settings: ``steps`` network calls on a timestep grid."""

    steps: Annotated[int, Bounds(least=1, most=1000)] = 1
    spacing: Spacing = "linspace"
    seed: int = 0
