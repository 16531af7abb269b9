"""``python -m redir``: the command line, for the Python that runs it."""

from __future__ import annotations

import sys

from redir.app.cli import main

if __name__ == "__main__":  # not in the processes that it starts
    sys.exit(main())
