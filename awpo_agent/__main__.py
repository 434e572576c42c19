"""``python -m awpo_agent`` is the `awpo` command."""

import sys

from awpo_agent.cli import main

sys.exit(main())
