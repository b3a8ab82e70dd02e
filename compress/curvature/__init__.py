"""What speech tells of a model without training it: how much units matter, and how to make up for those that go."""
