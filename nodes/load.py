"""Load: a whole model, or one part of it, as ComfyUI's own types."""

from __future__ import annotations

from comfy_api.latest import io

from . import host, inputs
from .sockets import CATEGORY


class LoadModel(io.ComfyNode):
    """Text encoder, keyframe and interpolation U-Nets and decoder of one model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_LoadModel",
            display_name="FusionFrames Load Model",
            category=CATEGORY,
            description="Loads a whole FusionFrames model as MODEL, CLIP and VAE, which stock samplers, LoRA loaders "
            "and decoders take too. 'tiny' comes with the pack and needs no download.",
            search_aliases=["fusionframes", "kandinsky video", "kandinskyvideo loader", "text to video model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=host.model_names(),
                    default=host.BUNDLED,
                    tooltip="Which model to load. 'tiny' comes with the pack and draws moving shapes at 64×64 pixels; "
                    "put the folder of another model, or of the official KandinskyVideo files, into "
                    "models/diffusion_models to see it here.",
                ),
                inputs.precision(),
                inputs.temporal_blocks(),
            ],
            outputs=[
                io.Model.Output(
                    display_name="keyframes", tooltip="Makes keyframes: for Sample Keyframes or any sampler."
                ),
                io.Model.Output(
                    display_name="interpolation", tooltip="Makes the frames between keyframes: for Interpolate."
                ),
                io.Clip.Output(display_name="clip", tooltip="Reads prompts: for Encode Text or CLIP Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="For Decode, VAE Decode and Encode Video."),
                io.Vae.Output(
                    display_name="image_vae",
                    tooltip="For the first frame in Image to Video (KandinskyVideo 1.1). Other models: the same as vae."
                    "",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None = host.BUNDLED) -> bool | str:
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
        return io.Schema(
            node_id="FusionFrames_LoadUNet",
            display_name="FusionFrames Load U-Net",
            category=CATEGORY,
            description="Loads one U-Net of FusionFrames or KandinskyVideo, for keyframes or for interpolation. Load "
            "Model loads all parts of a model folder at once.",
            search_aliases=["fusionframes unet", "kandinsky video unet", "load diffusion model", "t2v.pt"],
            inputs=[
                _file(
                    "unet_name",
                    host.unet_names(),
                    "A file in models/diffusion_models: kandinsky_video or kandinsky_video_interpolation "
                    "(KandinskyVideo 1.0), t2v or interpolation (1.1), as .pt or .safetensors, or a U-Net of a model "
                    "folder.",
                ),
                inputs.precision(),
                inputs.temporal_blocks(),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="A keyframe model for Sample Keyframes, or an interpolation model for Interpolate: "
                    "whichever the file is.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, unet_name: str | None = "") -> bool | str:
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
        return io.Schema(
            node_id="FusionFrames_LoadTextEncoder",
            display_name="FusionFrames Load Text Encoder",
            category=CATEGORY,
            description="Loads a text encoder: Flan-UL2 for KandinskyVideo 1.0 and 1.1, or that of tiny. Flan-UL2 has "
            "8.7 billion parameters; with Save Conditioning you need it only once per prompt.",
            search_aliases=["fusionframes text encoder", "flan-ul2", "load clip", "t5 projections"],
            inputs=[
                _file(
                    "text_encoder",
                    host.text_names(),
                    "A folder in models/text_encoders with google/flan-ul2: its weights (.safetensors or "
                    "pytorch_model*.bin), config.json and tokenizer.json. 'tiny' is that of the bundled model.",
                ),
                _file(
                    "projection",
                    host.projection_names(),
                    "The file that fits the text encoder to the model: t5_projections.pt in models/text_encoders "
                    "(KandinskyVideo 1.1), or kandinsky_video.pt in models/diffusion_models (1.0). 'auto' finds it; "
                    "tiny needs none.",
                ),
                inputs.precision(
                    "The number format of the weights. 'auto' keeps the 16 bits of the files, or else lets ComfyUI "
                    "choose; 'bf16' and 'fp16' need half the memory of 'fp32'; 'fp8' is 'bf16' here."
                ),
            ],
            outputs=[
                io.Clip.Output(display_name="clip", tooltip="Reads prompts: for Encode Text or CLIP Text Encode.")
            ],
        )

    @classmethod
    def validate_inputs(cls, text_encoder: str | None = host.BUNDLED, projection: str | None = host.AUTO) -> bool | str:
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
        return io.Schema(
            node_id="FusionFrames_LoadMoVQ",
            display_name="FusionFrames Load VAE",
            category=CATEGORY,
            description="Loads the VAE of a FusionFrames model, called MoVQ, which turns latents into frames and back.",
            search_aliases=["fusionframes vae", "load movq", "movq loader", "load vae", "video_movq.pt"],
            inputs=[
                _file(
                    "movq_name",
                    host.movq_names(),
                    "A file in models/vae: movq (KandinskyVideo 1.0, and the first frame of 1.1) or video_movq (1.1), "
                    "as .pt or .safetensors.",
                    display_name="vae_name",
                ),
                inputs.precision(),
            ],
            outputs=[
                io.Vae.Output(
                    display_name="vae", tooltip="For Decode, VAE Decode and Encode Video; movq also for Image to Video."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, movq_name: str | None = "") -> bool | str:
        """True, or one sentence that says where a missing file belongs."""
        return host.sentence(host.movq_file, movq_name)

    @classmethod
    def execute(cls, movq_name: str, precision: str) -> io.NodeOutput:
        """Load the file."""
        return io.NodeOutput(host.load_movq_file(movq_name, precision))


def _file(name: str, options: list[str], tooltip: str, display_name: str | None = None) -> io.Input:
    """A choice of files, the bundled one first."""
    return io.Combo.Input(name, options=options, default=options[0], display_name=display_name, tooltip=tooltip)
