"""Exports run by transformers.js: in node, and by a page in a browser."""
