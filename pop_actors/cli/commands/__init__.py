"""popctl's commands, a module a noun; each has `register(app)`.

What is heavy is imported by the command that needs it.
"""
