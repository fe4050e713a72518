"""Named settings of training: functions, each with what it should reach and how long it takes."""

from __future__ import annotations

from diffsal.config import ModelConfig, TrainConfig

VALIDATION_SCENES = ("021", "022", "BasketballDrive", "Cactus", "Couple", "Lee", "SlideEditing", "Traffic")


def compact() -> tuple[ModelConfig, TrainConfig]:
    """The light network that the package carries: MobileNetV2, YAMNet, a narrow Saliency-UNet with all four stages.

    On the gaze layout, about an hour on two cores; MODEL_CARD.md holds what it reached.
    """
    model = ModelConfig(
        video_encoder="mobilenet_v2", audio_encoder="yamnet", widths=(96, 64, 32, 16), noise_width=8, time_width=128,
        fusion_width=48, output_width=24, map_stride=4, audio_key="add",
    )
    return model, TrainConfig(validation_scenes=VALIDATION_SCENES)


RECIPES = {"compact": compact}
