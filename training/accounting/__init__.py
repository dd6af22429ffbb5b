"""What a training step costs, counted on meta tensors: memory by part, floating-point operations, days."""
