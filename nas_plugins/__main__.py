"""``python -m nas_plugins``."""

import sys

from nas_plugins.cli import main

sys.exit(main())
