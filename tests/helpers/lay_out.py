"""Where the nodes of a shipped workflow go: groups in columns from left to right, as large as fits the window.

`make layouts` measures every node in ComfyUI's frontend, before and after a run and in both renderers, and puts what
`lay_out` makes of that into the files in workflows/. A type that no group knows is an error here: add it to GROUPS.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Size = tuple[float, float]

TITLE = 30  # pixels of a node's title, which is above its position
GAP = 20  # between nodes, below one and above the next one's title
PAD, HEADER = 14, 40  # of a group: around its nodes, and its title above them
BETWEEN = 32  # columns, and groups of a column
WINDOW = (1600, 1000)
FREE = (80, 104, 1580, 957)  # of the window: what the frontend's own panels leave, as left, top, right, bottom
LARGEST, MERGED = 0.9, 0.95  # scale; and what a column with groups of two stages must win, as a factor of the scale

NOTE = "MarkdownNote"


@dataclass(frozen=True)
class Kind:
    """A group: its title, its colour, and the types that belong to it, in the order of its rows."""

    title: str
    colour: str
    types: tuple[str, ...]
    stacked: bool = False  # every node is a row; otherwise nodes of a type stand side by side
    early: bool = False  # may share a column with other early groups


def _ours(*names: str) -> tuple[str, ...]:
    return tuple(f"FusionFrames_{name}" for name in names)


GROUPS = (
    Kind(
        "Model",
        "#88AAAA",
        (*_ours("LoadModel", "LoadUNet", "LoadTextEncoder", "LoadMoVQ"), "LoraLoaderModelOnly"),
        stacked=True,
        early=True,
    ),
    Kind("Input", "#88AA88", ("LoadVideo", "LoadImage", "BatchImagesNode", *_ours("EncodeVideo")), early=True),
    Kind("Prompt", "#8888AA", (*_ours("EncodeText", "SchedulePrompts"), "CLIPTextEncode"), stacked=True, early=True),
    Kind("First frame", "#88AA88", _ours("DrawFirstFrame")),
    Kind(
        "Keyframes",
        "#3f789e",
        (
            *_ours("AddGuide", "CloseLoop", "ExtendVideo", "EmptyVideoLatent", "PlanSampling", "SampleKeyframes"),
            *_ours("ImageToVideo"),
            *("KSampler", "SamplerCustomAdvanced"),
        ),
    ),
    Kind("Frames between", "#b58b2a", _ours("PrepareInterpolation", "Interpolate")),
    Kind("Frames", "#b06634", (*_ours("Decode"), "VAEDecode", "CreateVideo", "ImageStitch")),
    Kind("Video", "#b06634", ("SaveVideo", "SaveWEBM")),
)
BETWEEN_FRAMES = next(index for index, kind in enumerate(GROUPS) if kind.title == "Frames between")


@dataclass
class Block:
    """A group, or a note, that is placed as one: its nodes with their places in it."""

    size: Size
    places: dict[int, tuple[float, float, Size]]
    kind: Kind | None = None


@dataclass
class Column:
    """Blocks one below the other."""

    blocks: list[Block] = field(default_factory=list)

    @property
    def size(self) -> Size:
        """Width and height."""
        heights = [block.size[1] for block in self.blocks]
        return max(block.size[0] for block in self.blocks), sum(heights) + BETWEEN * (len(heights) - 1)

    @property
    def merged(self) -> bool:
        """Whether it holds groups of more than one stage."""
        kinds = [block.kind for block in self.blocks if block.kind]
        return len(kinds) > 1 and not all(kind.early for kind in kinds) and {kind.title for kind in kinds} != LAST


LAST = {"Frames", "Video"}  # these two belong together


def lay_out(workflow: dict[str, Any], sizes: dict[int, Size]) -> dict[str, Any]:
    """The same workflow with places and groups, for nodes that take up to `sizes` (by id, without their titles).

    Raises ValueError for a type that belongs to no group.
    """
    blocks = [*_blocks(workflow, sizes)]
    notes = [_note(node, sizes) for node in workflow["nodes"] if node["type"] == NOTE]
    columns = max(_arrangements(blocks, notes), key=_score)
    scale = round(_scale(columns), 3)
    places, groups = {}, []
    for x, y, block in _positions(columns):
        places |= {key: (x + dx, y + dy, size) for key, (dx, dy, size) in block.places.items()}
        if block.kind:
            groups.append(_group(len(groups) + 1, x, y, block))
    nodes = [{**node, "pos": [*places[node["id"]][:2]], "size": [*places[node["id"]][2]]} for node in workflow["nodes"]]
    view = {"scale": scale, "offset": [round(FREE[0] / scale, 1), round(FREE[1] / scale, 1)]}
    return {**workflow, "nodes": nodes, "groups": groups, "extra": {**workflow["extra"], "ds": view}}


def _group(number: int, x: float, y: float, block: Block) -> dict[str, Any]:
    assert block.kind is not None
    bounds = [x, y, *block.size]
    return {"id": number, "title": block.kind.title, "bounding": bounds, "color": block.kind.colour, "flags": {}}


def _blocks(workflow: dict[str, Any], sizes: dict[int, Size]) -> Iterator[Block]:
    """Groups in the order of the stages, without the empty ones."""
    members: dict[int, list[dict[str, Any]]] = {}
    for node in workflow["nodes"]:
        if node["type"] != NOTE:
            members.setdefault(_group_of(node, workflow), []).append(node)
    for index in sorted(members):
        kind = GROUPS[index]
        rank = {name: place for place, name in enumerate((*kind.types, "KSampler"))}
        nodes = sorted(members[index], key=lambda node: (rank[node["type"]], node["id"]))
        key = (lambda node: node["id"]) if kind.stacked else (lambda node: node["type"])
        yield _pack([list(row) for _, row in itertools.groupby(nodes, key)], sizes, kind)


def _group_of(node: dict[str, Any], workflow: dict[str, Any]) -> int:
    """Which of GROUPS; a KSampler behind Prepare Interpolation makes frames between."""
    if node["type"] == "KSampler" and "FusionFrames_PrepareInterpolation" in _sources(node, workflow):
        return BETWEEN_FRAMES
    for index, kind in enumerate(GROUPS):
        if node["type"] in kind.types:
            return index
    raise ValueError(f"no group of tests/helpers/lay_out.py has {node['type']}")


def _sources(node: dict[str, Any], workflow: dict[str, Any]) -> set[str]:
    """Types of the nodes that this one is connected to."""
    types = {other["id"]: other["type"] for other in workflow["nodes"]}
    origins = {link[0]: link[1] for link in workflow["links"]}
    return {types[origins[given["link"]]] for given in node["inputs"] if given.get("link")}


def _pack(rows: list[list[dict[str, Any]]], sizes: dict[int, Size], kind: Kind) -> Block:
    """Rows of nodes one below the other, with the group's frame around them; a row of one is as wide as the widest."""
    widths = [sum(sizes[node["id"]][0] for node in row) + GAP * (len(row) - 1) for row in rows]
    widest, places, y = max(widths), {}, float(HEADER)
    for row, width in zip(rows, widths, strict=True):
        x = float(PAD)
        for node in row:
            own = sizes[node["id"]]
            size = (widest if len(row) == 1 and width > widest / 2 else own[0], own[1])
            places[node["id"]] = (x, y + TITLE, size)
            x += size[0] + GAP
        y += TITLE + max(sizes[node["id"]][1] for node in row) + GAP
    return Block((widest + 2 * PAD, y - GAP + PAD), places, kind)


def _note(node: dict[str, Any], sizes: dict[int, Size]) -> Block:
    width, height = sizes[node["id"]]
    return Block((width, height + TITLE), {node["id"]: (0.0, float(TITLE), (width, height))})


def _arrangements(blocks: list[Block], notes: list[Block]) -> Iterator[list[Column]]:
    """Every way to cut the groups into columns, with the notes below one of them or on their own."""
    for cuts in itertools.product((False, True), repeat=len(blocks) - 1):
        columns = [Column([blocks[0]])]
        for block, cut in zip(blocks[1:], cuts, strict=True):
            if cut:
                columns.append(Column())
            columns[-1].blocks.append(block)
        yield [Column(notes), *columns] if notes else columns
        for place in range(len(columns)):
            yield [Column([*column.blocks, *(notes if index == place else [])]) for index, column in enumerate(columns)]


def _score(columns: list[Column]) -> float:
    """The scale that fits; columns that mix stages have to be worth it, and so does a note far from the left."""
    late = next((index for index, column in enumerate(columns) if any(not block.kind for block in column.blocks)), 0)
    return min(_scale(columns), LARGEST) * MERGED ** sum(column.merged for column in columns) * 0.985**late


def _scale(columns: Iterable[Column]) -> float:
    sizes = [column.size for column in columns]
    width = sum(size[0] for size in sizes) + BETWEEN * (len(sizes) - 1)
    left, top, right, bottom = FREE
    return min((right - left) / width, (bottom - top) / max(size[1] for size in sizes), LARGEST)


def _positions(columns: Iterable[Column]) -> Iterator[tuple[float, float, Block]]:
    x = 0.0
    for column in columns:
        y = 0.0
        for block in column.blocks:
            yield x, y, block
            y += block.size[1] + BETWEEN
        x += column.size[0] + BETWEEN
