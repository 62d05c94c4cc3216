"""pop_actors: multi-task LLM pipelines as a long-lived, supervised service."""

__version__ = "0.2.0"
