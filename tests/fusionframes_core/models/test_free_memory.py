"""Every kind of device says what is free on it, in the way that its system has; none of them is here."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fusionframes_core.models import free_memory
from fusionframes_core.models.free_memory import available_bytes

CPU, MISSING = torch.device("cpu"), Path("/no/such/file")


def card(free: int | None) -> SimpleNamespace:
    """A module of torch for cards of 100 bytes, of which torch holds 30 and uses 20."""

    def mem_get_info(device: torch.device) -> tuple[int, int]:
        if free is None:
            raise RuntimeError("The device doesn't support querying the available free memory")
        return free, 100

    return SimpleNamespace(
        mem_get_info=mem_get_info,
        memory_reserved=lambda device: 30,
        memory_allocated=lambda device: 20,
        get_device_properties=lambda device: SimpleNamespace(total_memory=100),
    )


@pytest.mark.parametrize("name", ["cuda", "xpu"])
def test_a_card(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, name, card(50))
    assert available_bytes(torch.device(name)) == 50 + 30 - 20
    monkeypatch.setattr(torch, name, card(None))
    if name == "xpu":
        assert available_bytes(torch.device(name)) == 100 - 20
    else:
        with pytest.raises(RuntimeError, match="querying"):
            available_bytes(torch.device(name))


def test_a_mac_s_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for used, free in ((10, 40), (60, 0)):
        known = SimpleNamespace(recommended_max_memory=lambda: 50, current_allocated_memory=lambda used=used: used)
        monkeypatch.setattr(torch, "mps", known)
        assert available_bytes(torch.device("mps")) == free


def test_what_nothing_is_known_of() -> None:
    assert available_bytes(torch.device("meta")) is None


@pytest.mark.parametrize(("limit", "free"), [(None, 3 * 1024), ("max", 3 * 1024), ("2048", 2048 - 48)])
def test_linux(limit: str | None, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "_CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 3 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("48\n")
    assert available_bytes(CPU) == free


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def status(pointer: Any, works: int = 1) -> int:
        sizes.append(pointer._obj.size)
        pointer._obj.free = 7 * 2**30
        return works

    for function, free in ((status, 7 * 2**30), (lambda pointer: status(pointer, 0), None)):
        kernel = SimpleNamespace(GlobalMemoryStatusEx=function)
        monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
        assert free_memory._windows_memory() == free
    assert sizes == [64, 64], "as the Windows API asks"


@pytest.mark.parametrize(
    ("known", "free"),
    [
        ({"SC_AVPHYS_PAGES": 3, "SC_PHYS_PAGES": 9, "SC_PAGE_SIZE": 4096}, 3 * 4096),
        ({"SC_PHYS_PAGES": 9, "SC_PAGE_SIZE": 4096}, 9 * 4096),
        ({}, None),
    ],
)
def test_other_systems(known: dict[str, int], free: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def sysconf(name: str) -> int:
        if name not in known:
            raise ValueError("unrecognized configuration name")
        return known[name]

    monkeypatch.setattr(free_memory, "_MEMINFO", MISSING)
    monkeypatch.setattr(os, "sysconf", sysconf)
    assert available_bytes(CPU) == free
