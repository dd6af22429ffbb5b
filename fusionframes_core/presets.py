"""Named model configurations: the bundled tiny model and the official KandinskyVideo 1.0 and 1.1."""

from __future__ import annotations

from dataclasses import replace

from .config import InterpolationConfig, ModelConfig, MoVQConfig, ScheduleConfig, TextEncoderConfig, UNetConfig

# KandinskyVideo 1.0: 15 keyframes at 512×512, Flan-UL2, DDPM on a cosine schedule rebuilt with T = steps.
_KEYFRAME_1_0 = UNetConfig(
    in_channels=4,
    out_channels=4,
    model_channels=384,
    init_channels=192,
    time_embed_dim=1536,
    context_dim=4096,
    groups=32,
    head_dim=64,
    expansion_ratio=4,
    compression_ratio=2,
    channel_mult=(1, 2, 4, 8),
    num_blocks=(3, 3, 3, 3),
    cross_attention=(False, True, True, True),
    self_attention=(False, True, True, True),
    temporal="conv1d_attn1d_blocks",
    temporal_conditioning="separate",
    temporal_place="none",
    image_input=False,
    motion_score=False,
    noise_augmentation=False,
)
_INTERPOLATION_1_0 = InterpolationConfig(
    trunk=replace(_KEYFRAME_1_0, in_channels=20, out_channels=12, temporal="none"),
    temporal_merge="convex",
    temporal_attention=False,
    extra_temporal_convs=False,
    fixed_perturbation=0,
    text_pooling="before",
    base="zero",
)
_KEYFRAME_SCHEDULE_1_0 = ScheduleConfig(
    schedule="cosine",
    train_steps=1000,
    respaced=True,
    spacing="leading",
    zero_terminal_snr=False,
    prediction="epsilon",
    threshold_quantile=0.98,
    sampler="ddpm",
    steps=50,
)
KANDINSKY_VIDEO_1_0 = ModelConfig(
    name="kandinsky-video-1.0",
    text=TextEncoderConfig(
        vocab_size=32128,
        d_model=4096,
        d_kv=256,
        d_ff=16384,
        num_layers=32,
        num_heads=16,
        feed_forward="gated-silu",
        max_tokens=128,
        context_dim=4096,
        fixed_length=False,
        interpolation_head="null",
        official_negative="as_prompt",
    ),
    keyframe=_KEYFRAME_1_0,
    keyframe_schedule=_KEYFRAME_SCHEDULE_1_0,
    interpolation=_INTERPOLATION_1_0,
    interpolation_schedule=replace(_KEYFRAME_SCHEDULE_1_0, prediction="v"),
    movq=MoVQConfig(
        latent_channels=4,
        channels=256,
        channel_mult=(1, 2, 2, 4),
        num_res_blocks=2,
        attention_levels=(3,),
        groups=32,
        patch_size=1,
        latent_activation="none",
        decoder="image",
        attention_norm="per_frame",
        temporal_merge="convex",
    ),
    num_frames=15,
    size=(512, 512),
    fps=2.0,
    frame_positions="spread",
    guidance=5.0,
    interpolation_guidance=0.25,
    max_perturbation=250,
    interpolation_text=False,
    drop_temporal=False,
)

# KandinskyVideo 1.1: 12 keyframes that follow an image; 1000-step schedules with zero terminal SNR. Its dynamic
# thresholding is capped at 1 (diffusers' `sample_max_value`), which makes it a plain clip: threshold_quantile None.
_KEYFRAME_SCHEDULE_1_1 = replace(
    _KEYFRAME_SCHEDULE_1_0, respaced=False, zero_terminal_snr=True, threshold_quantile=None
)
_KEYFRAME_1_1 = replace(
    _KEYFRAME_1_0,
    in_channels=9,
    temporal_conditioning="sum",
    image_input=True,
    motion_score=True,
    noise_augmentation=True,
)
KANDINSKY_VIDEO_1_1 = replace(
    KANDINSKY_VIDEO_1_0,
    name="kandinsky-video-1.1",
    keyframe=_KEYFRAME_1_1,
    keyframe_schedule=_KEYFRAME_SCHEDULE_1_1,
    interpolation=replace(
        _INTERPOLATION_1_0,
        temporal_attention=True,
        fixed_perturbation=None,
        text_pooling="after",
        shortcut_temporal="up_twice",
    ),
    interpolation_schedule=replace(_KEYFRAME_SCHEDULE_1_1, spacing="trailing", prediction="v", steps=10),
    movq=replace(KANDINSKY_VIDEO_1_0.movq, decoder="conv3_attn", attention_norm="first_frame", decode_chunk=8),
    num_frames=12,
    frame_positions="index",
    interpolation_guidance=0.5,
    interpolation_text=True,
    drop_temporal=True,
    text=replace(
        KANDINSKY_VIDEO_1_0.text,
        interpolation_head="full",
        interpolation_projection="keyframes",
        official_negative="ignored",
    ),
    image_movq=KANDINSKY_VIDEO_1_0.movq,
    image_noise="uniform",
)

# FusionFrames Tiny: Moving Shapes at 64×64, latents (4, 8, 8) in [−1, 1]; weights in `tiny/`.
_KEYFRAME_TINY = UNetConfig(
    in_channels=4,
    out_channels=4,
    model_channels=64,
    init_channels=64,
    time_embed_dim=256,
    context_dim=128,
    groups=16,
    head_dim=32,
    expansion_ratio=4,
    compression_ratio=2,
    channel_mult=(1, 2),
    num_blocks=(2, 2),
    cross_attention=(True, True),
    self_attention=(True, True),
    temporal="conv1d_attn1d_blocks",
    temporal_conditioning="mixed",
    temporal_place="grid",
    image_input=False,
    motion_score=False,
    noise_augmentation=False,
)
_SCHEDULE_TINY = ScheduleConfig(
    schedule="cosine",
    train_steps=1000,
    respaced=False,
    spacing="trailing",
    zero_terminal_snr=True,
    prediction="v",
    threshold_quantile=None,
    sampler="ddim",
    steps=20,
)
TINY = ModelConfig(
    name="tiny",
    text=TextEncoderConfig(
        vocab_size=96,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward="gated-gelu",
        max_tokens=24,
        context_dim=128,
        fixed_length=True,
    ),
    keyframe=_KEYFRAME_TINY,
    keyframe_schedule=_SCHEDULE_TINY,
    interpolation=InterpolationConfig(
        trunk=replace(_KEYFRAME_TINY, in_channels=20, out_channels=12, temporal="none"),
        temporal_merge="residual",
        temporal_attention=False,
        extra_temporal_convs=False,
        fixed_perturbation=None,
        text_pooling="before",
        base="blend",
    ),
    interpolation_schedule=replace(_SCHEDULE_TINY, steps=1),
    movq=MoVQConfig(
        latent_channels=4,
        channels=48,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_levels=(),
        groups=8,
        patch_size=4,
        latent_activation="tanh",
        decoder="conv1",
        attention_norm="per_frame",
        temporal_merge="residual",
    ),
    num_frames=16,
    size=(64, 64),
    fps=2.0,
    frame_positions="index",
    guidance=1.5,
    interpolation_guidance=0.0,
    max_perturbation=250,
    interpolation_text=False,
    drop_temporal=True,
)

# What the paper trains (section 5): 16 keyframes, α merged as in eq. 3, the decoder that its table 3 puts first.
PAPER = replace(
    KANDINSKY_VIDEO_1_0,
    name="paper",
    interpolation=replace(_INTERPOLATION_1_0, temporal_merge="residual", fixed_perturbation=None),
    movq=replace(KANDINSKY_VIDEO_1_0.movq, decoder="conv3_attn", temporal_merge="residual"),
    num_frames=16,
    drop_temporal=True,
)

PRESETS: dict[str, ModelConfig] = {
    "tiny": TINY,
    "paper": PAPER,
    "kandinsky-video-1.0": KANDINSKY_VIDEO_1_0,
    "kandinsky-video-1.1": KANDINSKY_VIDEO_1_1,
}
