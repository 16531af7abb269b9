"""``python -m redir``: the command line, for the Python that runs it.

The processes that it starts import this again, by whatever name: so what takes long waits.
"""

from __future__ import annotations

import re
import sys

from redir import forking


def main() -> int:
    """Run the command that was given: see ``redir.app.cli.main``."""
    if re.search(r"--jobs[ =](?!1\b)\d", " ".join(sys.argv)):
        forking.begin()
    from redir.app import cli  # noqa: PLC0415 - as above

    return cli.main()


if __name__ == "__main__":  # not in the processes that it starts
    sys.exit(main())
