"""Side-by-side benchmarks: `python -m benchmarks` (or `make bench`) prints one table, ratios first."""
