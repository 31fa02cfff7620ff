"""``python -m analysis.cli``: the command, where its script is not on the path."""

from analysis.cli import main

if __name__ == "__main__":
    main()
