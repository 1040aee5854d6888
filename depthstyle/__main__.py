"""``python -m depthstyle`` is the ``depthstyle`` command."""

import sys

from depthstyle.cli import main

sys.exit(main())
