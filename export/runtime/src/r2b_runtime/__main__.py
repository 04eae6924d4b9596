"""`python -m r2b_runtime` is `r2b-run`."""

import sys

from r2b_runtime.command import main

sys.exit(main())
