"""`python -m rlhf_helpers`: the command line of `cli`."""

import sys

from rlhf_helpers.cli import main

if __name__ == "__main__":
    sys.exit(main())
