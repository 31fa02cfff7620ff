"""``python -m analysis.cli``: the command, where its script is not on the path."""

import os
import sys

if __name__ == "__main__":
    # Python looks for modules in the working folder first. It may be a recording of somebody else, unless it
    # is the one that holds our packages.
    folder = os.getcwd()
    is_ours = __file__.startswith(os.path.join(folder, "analysis", "cli", ""))
    if sys.path[0] == folder and not is_ours and not sys.flags.safe_path:
        del sys.path[0]

    from analysis.cli import main

    main()
