"""What is trained, and towards what: students, losses, new models and their tokens; `loop`: the parts of the loop."""
