"""``python -m analysis.cli``: the command, where its script is not on the path."""

import os
import sys

if __name__ == "__main__":
    # Python looks for modules in the working folder first, which may be a recording of somebody else. It is
    # needed only where it holds our packages, and then comes last.
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        folder = sys.path.pop(0)
        if __file__.startswith(os.path.join(folder, "analysis", "cli", "")):
            sys.path.append(folder)

    from analysis.cli import main

    main()
