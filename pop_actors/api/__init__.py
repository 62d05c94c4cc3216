"""The HTTP API: one FastAPI app on the Unix socket and on loopback.

It asks the daemon through `Control`, nothing else.
"""
