"""`make soak`: many jobs, a provider that fails in every way, processes killed at random; then each promise is checked.

Usage: python -m tests.soak [--jobs 2000] [--seed N] [--running 8] [--minutes M] [--folder DIR]
The same seed gives the same jobs and the same faults in the same order. Exit code 1, and the folder kept, where a
promise was broken.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.soak import Soak
from tests.soak.world import World

MOST_SHOWN = 60


def main() -> int:
    """Run it and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--running", type=int, default=8, help="jobs.max_running")
    parser.add_argument("--fault-seconds", type=float, default=0.8, help="mean pause between two faults")
    parser.add_argument("--folder", type=Path, help="an empty folder to work in; default: a temporary one")
    parser.add_argument("--minutes", type=float, default=0, help="go on with the next seeds for so long")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="pop-soak-"))).resolve()
    until = time.monotonic() + 60 * options.minutes
    while True:
        code = soak(options, folder)
        if code or time.monotonic() >= until:
            return code
        options.seed += 1


def soak(options: argparse.Namespace, folder: Path) -> int:
    """One, in a folder that is removed where all went well."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"soak of {options.jobs} jobs, --seed {options.seed}, in {folder}", flush=True)
    with World(folder, options.running) as world:
        report = Soak(world, options.jobs, options.seed, options.fault_seconds).run()
    for key, value in report.summary.items():
        print(f"  {key:10} {value}")
    if report.broken:
        print(f"{len(report.broken)} broken promises with --seed {options.seed}; everything is kept in {folder}:")
        for line in report.broken[:MOST_SHOWN]:
            print(f"  - {line}")
        return 1
    print("every promise was kept")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
