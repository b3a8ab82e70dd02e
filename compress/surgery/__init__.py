"""Cutting into a model: slices of its tensors, the order of its units, and what the original classes can hold."""
