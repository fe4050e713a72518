"""Video and audio encoders by name: literal dicts, one network per file."""

from __future__ import annotations

from diffsal.encoders.mobilenet import MobileNetV2
from diffsal.encoders.mvit import MViT
from diffsal.encoders.vggish import VGGish
from diffsal.encoders.yamnet import YAMNet

VIDEO_ENCODERS = {"mvit_v2_s": MViT, "mobilenet_v2": MobileNetV2}
AUDIO_ENCODERS = {"vggish": VGGish, "yamnet": YAMNet}
