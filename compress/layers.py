"""The published name of the search for blocks; `coarse_search` numbers blocks from 1, as its paper does."""

from compress.search import coarse_search as coarse_search
