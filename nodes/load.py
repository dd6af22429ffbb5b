"""Load: a model folder, or the bundled tiny model."""

from __future__ import annotations

from comfy_api.latest import io

from . import host
from .sockets import CATEGORY, Model


class LoadModel(io.ComfyNode):
    """Text encoder, keyframe and interpolation U-Nets and decoder of one model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_LoadModel",
            display_name="FusionFrames Load Model",
            category=CATEGORY,
            description="Loads a FusionFrames model: text encoder, keyframe and interpolation U-Nets and video "
            "decoder. 'tiny' comes with the pack and needs no download.",
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
                    tooltip="Number format of the weights. 'auto' takes what suits the device: 32 bits on a CPU, 16 "
                    "bits on a GPU.",
                ),
            ],
            outputs=[Model.Output(display_name="model", tooltip="The loaded model, for the other FusionFrames nodes.")],
        )

    @classmethod
    def validate_inputs(cls, model_name: str = host.BUNDLED) -> bool | str:
        """True, or one sentence that says where a missing model belongs."""
        return host.sentence(host.model_location, model_name)

    @classmethod
    def execute(cls, model_name: str, precision: str) -> io.NodeOutput:
        """Load the model, or take it from the last load."""
        return io.NodeOutput(host.load_model(model_name, precision))
