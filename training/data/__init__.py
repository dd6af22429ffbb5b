"""Videos in: the published layouts of data sets, shots, encoding once, and reading what was encoded."""
