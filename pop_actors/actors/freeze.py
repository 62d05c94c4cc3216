"""Imported last by the forkserver: sets apart everything loaded so far, so that a child's collector never touches it.

Without it the first collection in a child copies some 10 MB of shared pages. Nobody else imports this module: doing its
work at import time is the one hook that multiprocessing's preload offers.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
