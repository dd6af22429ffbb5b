"""The pack's own socket types, and the extra keys that its latents carry beside ComfyUI's `samples`."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "FusionFrames"

Model = io.Custom("FUSIONFRAMES_MODEL")  # host.HostedModel
Text = io.Custom("FUSIONFRAMES_TEXT")  # models.text_encoder.TextContext

FRAME_RATE = "frame_rate"  # key of a LATENT: frames per second that its frames stand for
