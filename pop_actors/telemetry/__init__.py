"""What OpenTelemetry's tools are told: its names for LLM calls, and traces of runs where they are wanted."""
