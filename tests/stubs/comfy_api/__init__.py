"""A stand-in for ComfyUI's comfy_api: what the pack uses of it, for mypy and for tests without a ComfyUI."""
