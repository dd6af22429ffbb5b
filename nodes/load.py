"""Load: a model folder, or the bundled tiny model, as ComfyUI's own types."""

from __future__ import annotations

from comfy_api.latest import io

from . import host
from .sockets import CATEGORY


class LoadModel(io.ComfyNode):
    """Text encoder, keyframe and interpolation U-Nets and decoder of one model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_LoadModel",
            display_name="FusionFrames Load Model",
            category=CATEGORY,
            description="Loads a FusionFrames model as ComfyUI's own MODEL, CLIP and VAE, so that stock samplers, LoRA "
            "loaders and decoders work on it. 'tiny' comes with the pack and needs no download.",
            search_aliases=["fusionframes", "kandinsky video", "kandinskyvideo loader", "text to video model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=host.model_names(),
                    default=host.BUNDLED,
                    tooltip="'tiny' is the bundled model, drawn shapes at 64×64. Others are model folders "
                    "(config.json, keyframe.safetensors, ...) inside ComfyUI's models/diffusion_models.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(host.PRECISIONS),
                    default="auto",
                    tooltip="Number format of the weights. 'auto' takes what ComfyUI chooses for the device.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="keyframes", tooltip="The U-Net that makes keyframes, for any sampler."),
                io.Model.Output(
                    display_name="interpolation", tooltip="The U-Net that makes the frames between, for Interpolate."
                ),
                io.Clip.Output(display_name="clip", tooltip="The text encoder, for Encode Text or CLIP Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="The MoVQ autoencoder, for Decode or VAE Decode."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str = host.BUNDLED) -> bool | str:
        """True, or one sentence that says where a missing model belongs."""
        return host.sentence(host.model_location, model_name)

    @classmethod
    def execute(cls, model_name: str, precision: str) -> io.NodeOutput:
        """Load every part."""
        return io.NodeOutput(*host.load_parts(model_name, precision))
