"""What `tools/hostile.py` breaks, how, and how it tells what became of it."""
