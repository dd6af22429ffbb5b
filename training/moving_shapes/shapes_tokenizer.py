"""The tokenizer of FusionFrames Tiny: one token a word of Moving Shapes' captions, in T5's format.

Everyday synonyms are rewritten to the captions' own words before the split, so that a prompt with "ball", "gray" or
"leftwards" means to the model exactly what it was trained on. Ids 0, 1 and 2 are <pad>, </s> and <unk> as in T5.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from fusionframes_core.files import home_path
from fusionframes_core.models.tokenizer import SPECIAL_TOKENS

from .scenes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, SPEEDS, TILTED

GLUE = ("a", "an", "that", "on", "soft", "background", ",")

# Canonical words -> whole words that are rewritten to them, in this order; "" drops a word.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "": ("is", "are", "it", "and it", "the camera shows", "video of", "please", "which is", "that is"),
    "standing still": (
        "stationary",
        "motionless",
        "static",
        "staying still",
        "resting",
        "sitting still",
        "holding still",
        "still standing",
    ),
    "stands still": ("rests", "stays still", "stays in place", "does nothing", "doesn't move"),
    "getting bigger": ("getting larger", "becoming bigger", "becoming larger"),
    "getting smaller": ("becoming smaller", "getting tinier"),
    "gets bigger": ("gets larger", "becomes bigger", "becomes larger"),
    "gets smaller": ("becomes smaller", "gets tinier"),
    "bouncing": ("jumping", "hopping", "oscillating", "swinging"),
    "bounces": ("jumps", "hops", "oscillates", "swings"),
    "left and right": ("right and left", "from left to right and back", "horizontally", "sideways"),
    "up and down": ("down and up", "vertically"),
    "circling": (
        "orbiting",
        "orbiting in a circle",
        "going around in a circle",
        "going in circles",
        "moving in circles",
    ),
    "circles": ("orbits", "orbits in a circle", "goes around in a circle", "goes in circles", "moves in circles"),
    "spinning": ("turning around", "turning", "revolving", "twirling", "whirling"),
    "spins": ("turns", "revolves", "twirls", "whirls"),
    "growing": ("expanding", "enlarging"),
    "grows": ("expands", "enlarges"),
    "shrinking": ("contracting",),
    "shrinks": ("contracts",),
    "rising": ("ascending", "climbing"),
    "rises": ("ascends", "climbs"),
    "falling": ("descending", "dropping", "sinking"),
    "falls": ("descends", "drops", "sinks"),
    "moving": ("travelling", "traveling", "sliding", "gliding", "flying", "drifting", "heading", "running", "floating"),
    "moves": ("travels", "slides", "glides", "flies", "drifts", "heads", "runs", "floats"),
    "moving left": ("moving leftwards?", "moving towards? the left"),
    "moving right": ("moving rightwards?", "moving towards? the right"),
    "left": ("leftwards?",),
    "right": ("rightwards?",),
    "upwards": ("upward",),
    "downwards": ("downward",),
    "slowly": ("slow", "gently", "leisurely"),
    "quickly": ("fast", "rapidly", "swiftly", "speedily", "quick"),
    "small": ("tiny", "little"),
    "large": ("big", "huge", "giant"),
    "circle": ("ball", "disc", "disk", "dot"),
    "square": ("box",),
    "grey": ("gray",),
    "purple": ("violet",),
    "cyan": ("turquoise", "aqua"),
    "soft gradient": ("smooth gradient",),
    "background": ("backdrop",),
    "black background": ("dark background",),
    "on": ("over", "against", "before", "in front of", "with"),
    "that": ("which", "who"),
    ",": ("and then",),
}


def vocabulary() -> list[str]:
    """Every word that a caption can contain; new ones go last, because models know the others by their places."""
    phrases = [*GLUE, *COLOURS, *SHAPES, *SIZES, *SPEEDS, *BACKGROUNDS]
    phrases += [wording for wordings in MOTIONS.values() for pair in wordings for wording in pair]
    return list(dict.fromkeys(word for phrase in (*phrases, TILTED) for word in phrase.split()))


def build_tokenizer(words: Iterable[str] | None = None) -> Tokenizer:
    """Word-level tokenizer: lower case, synonyms, punctuation apart, the end token appended."""
    special = [SPECIAL_TOKENS[name] for name in ("pad_token", "eos_token", "unk_token")]
    vocab = {word: index for index, word in enumerate([*special, *(vocabulary() if words is None else words)])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=SPECIAL_TOKENS["unk_token"]))
    rewrites = [normalizers.Replace(_whole_words(wordings), word) for word, wordings in SYNONYMS.items()]
    tidy = [normalizers.Replace(Regex(r"[.!?;:\"]+"), " "), normalizers.Replace(Regex(r"[‐-―-]"), " ")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), *tidy, *rewrites])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    eos = SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[(eos, vocab[eos])]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def _whole_words(wordings: tuple[str, ...]) -> Regex:
    longest_first = sorted(wordings, key=len, reverse=True)
    return Regex(r"\b(?:" + "|".join(re.sub(" ", r"\\s+", wording) for wording in longest_first) + r")\b")


def main() -> None:
    """Write the tokenizer: `python -m training.moving_shapes.shapes_tokenizer FILE`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", type=home_path, help="tokenizer.json to write")
    path = parser.parse_args().path
    path.parent.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save(str(path))


if __name__ == "__main__":
    main()
