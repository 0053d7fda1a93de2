"""`python3 -m cpt_operator`."""

import sys

from cpt_operator.main import main

sys.exit(main())
