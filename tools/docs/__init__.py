"""The documentation: put together from docs/ and from the code, built, and checked (`make docs`)."""
