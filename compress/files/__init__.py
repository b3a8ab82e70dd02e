"""Files and folders: whole or absent, where they lie, what ships with the package, memory given back to the system."""
