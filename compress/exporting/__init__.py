"""Exports: graphs for runtimes and clients of others, checked against the model before anything is said to be done."""
