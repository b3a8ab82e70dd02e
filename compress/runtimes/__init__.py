"""Runtimes of others: what an export is, how its graphs are called, and running them behind the face of a model."""
