"""Laws of the text encoder, then its agreement with the official projection."""

from __future__ import annotations

import dataclasses
import json
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fusionframes_core.config import TextEncoderConfig
from fusionframes_core.models.text_encoder import TextContext, TextEncoder, concatenate
from fusionframes_core.models.tokenizer import load_tokenizer
from training.moving_shapes.shapes_tokenizer import build_tokenizer

CONFIG = TextEncoderConfig(
    vocab_size=96,
    d_model=32,
    d_kv=8,
    d_ff=48,
    num_layers=2,
    num_heads=4,
    feed_forward="gated-gelu",
    max_tokens=12,
    context_dim=24,
    fixed_length=False,
)
PROMPTS = ["a red circle", "a large blue star moving left slowly", "square"]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    build_tokenizer().save(str(path))
    return path


@pytest.fixture(scope="module")
def encoder(tokenizer_file):
    torch.manual_seed(0)
    encoder = TextEncoder(CONFIG, load_tokenizer(tokenizer_file)).eval().requires_grad_(False)
    encoder.norm.bias.normal_()  # a bias of zero would hide padding that is not zeroed
    return encoder


def test_batched_prompts_equal_each_prompt_alone(encoder):
    together = encoder.encode(PROMPTS)
    assert together.context.shape == (3, 9, CONFIG.context_dim)  # seven words, the end, one padding
    for index, prompt in enumerate(PROMPTS):
        alone = encoder.encode([prompt])
        length = alone.context.shape[1]
        assert length == len(prompt.split()) + 2
        torch.testing.assert_close(together.context[index, :length], alone.context[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(together.mask[index, :length], alone.mask[0])
        assert not together.mask[index, length:].any()
        assert not together.context[index, length:].any()


def test_a_fixed_length_makes_the_mean_over_tokens_independent_of_the_batch(encoder, tokenizer_file):
    fixed = TextEncoder(dataclasses.replace(CONFIG, fixed_length=True), load_tokenizer(tokenizer_file))
    fixed.load_state_dict(encoder.state_dict())
    together = fixed.encode([*PROMPTS, ""])
    assert together.context.shape == (4, CONFIG.max_tokens, CONFIG.context_dim)
    for index, prompt in enumerate([*PROMPTS, ""]):
        alone = fixed.encode([prompt]).context.mean(dim=1)[0]
        torch.testing.assert_close(together.context.mean(dim=1)[index], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(fixed.null_context(1).context, fixed.encode([""]).context)
    padded = encoder.encode(PROMPTS).pad(CONFIG.max_tokens)
    torch.testing.assert_close(together.context[:3], padded.context, atol=1e-5, rtol=1e-5)


def test_one_zero_padding_token_is_kept(encoder):
    encoded = encoder.encode(["a red circle"])
    assert encoded.mask.tolist() == [[True] * 4 + [False]]
    assert not encoded.context[:, -1].any()
    assert encoded.context[:, :-1].abs().amin(dim=1).max() > 0


def test_words_change_the_context_of_other_tokens(encoder):
    left, right = encoder.encode(["a star moving left"]), encoder.encode(["a star moving right"])
    assert (left.context[0, 1] - right.context[0, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_an_empty_prompt_is_the_null_context(encoder, prompt):
    null = encoder.null_context(1)
    encoded = encoder.encode([prompt])
    assert torch.equal(encoded.context, null.context)
    assert torch.equal(encoded.mask, null.mask)
    assert torch.equal(null.context[0, 0], encoder.null_embedding)
    assert null.mask.tolist() == [[True, False]]
    mixed = encoder.encode([PROMPTS[1], prompt])
    padded = encoder.null_context(1, num_tokens=9)
    assert torch.equal(mixed.context[1:], padded.context)
    assert torch.equal(mixed.mask[1:], padded.mask)


def test_a_long_prompt_is_cut_and_the_warning_says_what(encoder):
    words = ["a", "red", "star"] * 4
    with pytest.warns(UserWarning, match=r"13 tokens.* takes 12; its last 1 word\(s\) were cut: 'star'"):
        encoded = encoder.encode([" ".join(words)])
    assert encoded.mask.shape == (1, 12)
    assert encoded.mask.all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = encoder.encode([" ".join(words[:11])])
    assert torch.equal(encoded.context, kept.context)


def test_two_thousand_words_warn_in_few(encoder):
    with pytest.warns(UserWarning, match=r"1989 word\(s\) were cut") as record:
        encoder.encode(["star " * 2000])
    assert len(str(record[0].message)) < 400


@pytest.mark.parametrize("prompts", ["a red circle", [], ["a", None], [3]])
def test_prompts_must_be_a_list_of_strings(encoder, prompts):
    with pytest.raises(TypeError, match="list of at least one string"):
        encoder.encode(prompts)


def test_states_that_overflow_become_the_null_context(encoder):
    states = torch.randn(2, 5, CONFIG.d_model)
    states[1, 2, 3] = torch.inf
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    with pytest.warns(UserWarning, match="overflowed"):
        encoded = encoder.project(states, mask)
    assert torch.equal(encoded.context[1:], encoder.null_context(1, 5).context)
    assert encoded.mask.tolist() == [[True, True, True, False, False], [True, False, False, False, False]]
    torch.testing.assert_close(encoded.context[:1, :4], encoder.project(states[:1], mask[:1]).context)


def test_contexts_are_padded_and_joined(encoder):
    first, second = encoder.encode(PROMPTS[:1]), encoder.encode(PROMPTS[1:2])
    joined, batch = concatenate([first, second]), encoder.encode(PROMPTS[:2])
    torch.testing.assert_close(joined.context, batch.context, atol=1e-5, rtol=1e-5)
    assert torch.equal(joined.mask, batch.mask)
    with pytest.raises(ValueError, match="at least 9, the context's length; got 4"):
        second.pad(4)


def test_state_dict_round_trips_through_safetensors_and_meta(encoder, tmp_path):
    save_file(encoder.state_dict(), tmp_path / "text_encoder.safetensors")
    built = TextEncoder(CONFIG, encoder.tokenizer, device="meta", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in built.parameters()} == {torch.bfloat16}
    assert all(tensor.is_meta for tensor in [*built.parameters(), *built.buffers()])
    built.load_state_dict(load_file(tmp_path / "text_encoder.safetensors"), assign=True)
    torch.testing.assert_close(built.encode(PROMPTS).context, encoder.encode(PROMPTS).context, atol=1e-5, rtol=1e-5)


def test_full_size_on_the_meta_device():
    config = TextEncoderConfig(32128, 4096, 256, 16384, 32, 16, "gated-gelu", 128, 4096, False)
    encoder = TextEncoder(config, None, device="meta", dtype=torch.bfloat16)
    assert sum(p.numel() for p in encoder.t5.parameters()) == pytest.approx(8.72e9, rel=2e-3)


def test_bfloat16_stays_near_float32(encoder, tokenizer_file):
    half = TextEncoder(CONFIG, load_tokenizer(tokenizer_file.parent), dtype=torch.bfloat16)
    half.load_state_dict(encoder.state_dict())
    encoded = half.encode(PROMPTS)
    assert encoded.context.dtype == torch.float32  # of the projection and the norm
    assert (encoded.context.float() - encoder.encode(PROMPTS).context).abs().max() < 0.1


@pytest.mark.parametrize("negative", ["a red circle", "a large blue star moving left slowly"])
def test_the_official_negative_prompt_of_1_0_has_the_prompts_tokens(encoder, negative):
    """Cut to the prompt's length, its last token the end; or padded, and the padding attended to."""
    official = TextEncoder(dataclasses.replace(CONFIG, official_negative="as_prompt"), encoder.tokenizer).eval()
    official.load_state_dict(encoder.state_dict())
    prompts = PROMPTS[:2]
    counts, (tokens,) = [len(row) for row in official.tokenize(prompts)], official.tokenize([negative])
    assert len({len(tokens), *counts}) > 1
    for index, count in enumerate(counts):
        ids = ([*tokens[:count][:-1], 1] + [0] * count)[:count]
        assert len(ids) == count
        mask = torch.arange(count + 1) < count
        alone = official(torch.tensor([[*ids, 0]]), mask[None])
        made = official.encode_negative(negative, prompts[index : index + 1], official=True)
        assert torch.equal(made.mask, mask[None])
        torch.testing.assert_close(made.context, alone.context, atol=1e-5, rtol=1e-5)
    together = official.encode_negative(negative, prompts, official=True)
    assert torch.equal(together.mask, official.encode(prompts).mask)
    own = official.encode_negative(negative, prompts)
    torch.testing.assert_close(own.context, official.encode([negative] * 2).context)


def test_the_official_negative_prompt_of_1_1_is_the_null_context(encoder):
    official = TextEncoder(dataclasses.replace(CONFIG, official_negative="ignored"), encoder.tokenizer).eval()
    assert official.encode_negative("a red circle", PROMPTS, official=True) is None
    assert official.encode_negative("a red circle", PROMPTS) is not None
    assert official.encode_negative("", PROMPTS) is None
    with pytest.raises(ValueError, match="official_negative must be one of own, as_prompt, ignored; got 'never'"):
        TextEncoder(dataclasses.replace(CONFIG, official_negative="never"), None)


def test_tokenizer_must_fit(encoder):
    small = TextEncoderConfig(**{**vars(CONFIG), "vocab_size": 10})
    with pytest.raises(ValueError, match="the text encoder only 10"):
        TextEncoder(small, encoder.tokenizer)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("interpolation_head", "interpolation_head must be one of shared, null, full; got 'other'"),
        ("interpolation_projection", "interpolation_projection must be one of own, keyframes; got 'other'"),
    ],
)
def test_unknown_heads_are_refused_before_anything_is_built(field, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(dataclasses.replace(CONFIG, d_model=-1, **{field: "other"}), None)


def test_projection_agrees_with_the_official_code(golden_dir):
    with safe_open(golden_dir / "kv10_text_projection.safetensors", "pt") as file:
        sizes = json.loads(file.metadata()["config"])
        case = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    widths = {"d_model": sizes["d_model"], "context_dim": sizes["context_dim"], "max_tokens": sizes["tokens"]}
    encoder = TextEncoder(TextEncoderConfig(**{**vars(CONFIG), **widths}), None).requires_grad_(False)
    encoder.projection.weight.copy_(case["weights/t5.0.weight"])
    encoder.norm.weight.copy_(case["weights/t5.1.weight"])
    encoder.norm.bias.copy_(case["weights/t5.1.bias"])
    encoded = encoder.project(case["in/states"], case["in/attention_mask"])
    expected = case["out/context"]
    assert isinstance(encoded, TextContext)
    assert encoded.context.shape == expected.shape
    assert (encoded.context - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert torch.equal(encoded.mask.long(), case["out/context_mask"])
