"""The parts of `python -m tools.gpu_check`."""
