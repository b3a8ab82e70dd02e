"""Comparisons and measurements whose outcomes are entries of RESULTS.md."""
