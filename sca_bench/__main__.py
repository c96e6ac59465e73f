"""`python -m sca_bench`."""

import sys

from sca_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
