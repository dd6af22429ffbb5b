"""The measures against closed forms, laws, and the libraries that define them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from tests.helpers.video_clips import moving
from training.evaluation.clip_similarity import ClipSimilarity, prepare_frames
from training.evaluation.distances import class_logits, frechet_distance, i3d_features, inception_score, load_script
from training.evaluation.lpips import LPIPS, load_lpips, video_lpips
from training.evaluation.movement import movement


class FakeI3D(nn.Module):
    """StyleGAN-V's call, and features that tell what it was given."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert rescale
        assert resize
        assert return_features
        return torch.stack([x.mean(dim=(1, 2, 3, 4)), x.amax(dim=(1, 2, 3, 4)), x.std(dim=(1, 2, 3, 4))], dim=1)


def exactly(mean: torch.Tensor, covariance: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Samples whose mean and covariance (divided by N) are just these."""
    x = torch.randn(count, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x - x.mean(dim=0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / count)).T
    return mean + x @ torch.linalg.cholesky(covariance).T


@pytest.mark.parametrize("counts", [(50, 50), (40, 300)])
def test_frechet_distance_of_gaussians_is_the_closed_form(counts: tuple[int, int]) -> None:
    """Covariances with common axes: |m₁ − m₂|² + Σ (√a − √b)²."""
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))
    a, b = (torch.rand(6, dtype=torch.float64, generator=generator) + 0.1 for _ in range(2))
    means = torch.randn(2, 6, dtype=torch.float64, generator=generator)
    sets = [
        exactly(mean, axes @ torch.diag(spread) @ axes.T, count, seed)
        for seed, (mean, spread, count) in enumerate(zip(means, (a, b), counts, strict=True))
    ]
    wanted = (means[0] - means[1]).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(*sets) == pytest.approx(wanted.item(), rel=1e-6)
    assert frechet_distance(sets[1], sets[0]) == pytest.approx(wanted.item(), rel=1e-6)
    assert frechet_distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="fake must be at least 2 videos; got 1"):
        frechet_distance(sets[0], sets[1][:1])


def test_inception_score_has_its_closed_forms() -> None:
    sure = 50.0 * torch.eye(5)[torch.arange(200) % 5]
    assert inception_score(sure, splits=1)[0] == pytest.approx(5, rel=1e-6), "sure of K classes alike often: K"
    assert inception_score(torch.zeros(200, 5), splits=10) == pytest.approx((1, 0)), "knows nothing: 1"
    p = 0.8  # two classes, sure by p: exp(log 2 − H(p))
    logits = torch.tensor([[p, 1 - p], [1 - p, p]]).log().repeat(100, 1)
    wanted = 2 * math.exp(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert inception_score(logits, splits=1)[0] == pytest.approx(wanted, rel=1e-6)
    noisy = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    assert inception_score(noisy, seed=1) == inception_score(noisy, seed=1)
    assert torch.equal(state, torch.get_rng_state()), "the global state is left alone"
    with pytest.raises(ValueError, match="splits must be at most the number of videos, 64; got 65"):
        inception_score(noisy, splits=65)


def test_i3d_is_asked_as_stylegan_v_asks_it(tmp_path: Path) -> None:
    path = tmp_path / "i3d.pt"
    torch.jit.script(FakeI3D()).save(str(path))
    network = load_script(path, "cpu")
    video = torch.linspace(-1, 1, 2 * 3 * 16 * 8 * 8).reshape(2, 3, 16, 8, 8)
    features = i3d_features(network, [video[:1], video[1:]], "cpu")
    assert features.shape == (2, 3)
    assert features[:, 1].tolist() == [127.0 if video[0].max() < 0 else 128.0, 255.0], "8-bit levels"
    (tmp_path / "no.pt").write_text("no program")
    with pytest.raises(ValueError, match=r"no.pt must be a TorchScript file"):
        load_script(tmp_path / "no.pt", "cpu")
    with pytest.raises(ValueError, match="no TorchScript file at"):
        load_script(tmp_path / "none.pt", "cpu")


def test_a_classifier_sees_its_size() -> None:
    shapes = []

    def network(videos: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(videos.shape))
        return videos.mean(dim=(2, 3, 4))

    assert class_logits(network, [torch.rand(2, 3, 16, 20, 30)], 12, "cpu").shape == (2, 3)
    assert shapes == [(2, 3, 16, 12, 12)]


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_is_torchmetrics_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same random network under torchmetrics' formula, which would take it from torchvision."""
    ours = LPIPS(name).eval()
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_, **__: ours.features)
    theirs = torchmetrics_lpips._LPIPS(net=name, pnet_rand=True).eval()
    a, b = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ours(a, b), theirs(a, b).flatten(), rtol=1e-4, atol=1e-6)
        assert ours(a, b).min() > 0
        assert ours(a, a).tolist() == [0, 0]


def test_lpips_reads_torchvisions_files_and_refuses_others(tmp_path: Path) -> None:
    state = {f"features.{name}": value for name, value in LPIPS("alex").features.state_dict().items()}
    state["classifier.1.weight"] = torch.zeros(2, 2)
    save_file(state, tmp_path / "alex.safetensors")
    torch.save(state, tmp_path / "alex.pth")
    video = torch.rand(1, 3, 2, 64, 64)
    a, b = (load_lpips(tmp_path / f"alex.{suffix}") for suffix in ("safetensors", "pth"))
    assert video_lpips(a, video, -video).tolist() == video_lpips(b, video, -video).tolist()
    with pytest.raises(ValueError, match="must hold torchvision's weights of vgg"):
        load_lpips(tmp_path / "alex.pth", "vgg")
    with pytest.raises(ValueError, match="no network weights at"):
        load_lpips(tmp_path / "none.pth")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights and a tokenizer of six words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("clip")
    words = ["<pad>", "<eos>", "<unk>", "red", "blue", "circle"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    options = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 6, "max_position_embeddings": 8, "eos_token_id": 1, "pad_token_id": 0}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def test_clipsim_is_the_mean_cosine_over_frames(clip_folder: Path) -> None:
    similarity = ClipSimilarity(clip_folder)
    video = torch.rand(3, 4, 20, 30, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = similarity(video, "red circle")
    frames = [similarity(video[:, i : i + 1], "red circle") for i in range(4)]
    assert whole == pytest.approx(np.mean(frames), abs=1e-5)
    assert -1 <= whole <= 1
    assert abs(similarity(video, "blue") - whole) > 1e-4, "the prompt counts"
    similarity(video, "red " * 50)
    (clip_folder / "x").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match="no CLIP in"):
        ClipSimilarity(clip_folder / "x")


def test_clip_sees_the_middle_normalised() -> None:
    video = torch.full((3, 2, 32, 64), -1.0)
    video[:, :, :, 16:48] = 1.0
    frames = prepare_frames(video, 16)
    assert frames.shape == (2, 3, 16, 16)
    white = [(1 - mean) / std for mean, std in ((0.48145466, 0.26862954), (0.4578275, 0.26130258))]
    assert frames[0, :2, 8, 8].tolist() == pytest.approx(white)


def test_movement_knows_still_steady_and_trembling_videos() -> None:
    still = np.repeat(moving(1, (64, 64)), 8, axis=0)
    assert movement(still) == pytest.approx({"change": 0, "flicker": 0, "flow": 0, "warp_error": 0}, abs=0.02)
    texture = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    texture = np.stack([texture] * 3).mean(axis=0).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)[:128, :192]
    shifted = np.stack([texture[:, 3 * i : 3 * i + 128] for i in range(6)])
    flow = movement(shifted)
    assert flow["flow"] == pytest.approx(3, rel=0.15), "three pixels a frame"
    assert flow["warp_error"] < 0.5 * flow["change"]
    ramp = np.stack([np.full((32, 32, 3), 10 * i, np.uint8) for i in range(8)])
    assert movement(ramp)["flicker"] == 0
    assert movement(ramp)["change"] == 10
    blinking = np.stack([np.full((32, 32, 3), 100 + 20 * (i % 2), np.uint8) for i in range(8)])
    assert movement(blinking)["flicker"] == 40
    with pytest.raises(ValueError, match="at least 3 frames; got 2"):
        movement(still[:2])
