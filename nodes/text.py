"""Encode text: a prompt as the U-Nets' context."""

from __future__ import annotations

from comfy_api.latest import io

from . import host
from .sockets import CATEGORY, Model, Text


class EncodeText(io.ComfyNode):
    """A prompt through the model's T5 encoder and projection."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_EncodeText",
            display_name="FusionFrames Encode Text",
            category=CATEGORY,
            description="Encodes a prompt with the model's text encoder. An empty prompt means unconditional.",
            search_aliases=["fusionframes prompt", "kandinsky video prompt", "text encode", "clip text encode"],
            inputs=[
                Model.Input("model", tooltip="The model whose text encoder reads the prompt."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a large red circle moving right",
                    tooltip="What the video shows. The tiny model knows coloured shapes that move, for example 'a "
                    "small blue star, spinning'. Text beyond the model's length is cut, with a warning in the log.",
                ),
            ],
            outputs=[Text.Output(display_name="text", tooltip="The encoded prompt.")],
        )

    @classmethod
    def execute(cls, model: host.HostedModel, prompt: str) -> io.NodeOutput:
        """Encode one prompt."""
        with model.on_device() as pipeline:
            return io.NodeOutput(host.to_intermediate(pipeline.encode_text([prompt])))
