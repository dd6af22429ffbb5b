"""Moving Shapes: the data set of FusionFrames Tiny, drawn on the fly at any moment of continuous time.

A scene is one shape with one motion before a plain background. Time counts base frames: keyframes are `KEYFRAME_STEP`
base frames apart, so a clip of 16 keyframes covers 0…180, and a true picture exists for every interpolated frame.
Lengths are given for a picture 64 pixels wide and scale with its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (230, 30, 30),
    "green": (30, 180, 50),
    "blue": (35, 65, 235),
    "yellow": (250, 230, 20),
    "purple": (150, 40, 205),
    "orange": (255, 135, 0),
    "cyan": (30, 220, 230),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "star")
NEW_SHAPES = ("ring", "hexagon")  # no part of the data set: for LoRA, which teaches a model what it never saw
SIZES: dict[str, float] = {"small": 8.0, "large": 11.5}  # radius of the circle with the shape's area
SPEEDS = ("slowly", "quickly")
BACKGROUNDS = ("black", "grey", "gradient")

CLIP_LENGTH = 180.0  # base frames from the first to the last of 16 keyframes
KEYFRAME_STEP = 12.0
CANVAS = 64.0
SUPERSAMPLING = 4

# Wordings: (verb form, gerund). The first pair is the canonical one.
MOTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "moving left": (
        ("moves left", "moving left"),
        ("moves to the left", "moving to the left"),
        ("goes left", "going left"),
    ),
    "moving right": (
        ("moves right", "moving right"),
        ("moves to the right", "moving to the right"),
        ("goes right", "going right"),
    ),
    "moving up": (("moves up", "moving up"), ("moves upwards", "moving upwards"), ("rises", "rising")),
    "moving down": (("moves down", "moving down"), ("moves downwards", "moving downwards"), ("falls", "falling")),
    "spinning": (("spins", "spinning"), ("rotates", "rotating")),
    "growing": (("grows", "growing"), ("gets bigger", "getting bigger")),
    "shrinking": (("shrinks", "shrinking"), ("gets smaller", "getting smaller")),
    "standing still": (("stands still", "standing still"), ("does not move", "not moving")),
    "bouncing left and right": (
        ("bounces left and right", "bouncing left and right"),
        ("bounces from side to side", "bouncing from side to side"),
    ),
    "bouncing up and down": (("bounces up and down", "bouncing up and down"),),
    "circling": (("circles", "circling"), ("moves in a circle", "moving in a circle")),
}
PLAIN, TILTED = "plain", "tilted"  # still shapes, upright or at any angle
UNNAMED = (PLAIN, TILTED)  # in place of a motion, where the caption names none
FAST_MOTIONS = ("bouncing left and right", "bouncing up and down", "circling")

_TRAVEL = {"slowly": 24.0, "quickly": 34.0}  # pixels in a clip; a third of the frame is 21.3
_TRAVEL_JITTER = {"slowly": 4.0, "quickly": 1.0}
_DIRECTIONS = {"moving left": (-1, 0), "moving right": (1, 0), "moving up": (0, -1), "moving down": (0, 1)}
_TURNS = {"slowly": 0.5, "quickly": 1.0}  # of a spin in a clip
_CYCLES = {"slowly": 1.0, "quickly": 2.0}  # of a bounce or a circle in a clip
_BOUNCE = 15.0
_ORBIT = 12.0
_PHASES = {TILTED: (0.0, 1.0)}  # of other motions near the start of a cycle
_SCALE_RANGE = {"slowly": (0.75, 1.25), "quickly": (0.5, 1.35)}


def _regular(points: int, radius: float, inner: float | None = None) -> NDArray[np.float64]:
    """Corners of a regular polygon, or of a star where `inner` is given, the first one pointing up."""
    count = points if inner is None else 2 * points
    angles = -np.pi / 2 + 2 * np.pi * np.arange(count) / count
    radii = np.full(count, radius)
    if inner is not None:
        radii[1::2] = inner
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


# Outlines of about the unit circle's area, so that "large" means the same for every shape.
_OUTLINES = {
    "circle": _regular(48, 1.0),
    "square": np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.88,
    "triangle": _regular(3, 1.45),
    "star": _regular(5, 1.5, 0.68),
    "ring": np.concatenate([_regular(48, 1.3)[[*range(48), 0]], _regular(48, 0.8)[[0, *range(47, -1, -1)]]]),
    "hexagon": _regular(6, 1.1),
}


@dataclass(frozen=True)
class Scene:
    """One moving shape; the numbers below the words are drawn once per scene."""

    shape: str
    colour: str
    size: str
    motion: str
    speed: str
    background: str
    offset: tuple[float, float]  # of the path's middle from the frame's middle, pixels of 64
    phase: float  # cycles, of periodic motions; of a tilted shape the turn
    gradient: tuple[float, ...]  # angle, then two RGB colours; grey and black ignore it


def is_held_out(colour: str, shape: str, motion: str) -> bool:
    """True for the combinations (one colour of eight for every shape and motion) that training never sees.

    A plain or tilted shape stands still, so those of standing still are held out of it.
    """
    if shape in NEW_SHAPES:
        return False
    shown = "standing still" if motion in UNNAMED else motion
    indices = list(COLOURS).index(colour), SHAPES.index(shape), list(MOTIONS).index(shown)
    return (indices[0] + 3 * indices[1] + 5 * indices[2]) % len(COLOURS) == 0


def is_visible(shape: str, motion: str) -> bool:
    """False for a spinning or tilted circle or ring, which looks like a standing one."""
    return not (shape in ("circle", "ring") and motion in ("spinning", TILTED))


def sample_scene(rng: np.random.Generator, held_out: bool | None = False, **fixed: str) -> Scene:
    """A random scene; `held_out` True or False restricts the combination, None does not. `fixed` pins attributes."""
    unknown = set(fixed) - {"shape", "colour", "size", "motion", "speed", "background"}
    if unknown:
        raise ValueError(f"fixed must name attributes of a scene; got {sorted(unknown)}")
    choices = {
        "shape": SHAPES,
        "colour": tuple(COLOURS),
        "size": tuple(SIZES),
        "motion": tuple(MOTIONS),
        "speed": SPEEDS,
        "background": BACKGROUNDS,
    }
    for _ in range(10_000):
        words = {key: fixed.get(key) or str(rng.choice(values)) for key, values in choices.items()}
        if not is_visible(words["shape"], words["motion"]):
            continue
        if held_out is None or is_held_out(words["colour"], words["shape"], words["motion"]) == held_out:
            numbers = _numbers(rng, words["motion"], words["speed"])
            return Scene(
                shape=words["shape"],
                colour=words["colour"],
                size=words["size"],
                motion=words["motion"],
                speed=words["speed"],
                background=words["background"],
                **numbers,
            )
    raise ValueError(f"no combination with held_out={held_out} agrees with {fixed}")


class _Numbers(TypedDict):
    offset: tuple[float, float]
    phase: float
    gradient: tuple[float, ...]


def _numbers(rng: np.random.Generator, motion: str, speed: str) -> _Numbers:
    share, across = rng.uniform(-1, 1), rng.uniform(-9, 9)
    along = share * _TRAVEL_JITTER[speed]
    offset = {
        "moving left": (along, across),
        "moving right": (along, across),
        "moving up": (across, along),
        "moving down": (across, along),
        "bouncing left and right": (rng.uniform(-1, 1), across),
        "bouncing up and down": (across, rng.uniform(-1, 1)),
        "circling": (rng.uniform(-3, 3), rng.uniform(-3, 3)),
        # In the middle: only where the place is known from the start can the first steps decide the angle.
        "spinning": (share, across / 9),
        **dict.fromkeys(UNNAMED, (share, across / 9)),
    }.get(motion, (rng.uniform(-9, 9), rng.uniform(-9, 9)))
    colours = [c for _ in range(2) for c in rng.uniform(30, 75) + rng.uniform(-14, 14, 3)]
    gradient = (rng.uniform(0, 2 * np.pi), *(float(c) for c in colours))
    return {"offset": offset, "phase": rng.uniform(*_PHASES.get(motion, (-0.08, 0.08))), "gradient": gradient}


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of many wordings of the scene. Size, speed and background are not always said, a motion of UNNAMED never."""
    text = _noun(scene, rng) if scene.motion in UNNAMED else _moving_noun(scene, rng)
    if rng.random() < 0.5:
        text += f" on {background_words(scene.background)}"
    return text


def _noun(scene: Scene, rng: np.random.Generator) -> str:
    noun = f"{scene.size} {scene.colour} {scene.shape}" if rng.random() < 0.8 else f"{scene.colour} {scene.shape}"
    noun = f"{TILTED} {noun}" if scene.motion == TILTED else noun
    noun = f"a {noun}" if rng.random() < 0.7 else noun
    return noun.replace("a orange", "an orange")


def _moving_noun(scene: Scene, rng: np.random.Generator) -> str:
    verb, gerund = MOTIONS[scene.motion][rng.integers(len(MOTIONS[scene.motion]))]
    noun = _noun(scene, rng)
    says_speed = scene.motion != "standing still" and rng.random() < 0.7
    before = says_speed and rng.random() < 0.4
    words = f"{scene.speed} {{}}" if before else f"{{}} {scene.speed}" if says_speed else "{}"
    return (
        lambda: f"{noun} {words.format(gerund)}",
        lambda: f"{noun}, {words.format(gerund)}",
        lambda: f"{noun} that {words.format(verb)}",
        lambda: f"{noun} {words.format(verb)}",
    )[rng.integers(4)]()


def background_words(background: str) -> str:
    """How captions call a background."""
    return "a soft gradient background" if background == "gradient" else f"a {background} background"


def _pose(scene: Scene, u: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """Centre (T, 2) relative to the frame's middle, scale (T,) and angle (T,) at clip fractions `u`."""
    centre = np.tile(np.asarray(scene.offset, dtype=np.float64), (len(u), 1))
    scale, angle = np.ones_like(u), np.zeros_like(u)
    turn = 2 * np.pi * (_CYCLES[scene.speed] * u + scene.phase)
    if scene.motion in _DIRECTIONS:
        centre += (u[:, None] - 0.5) * _TRAVEL[scene.speed] * np.array(_DIRECTIONS[scene.motion])
    elif scene.motion == "spinning":
        angle = 2 * np.pi * _TURNS[scene.speed] * u
    elif scene.motion == TILTED:
        angle += 2 * np.pi * scene.phase
    elif scene.motion in ("growing", "shrinking"):
        low, high = _SCALE_RANGE[scene.speed]
        first, last = (low, high) if scene.motion == "growing" else (high, low)
        scale = np.clip(first + (last - first) * u, 0.3, 1.6)
    elif scene.motion == "bouncing left and right":
        centre[:, 0] -= _BOUNCE * np.cos(turn)
    elif scene.motion == "bouncing up and down":
        centre[:, 1] -= _BOUNCE * np.cos(turn)
    elif scene.motion == "circling":
        centre += _ORBIT * np.stack([np.sin(turn), -np.cos(turn)], axis=1)
    return centre, scale, angle


def _background(scene: Scene, size: int) -> NDArray[np.float32]:
    if scene.background != "gradient":
        level = {"black": 5.0, "grey": 105.0}[scene.background]
        return np.full((size, size, 3), level, dtype=np.float32)
    angle, *colours = scene.gradient
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp = np.clip(0.5 + 0.8 * (axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle)), 0, 1)[..., None]
    first, last = np.array(colours[:3], np.float32), np.array(colours[3:], np.float32)
    return first + (last - first) * ramp


def render(scene: Scene, times: NDArray[np.floating], size: int = 64) -> NDArray[np.uint8]:
    """Draw the scene at `times` (T,) in base frames. Returns RGB (T, size, size, 3)."""
    centre, scale, angle = _pose(scene, np.asarray(times, dtype=np.float64) / CLIP_LENGTH)
    zoom = size / CANVAS
    radius = SIZES[scene.size] * scale * zoom
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # (T, 2, 2)
    corners = np.einsum("tij,kj->tki", rotation, _OUTLINES[scene.shape]) * radius[:, None, None]
    corners += (centre * zoom + size / 2)[:, None, :]
    background = _background(scene, size)
    colour = np.array(COLOURS[scene.colour], np.float32)
    frames = np.empty((len(radius), size, size, 3), np.uint8)
    for index, outline in enumerate(corners):
        cover = _cover(outline, size)[..., None]
        frames[index] = np.rint(background + (colour - background) * cover).astype(np.uint8)
    return frames


def _cover(outline: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Share of every pixel inside the outline (K, 2)."""
    mask = np.zeros((size * SUPERSAMPLING, size * SUPERSAMPLING), np.uint8)
    points = np.rint((outline * SUPERSAMPLING - 0.5) * 16).astype(np.int32)  # 4 fractional bits
    cv2.fillPoly(mask, [points], 255, shift=4)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


def keyframe_times(num_frames: int = 16) -> NDArray[np.floating]:
    """Base-frame times of a clip's keyframes."""
    return np.arange(num_frames) * KEYFRAME_STEP
