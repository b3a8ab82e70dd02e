"""Programs beside the package: experiments, the entries of RESULTS.md, and what keeps this checkout in order.

They are run from the checkout, as `python -m tools.NAME`, and import nothing of the tests.
"""
