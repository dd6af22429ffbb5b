"""CLIPSIM (GODIVA): how well the frames of a video agree with its prompt, by CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..data.items import DataError

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's own


class ClipSimilarity:
    """CLIP from a folder of transformers: config.json, weights as safetensors, and its tokenizer's files."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import AutoTokenizer, CLIPModel

        if not (folder / "config.json").is_file():
            raise DataError(
                f"no CLIP in {folder}: a folder with config.json, model.safetensors and a tokenizer is needed"
            )
        try:
            model: Any = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} must hold a CLIP of transformers: {str(error).splitlines()[0]}") from error
        self.model, self.device = model.to(device).eval(), device
        self.size = model.config.vision_config.image_size
        self.longest = model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def __call__(self, video: Tensor, prompt: str) -> float:
        """Mean cosine of the prompt and each frame of (3, T, H, W) in [−1, 1]."""
        options = {"return_tensors": "pt", "truncation": True, "max_length": self.longest}
        tokens = self.tokenizer([prompt], **options).to(self.device)
        output = self.model(**tokens, pixel_values=prepare_frames(video, self.size).to(self.device))
        return functional.cosine_similarity(output.image_embeds, output.text_embeds).mean().item()


def prepare_frames(video: Tensor, size: int) -> Tensor:
    """(3, T, H, W) in [−1, 1] → (T, 3, size, size) as CLIP wants them: shorter side to `size`, middle, normalised."""
    frames = (video.transpose(0, 1).float().clamp(-1, 1) + 1) / 2
    height, width = frames.shape[2:]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))
    frames = functional.interpolate(frames, shape, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    frames = frames[:, :, top : top + size, left : left + size]
    return (frames - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)
