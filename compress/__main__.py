"""`python -m compress`, the same as the command `compress`."""

import sys

from compress.cli import main

if __name__ == "__main__":
    sys.exit(main())
