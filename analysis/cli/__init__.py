"""The command ``spiketape``. It asks `analysis` and `recorder.keeping`, and shows what they answer.

`main` is the way in. Nothing else enters, and nothing in `analysis` knows of this room.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> None:
    """Run the command; where what it needs is not installed, end with a line that says what to install."""
    try:
        from analysis.cli import commands
    except KeyboardInterrupt:
        print("\nspiketape: interrupted before anything was done", file=sys.stderr)  # noqa: T201 - click is not there yet
        raise SystemExit(130) from None
    except ModuleNotFoundError as missing:
        end_without(missing)
    commands.main()


def end_without(missing: ModuleNotFoundError) -> NoReturn:
    """End with a line that says what to install."""
    raise SystemExit(
        f"spiketape: {missing.name} is not installed, the command line needs it: "
        "pip install 'spiketape[analysis]'"
    ) from None
