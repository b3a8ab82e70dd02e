"""Reports: the page as a value, what it is made of, and the three renderers that draw any page."""
