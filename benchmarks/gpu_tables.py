"""The tables of `python -m benchmarks.gpu`, from the rows that were measured (and none for what was not)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Rows = Mapping[str, Mapping[str, dict[str, Any]]]  # table -> row -> numbers
Cells = dict[str, str]


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A cell: nothing for what was not measured."""
    return "" if value is None else f"{value:,.{digits}f}{unit}"


def ratio(above: float | None, below: float | None) -> str:
    return "" if above is None or below is None else f"{above / below:.2f}"


def stages(rows: Rows) -> list[Cells]:
    """Every stage beside the official code and the floor: its work at the rate of a large product."""
    rate = rows.get("card", {}).get("matrix product", {}).get("teraflops")
    made = []
    own, others = rows.get("stages", {}), rows.get("official", {})
    for name in {**own, **others}:
        found, official = own.get(name, {}), others.get(name, {})
        floor = found["teraflop"] / rate * 1e3 if rate and found else None
        made.append({
            "stage": name,
            "ours, ms": number(found.get("ms")),
            "torch's kernels, ms": number(found.get("torch_ms")),
            "floor, ms": number(floor),
            "ours / floor": ratio(found.get("ms"), floor),
            "GB over weights": number(found.get("gb"), 2),
            "official in half, ms": number(official.get("official_ms")),
            "official / ours": ratio(official.get("official_ms"), official.get("ms")),
            "difference": number(official.get("difference"), 4),
        })  # fmt: skip
    return made


def video(rows: Rows) -> list[Cells]:
    found = rows.get("video", {})
    made = [
        {"part": name, "seconds": number(part["seconds"]), "GB over weights": number(part["gb"], 2)}
        for name, part in found.items()
    ]
    if len(found) > 1:
        total = sum(part["seconds"] for part in found.values())
        made.append({"part": "together", "seconds": number(total), "GB over weights": ""})
    return made


def decoding(rows: Rows) -> list[Cells]:
    """The whole video, by the card whose free memory the plan was made for."""
    return [
        {
            "card": name,
            "frames at once": f"{found['chunk']:.0f}{' in bands' * bool(found['banded'])}",
            "seconds": number(found["seconds"]),
            "GB over weights": number(found["gb"], 2),
        }
        for name, found in rows.get("decoding", {}).items()
    ]


def memory(rows: Rows) -> list[Cells]:
    return [
        {"frames": name, "GB over weights": number(found["gb"], 2), "ms per frame": number(found["ms_per_frame"])}
        for name, found in rows.get("memory", {}).items()
    ]


def weights(rows: Rows) -> list[Cells]:
    return [
        {
            "weights": name,
            "ms": number(found["ms"]),
            "GB of weights": number(found["weights_gb"], 2),
            "GB that stay": number(found["resident_gb"], 2),
            "GB at the most": number(found["gb"], 2),
        }
        for name, found in rows.get("weights", {}).items()
    ]


def masked(rows: Rows) -> list[Cells]:
    return [
        {
            "videos": name,
            "ours, ms": number(found["ms"]),
            "masked, ms": number(found["masked_ms"]),
            "masked / ours": ratio(found["masked_ms"], found["ms"]),
            "work, masked / ours": ratio(found["masked_teraflop"], found["teraflop"]),
        }
        for name, found in rows.get("masked", {}).items()
    ]


def kernels(rows: Rows) -> list[Cells]:
    return [
        {
            "operation": name,
            "torch, ms": number(found["torch_ms"], 3),
            "fused, ms": number(found.get("ms"), 3),
            "torch / fused": ratio(found["torch_ms"], found.get("ms")),
        }
        for name, found in rows.get("kernels", {}).items()
    ]


def comfyui(rows: Rows) -> list[Cells]:
    return [
        {"stage": stage, "nodes / core": number(value, 3)}
        for found in rows.get("comfyui", {}).values()
        for stage, value in found.items()
    ]


def compiled(rows: Rows) -> list[Cells]:
    eager = rows.get("stages", {})
    return [
        {
            "stage": name,
            "compiled, ms": number(found["ms"]),
            "eager / compiled": ratio(eager.get(name, {}).get("ms"), found["ms"]),
            "seconds to compile": number(found["compile_seconds"]),
        }
        for name, found in rows.get("compiled", {}).items()
    ]


def graphs(rows: Rows) -> list[Cells]:
    eager = rows.get("stages", {})
    return [
        {
            "stage": name,
            "replayed, ms": number(found["ms"]),
            "eager / replayed": ratio(eager.get(name, {}).get("ms"), found["ms"]),
        }
        for name, found in rows.get("graphs", {}).items()
    ]


def training(rows: Rows) -> list[Cells]:
    """Steps of each stage, by setting, beside the official network trained plainly, where that is as large."""
    found = rows.get("training", {})
    made = []
    for name, row in found.items():
        plain = found.get(f"{name.partition(',')[0]}, official network, plainly", {})
        fits = not row.get("out_of_memory")
        as_large = row is not plain and row.get("parameters") == plain.get("parameters")
        made.append({
            "step": name,
            "parameters": f"{row['parameters'] / 1e6:,.1f} M" if "parameters" in row else "",
            "ms": number(row.get("ms")) if fits else "does not fit",
            "GB at the peak": number(row.get("gb"), 2),
            "TFLOP/s": number(row.get("tflops")),
            "MFU": number(row.get("mfu"), 3),
            "official / ours": ratio(plain.get("ms"), row.get("ms")) if as_large else "",
            "first step, s": number(row.get("first_seconds")),
        })  # fmt: skip
    return made


TABLES: dict[str, Callable[[Rows], list[Cells]]] = {
    "Stages": stages,
    "One video": video,
    "Decoding the video as planned for a card": decoding,
    "Decoding a chunk": memory,
    "Guided keyframe step, by how its weights are kept": weights,
    "Group interpolation against Masked Frame Interpolation, one prediction": masked,
    "Single operations": kernels,
    "ComfyUI against core: processor time, tiny model on the CPU": comfyui,
    "CUDA graphs": graphs,
    "torch.compile": compiled,
    "Training steps, batch 1": training,
}


def markdown(rows: Rows) -> str:
    """Every table that has a row."""
    parts = []
    for title, table in TABLES.items():
        cells = table(rows)
        if cells:
            head = list(cells[0])
            lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in cells)]
            parts.append("\n".join([f"{title}\n", *("| " + " | ".join(line) + " |" for line in lines)]))
    return "\n\n".join(parts)
