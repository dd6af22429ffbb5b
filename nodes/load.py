"""Load: a whole model, or one part of it, as ComfyUI's own types."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import host, inputs
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
                    tooltip="'tiny' is the bundled model, drawn shapes at 64×64. Others are model folders inside "
                    "ComfyUI's models/diffusion_models: with config.json, keyframe.safetensors, ..., or with the "
                    "official files of KandinskyVideo 1.0 or 1.1.",
                ),
                inputs.precision(),
                inputs.temporal_blocks(),
            ],
            outputs=[
                io.Model.Output(display_name="keyframes", tooltip="The U-Net that makes keyframes, for any sampler."),
                io.Model.Output(
                    display_name="interpolation", tooltip="The U-Net that makes the frames between, for Interpolate."
                ),
                io.Clip.Output(display_name="clip", tooltip="The text encoder, for Encode Text or CLIP Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="The MoVQ autoencoder, for Decode or VAE Decode."),
                io.Vae.Output(
                    display_name="image_vae",
                    tooltip="The MoVQ of the first frame (KandinskyVideo 1.1), for Image to Video; other models: vae.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str = host.BUNDLED) -> bool | str:
        """True, or one sentence that says where a missing model belongs."""
        return host.sentence(host.model_location, model_name)

    @classmethod
    def execute(cls, model_name: str, precision: str, temporal_blocks: str = host.AUTO) -> io.NodeOutput:
        """Load every part."""
        return io.NodeOutput(*host.load_parts(model_name, precision, temporal_blocks))


class LoadUNet(io.ComfyNode):
    """One U-Net from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_LoadUNet",
            display_name="FusionFrames Load U-Net",
            category=CATEGORY,
            description="Loads one U-Net of FusionFrames or KandinskyVideo, keyframes or interpolation, as MODEL. Load "
            "Model loads all parts of a model folder at once.",
            search_aliases=["fusionframes unet", "kandinsky video unet", "load diffusion model", "t2v.pt"],
            inputs=[
                _file(
                    "unet_name",
                    host.unet_names(),
                    "A U-Net in ComfyUI's models/diffusion_models: kandinsky_video.pt or "
                    "kandinsky_video_interpolation.pt (1.0), t2v.pt or interpolation.pt (1.1), one of these as "
                    ".safetensors, or one of a model folder.",
                ),
                inputs.precision(),
                inputs.temporal_blocks(),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Keyframes or interpolation, as the file holds.")],
        )

    @classmethod
    def validate_inputs(cls, unet_name: str = "") -> bool | str:
        """True, or one sentence that says where a missing file belongs."""
        return host.sentence(host.unet_file, unet_name)

    @classmethod
    def execute(cls, unet_name: str, precision: str, temporal_blocks: str = host.AUTO) -> io.NodeOutput:
        """Load the file."""
        return io.NodeOutput(host.load_unet_file(unet_name, precision, temporal_blocks))


class LoadTextEncoder(io.ComfyNode):
    """A text encoder from a folder, and its projection."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_LoadTextEncoder",
            display_name="FusionFrames Load Text Encoder",
            category=CATEGORY,
            description="Loads a text encoder as CLIP: Flan-UL2 with the projection of KandinskyVideo 1.0 or 1.1, or "
            "the bundled model's. Save Conditioning keeps what it encodes, so that 8.7 billion parameters need not "
            "stay.",
            search_aliases=["fusionframes text encoder", "flan-ul2", "load clip", "t5 projections"],
            inputs=[
                _file(
                    "text_encoder",
                    host.text_names(),
                    "A folder in ComfyUI's models/text_encoders with google/flan-ul2: its weights (.safetensors), "
                    "config.json and tokenizer.json. 'tiny' is the bundled model's.",
                ),
                _file(
                    "projection",
                    host.projection_names(),
                    "The file with the text projection: t5_projections.pt (1.1) in text_encoders, or "
                    "kandinsky_video.pt (1.0) in diffusion_models. 'auto' takes the one that is there; 'tiny' needs "
                    "none.",
                ),
                inputs.precision(),
            ],
            outputs=[io.Clip.Output(display_name="clip", tooltip="For Encode Text or CLIP Text Encode.")],
        )

    @classmethod
    def validate_inputs(cls, text_encoder: str = host.BUNDLED, projection: str = host.AUTO) -> bool | str:
        """True, or one sentence that says where a missing file belongs."""
        return host.sentence(host.check_text_files, text_encoder, projection)

    @classmethod
    def execute(cls, text_encoder: str, projection: str, precision: str) -> io.NodeOutput:
        """Load both."""
        return io.NodeOutput(host.load_text_files(text_encoder, projection, precision))


class LoadMoVQ(io.ComfyNode):
    """An autoencoder from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs as ComfyUI shows them."""
        return io.Schema(
            node_id="FusionFrames_LoadMoVQ",
            display_name="FusionFrames Load MoVQ",
            category=CATEGORY,
            description="Loads a MoVQ autoencoder as VAE: of videos, or (KandinskyVideo 1.1) of the first frame.",
            search_aliases=["fusionframes vae", "movq loader", "load vae", "video_movq.pt"],
            inputs=[
                _file(
                    "movq_name",
                    host.movq_names(),
                    "A MoVQ in ComfyUI's models/vae: movq.pt (1.0, and 1.1's of the first frame), video_movq.pt (1.1), "
                    "or one of these as .safetensors.",
                ),
                inputs.precision(),
            ],
            outputs=[
                io.Vae.Output(display_name="vae", tooltip="For Decode, VAE Decode, Encode Video, Image to Video.")
            ],
        )

    @classmethod
    def validate_inputs(cls, movq_name: str = "") -> bool | str:
        """True, or one sentence that says where a missing file belongs."""
        return host.sentence(host.movq_file, movq_name)

    @classmethod
    def execute(cls, movq_name: str, precision: str) -> io.NodeOutput:
        """Load the file."""
        return io.NodeOutput(host.load_movq_file(movq_name, precision))


def _file(name: str, options: list[str], tooltip: str) -> Any:
    """A choice of files, the bundled one first."""
    return io.Combo.Input(name, options=options, default=options[0], tooltip=tooltip)
