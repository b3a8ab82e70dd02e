"""The compressed model: its classes, how parts are removed, the code and the card that travel with it."""
