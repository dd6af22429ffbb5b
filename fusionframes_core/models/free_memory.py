"""How much memory of a device is free."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import torch

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a device, with what torch holds there and does not use; None where nothing is known of it.

    Of a Mac's main memory all is counted, which is an upper bound: it says what is free to its own tools only.
    """
    if device.type == "cpu":
        return _main_memory()
    if device.type == "mps" and hasattr(torch.mps, "recommended_max_memory"):
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    library: Any = getattr(torch, device.type, None)  # torch.cuda, torch.xpu, and what extensions of torch add
    return _of_card(library, device) if hasattr(library, "mem_get_info") else None


def _of_card(library: Any, device: torch.device) -> int:
    held, used = library.memory_reserved(device), library.memory_allocated(device)
    try:
        return library.mem_get_info(device)[0] + held - used
    except RuntimeError:
        if device.type != "xpu":
            raise
        return library.get_device_properties(device).total_memory - used  # drivers that do not say what is free


def _main_memory() -> int | None:
    """Free memory of the computer, or of the container that this process may not grow beyond."""
    if not _MEMINFO.is_file():
        return _windows_memory() if os.name == "nt" else _unix_memory()
    lines = (line.split() for line in _MEMINFO.read_text().splitlines())
    free = next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)
    limit, used = (_CGROUP / name for name in ("memory.max", "memory.current"))
    if free is not None and limit.is_file() and used.is_file() and limit.read_text().strip().isdecimal():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


class _WindowsMemory(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("total", "free", "total_page_file", "free_page_file")),
        *((name, ctypes.c_uint64) for name in ("total_virtual", "free_virtual", "free_extended")),
    ]


def _windows_memory() -> int | None:
    status = _WindowsMemory(size=ctypes.sizeof(_WindowsMemory))
    windows: Any = ctypes  # `windll` is there on Windows alone
    return int(status.free) if windows.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _unix_memory() -> int | None:
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):  # free ones; a Mac knows all of them only
        try:
            return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError):
            continue
    return None
