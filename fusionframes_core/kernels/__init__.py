"""Fused operations of the networks' arithmetic: Triton kernels where they can run, torch's operations elsewhere."""
