"""The parts of a training loop: schedules, optimizers, exact resume, progress."""
