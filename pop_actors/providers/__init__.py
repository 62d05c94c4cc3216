"""One chat call per provider: wire formats, facts, prices, errors. Talks to the network, never to actors or disks."""
