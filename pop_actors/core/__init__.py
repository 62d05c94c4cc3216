"""Decides, without I/O, clock or threads: ids, seeds, pipelines, events, states, the status fold, policies."""
