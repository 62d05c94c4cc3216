"""Which file each task of the pipeline is in. TASKS is read as data and never executed."""

TASKS = {
    "research": "research.py",
    "analysis": "analysis.py",
    "synthesis": "synthesis.py",
    "formatting": "formatting.py",
}
