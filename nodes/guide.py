"""Given keyframes for models that continue no image."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.sampling.guides import PULL
from ..fusionframes_core.settings import MAX_KEYFRAMES
from . import host, input_checks, inputs
from .sockets import CATEGORY

_SIDE = (
    "The video's {0} in pixels, as in Sample Keyframes: the image is scaled and cropped to it. 0 is the model's own."
)


class AddGuide(inputs.Sized):
    """A keyframe that is given, at any place of the video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_AddGuide",
            display_name="FusionFrames Add Guide",
            category=CATEGORY,
            description="Gives a keyframe model a picture for one of its keyframes: the first, the last or any other. "
            "Chain several of these nodes for several pictures.",
            search_aliases=["guide", "keyframe image", "first last frame", "image to video", "start end frame", "i2v"],
            inputs=[
                io.Model.Input("model", tooltip=inputs.KEYFRAME_MODEL),
                io.Int.Input(
                    "index",
                    display_name="keyframe",
                    default=0,
                    min=-MAX_KEYFRAMES,
                    max=MAX_KEYFRAMES - 1,
                    tooltip="Which keyframe the picture is: 0 is the first, -1 the last, -2 the one before it. Several "
                    "pictures take the places that follow, and end at a place from the end.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How long the picture is held, as a share of the steps: 1 keeps it as it is, 0.6 lets the "
                    "model change details.",
                ),
                io.Float.Input(
                    "pull",
                    default=PULL,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How strongly the keyframes around begin with the picture too, blended between two "
                    "guides. 0 leaves them to the prompt; more makes the video keep closer to the pictures.",
                ),
                inputs.side("width", _SIDE.format("width")),
                inputs.side("height", _SIDE.format("height")),
                io.Vae.Input("vae", optional=True, tooltip="The VAE of the model, when image is connected."),
                io.Image.Input(
                    "image", optional=True, tooltip="The picture, or several for neighbouring keyframes. Needs vae."
                ),
                io.Latent.Input(
                    "latents",
                    optional=True,
                    tooltip="Frames as latents in the place of image, for example the last keyframes of another video "
                    "that this one goes on from.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For Sample Keyframes, any sampler or Add Guide.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        index: int,
        strength: float,
        pull: float,
        width: int,
        height: int,
        vae: Any = None,
        **given: Any,
    ) -> io.NodeOutput:
        """Patch a clone."""
        input_checks.check_size(width, height)
        host.require_text_model(model)
        check_shares(strength=strength, pull=pull)
        image, latents = given.get("image"), given.get("latents")
        if (image is None) == (latents is None):
            raise ValueError("connect either image or latents")
        if latents is not None:
            host.require_latents(latents["samples"])
            return io.NodeOutput(host.with_guides(model, latents["samples"], index, strength, pull))
        if vae is None or image is None:
            raise ValueError("vae must be connected with image")
        host.require_our_vae(vae)
        shape = host.video_shape(model, height, width, 1)
        host.show_values(model, f"{shape.width}×{shape.height} pixels", None)
        return io.NodeOutput(host.with_guides(model, host.encode_guides(vae, image, shape.size), index, strength, pull))


def check_shares(**shares: float) -> None:
    """Raise ValueError for NaN, which passes ComfyUI's own check of the range."""
    for name, value in shares.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be from 0 to 1; got {value}")
