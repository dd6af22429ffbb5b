"""Fused operations of the mission's own arithmetic: Triton kernels where they can run, torch's operations elsewhere."""
