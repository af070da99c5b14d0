"""`python -m resurgam`."""

from __future__ import annotations

import sys

from resurgam.cli.main import main

sys.exit(main())
