"""Prompts: one, or several over the time of a video; and encoded prompts as files."""

from __future__ import annotations

import math
import re
from typing import Any

from comfy_api.latest import io

from ..fusionframes_core.settings import NEGATIVES
from . import host, inputs
from .sockets import CATEGORY

_CLIP = "The text encoder, from Load Model or Load Text Encoder."
_PROMPT = "a large red circle moving right"
_SCHEDULE = "0: a large red circle moving right\n11: a large blue star moving right"


class EncodeText(io.ComfyNode):
    """A prompt through the model's T5 encoder and projection."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_EncodeText",
            display_name="FusionFrames Encode Text",
            category=CATEGORY,
            description="Encodes a prompt for the samplers, as the stock CLIP Text Encode does. An empty prompt lets "
            "the model show what it likes.",
            search_aliases=["fusionframes prompt", "kandinsky video prompt", "text encode", "clip text encode"],
            inputs=[
                io.Clip.Input("clip", tooltip=_CLIP),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default=_PROMPT,
                    tooltip="What the video shows. Tiny knows coloured shapes that move, for example 'a small blue "
                    "star, spinning'. A prompt that is too long for the model is cut, and the log says where.",
                ),
                io.Combo.Input(
                    "negative",
                    options=list(NEGATIVES),
                    default=NEGATIVES[0],
                    optional=True,
                    tooltip="Leave it at 'own': the prompt is read as it is. 'official', for a negative prompt, does "
                    "what the official code does and needs negative_of: KandinskyVideo 1.0 gives it the prompt's "
                    "length and mask, 1.1 ignores it.",
                ),
                io.Conditioning.Input(
                    "negative_of",
                    optional=True,
                    tooltip="The prompt that this is the negative prompt of, when negative is 'official'.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The encoded prompt, for positive or negative of a sampler."
                )
            ],
        )

    @classmethod
    def execute(cls, clip: Any, prompt: str, negative: str = NEGATIVES[0], negative_of: Any = None) -> io.NodeOutput:
        """Encode one prompt."""
        if negative == NEGATIVES[0]:
            return io.NodeOutput(host.encode(clip, prompt))
        if negative_of is None:
            raise ValueError("negative_of must be connected when negative is 'official': the prompt that it belongs to")
        return io.NodeOutput(host.encode_as_official_negative(clip, prompt, negative_of))


class SchedulePrompts(io.ComfyNode):
    """Several prompts, each at a keyframe."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_SchedulePrompts",
            display_name="FusionFrames Prompt Schedule",
            category=CATEGORY,
            description="Several prompts in one video, each with the number of the keyframe that shows it. Between two "
            "of them the video fades from one to the other.",
            search_aliases=["prompt schedule", "schedule prompts", "prompt travel", "prompt interpolation"],
            inputs=[
                io.Clip.Input("clip", tooltip=_CLIP),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default=_SCHEDULE,
                    tooltip="One prompt per line, with the number of its keyframe and a colon in front. The first "
                    "keyframe is 0.",
                ),
                inputs.num_keyframes(
                    "The number of keyframes: the same as in Sample Keyframes. 0 is the model's own, and needs model."
                ),
                io.Boolean.Input(
                    "blend",
                    default=True,
                    tooltip="On: the video fades from one prompt to the next. Off: it switches at the keyframe of the "
                    "next prompt.",
                ),
                inputs.model_for_own(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The prompts, for positive of Sample Keyframes or any sampler."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, prompts: str | None = _SCHEDULE, num_frames: int | None = 0) -> bool | str:
        """True, or one sentence about the line that is wrong; None comes from another node."""
        return host.sentence(read_schedule, prompts, num_frames or 0)

    @classmethod
    def execute(cls, clip: Any, prompts: str, num_frames: int, blend: bool, model: Any = None) -> io.NodeOutput:
        """Encode every prompt and lay it out over time."""
        host.require_model_for_own(model, num_keyframes=num_frames)
        count = num_frames or _own_frames(model)
        encoded = [(place, host.encode(clip, prompt)) for place, prompt in read_schedule(prompts, count)]
        return io.NodeOutput(host.schedule_conditionings(encoded, count, blend))


def _own_frames(model: Any) -> int:
    """A keyframe model's number of keyframes, which the node then shows."""
    host.require_keyframe_model(model)
    count = host.own_settings(model).num_frames
    host.show_values(model, f"{count} keyframes")
    return count


def read_schedule(prompts: str, num_frames: int) -> list[tuple[int, str]]:
    """(keyframe, prompt) of each line, by keyframe; with 0 frames none is too late. Raises ValueError that names the
    line."""
    found: dict[int, str] = {}
    # A text that is pasted from a file may begin with its byte order mark.
    for line in filter(str.strip, prompts.removeprefix("\ufeff").splitlines()):
        parts = re.fullmatch(r"\s*(\d+)\s*:(.*)", line)
        if parts is None:
            raise ValueError(f"prompts must be lines like '0: a red circle'; got {line.strip()!r}")
        place = int(parts[1])
        if num_frames and place >= num_frames:
            raise ValueError(f"prompts names keyframe {place}, but there are {num_frames}: 0 to {num_frames - 1}")
        if place in found:
            raise ValueError(f"prompts names keyframe {place} twice")
        found[place] = parts[2].strip()
    if not found:
        raise ValueError("prompts must have at least one line like '0: a red circle'")
    return sorted(found.items())


class SaveConditioning(io.ComfyNode):
    """An encoded prompt to a file, so that the text encoder need not be loaded again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_SaveConditioning",
            display_name="FusionFrames Save Conditioning",
            category=CATEGORY,
            description="Saves an encoded prompt to output/conditioning. Load Conditioning reads it back, without "
            "loading the large text encoder again.",
            search_aliases=["save conditioning", "cache prompt", "save text embedding"],
            is_output_node=True,
            inputs=[
                io.Conditioning.Input(
                    "text",
                    display_name="conditioning",
                    tooltip="From Encode Text, CLIP Text Encode or Prompt Schedule.",
                ),
                io.String.Input(
                    "name",
                    default="prompt",
                    tooltip="The name of the file, without folders. A file of the same name is replaced.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The conditioning that came in, to connect further."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = "prompt") -> bool | str:
        """True, or one sentence about the name."""
        return host.sentence(host.conditioning_file, name)

    @classmethod
    def execute(cls, text: Any, name: str) -> io.NodeOutput:
        """Write the file; an older one of this name is replaced."""
        host.save_conditioning(text, host.conditioning_file(name))
        return io.NodeOutput(text)


class LoadConditioning(io.ComfyNode):
    """An encoded prompt from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFrames_LoadConditioning",
            display_name="FusionFrames Load Conditioning",
            category=CATEGORY,
            description="Loads an encoded prompt that Save Conditioning saved; no text encoder is needed.",
            search_aliases=["load conditioning", "load text embedding"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=host.conditioning_names(),
                    tooltip="A file in output/conditioning, the newest first. Press R to see new ones.",
                )
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The encoded prompt, for positive or negative of a sampler."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = "") -> bool | str:
        """True, or one sentence that says which file is missing."""
        return host.sentence(host.existing_conditioning, name)

    @classmethod
    def fingerprint_inputs(cls, name: str | None = "") -> float:
        """Changes when the file does; not a number, which always changes, where another node gives the name."""
        return math.nan if name is None else host.existing_conditioning(name).stat().st_mtime

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        """Read the file."""
        return io.NodeOutput(host.load_conditioning(host.existing_conditioning(name)))
