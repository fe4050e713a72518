"""Video and audio encoders by name: literal dicts, one network per file."""

from __future__ import annotations

from diffsal.networks.encoders.efficientnet_lite import EfficientNetLite0
from diffsal.networks.encoders.i3d import I3D
from diffsal.networks.encoders.mobilenet import MobileNetV2
from diffsal.networks.encoders.mvit import MViT
from diffsal.networks.encoders.resnet3d import ResNet3D
from diffsal.networks.encoders.s3d import S3D
from diffsal.networks.encoders.vggish import VGGish
from diffsal.networks.encoders.yamnet import YAMNet

VIDEO_ENCODERS = {
    "mvit_v2_s": MViT,
    "s3d": S3D,
    "resnet3d_50": ResNet3D,
    "i3d": I3D,
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
}
AUDIO_ENCODERS = {"vggish": VGGish, "yamnet": YAMNet}
