"""``python -m facebench VERB``: the same as ``facebench VERB``."""

import sys

from facebench.cli import main

sys.exit(main())
