"""A storm in a process that has names of its own: run with HOSTS, a file mounted over /etc/hosts, FOLDER, PORT and LOG.

The provider's name is nobody's until the gateway has noticed; then it is written into the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fault_world import Provider
from storm_world import gateway_for

from pop_actors.core.observations import CircuitChanged

NAME = "provider.test"
JOBS, CALLS, PLACES = 10, 10, 16


def main() -> None:
    hosts, folder, port, log = sys.argv[1:]
    provider = Provider(f"http://127.0.0.1:{port}/v1", Path(log))
    with gateway_for(Path(folder), provider, f"http://{NAME}:{port}/v1", max_concurrency=PLACES) as weather:
        weather.begin(JOBS, CALLS)
        weather.wait_for_observation(CircuitChanged)
        assert weather.arrived() == []
        with open(hosts, "a", encoding="ascii") as file:
            file.write(f"127.0.0.1 {NAME}\n")
        assert weather.failures() == []
        weather.check_books()
        weather.check_places(PLACES)


if __name__ == "__main__":
    main()
