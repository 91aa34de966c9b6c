"""``python -m pdediff`` is ``pdediff``."""

import sys

from pdediff.cli import main

sys.exit(main())
