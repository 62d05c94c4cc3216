"""The soak's pipelines: what their tasks do is told by each seed (`plan.py`), and every stage leaves a trace outside.

A prompt begins with the place it was asked from, `job/task/attempt/stage/round/number`: the provider's log tells whose
call each one was.
"""

from __future__ import annotations

from tests.support.daemon import Workspace

MODEL = "gpt-5-nano-2025-08-07"  # a model with a price, so that what is booked can be held against it
MAX_REFINEMENTS = 2
STAGE_TIMEOUT_SECONDS = 0.4

COMMON = f"""
import json, os, signal, time

def told(ctx):
    return ctx.data["seed"]["data"]

def begin(ctx, stage):
    line = {{"job": ctx.meta.job_id, "task": ctx.meta.task_name, "stage": stage, "attempt": ctx.meta.attempt,
            "round": ctx.meta.round, "pid": os.getpid(), "at": time.time()}}
    place = os.open(told(ctx)["traces"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(place, json.dumps(line).encode() + b"\\n")
    os.close(place)
    print(f"{{stage}} of {{ctx.meta.task_name}} begins")

def ask(ctx, stage, number=0):
    meta, scripts = ctx.meta, told(ctx)["scripts"].get(ctx.meta.task_name, ["ok"])
    troubled = meta.attempt == 1 or told(ctx).get("always")
    script = scripts[(number + meta.round) % len(scripts)] if troubled else "slow-10ms"
    place = f"{{meta.job_id}}/{{meta.task_name}}/{{meta.attempt}}/{{stage}}/{{meta.round}}/{{number}}"
    timeout = 1.5 if "endless" in script else None
    return ctx.llm.chat(f"{{place}} a question", model=f"{MODEL}+{{script}}", timeout=timeout).content
"""

ASKING = (
    COMMON
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {"upstream": sorted(ctx.data["tasks"])}}

def inference(ctx):
    begin(ctx, "inference")
    ctx.io.write_tmp("draft.txt", ctx.meta.task_name)
    text = ask(ctx, "inference")
    if told(ctx).get("twice"):
        text += ask(ctx, "inference")
    return {"output": {"text": text[:1000]}}

def integration(ctx):
    begin(ctx, "integration")
    ctx.io.write_artifact(f"{ctx.meta.task_name}.md", ctx.output["text"])
    ctx.log.info("done with %s", ctx.meta.task_name)
    return {"output": ctx.output}
"""
)
BATCHING = (
    COMMON
    + """
def inference(ctx):
    begin(ctx, "inference")
    texts = ctx.io.run_batch(range(told(ctx)["items"]), lambda item: ask(ctx, "inference", item)[:50], concurrency=3)
    return {"output": {"texts": texts}}

def integration(ctx):
    begin(ctx, "integration")
    ctx.io.write_artifact("texts.json", ctx.output["texts"])
    return {"output": {"count": len(ctx.output["texts"])}}
"""
)
REFINING = (
    COMMON
    + """
def inference(ctx):
    begin(ctx, "inference")
    return {"output": {"text": ask(ctx, "inference")}}

def validate_quality(ctx):
    begin(ctx, "validateQuality")
    return {"output": {"round": ctx.meta.round}, "flags": {"needsRefinement": ctx.meta.round < told(ctx)["rounds"]}}

def critique(ctx):
    begin(ctx, "critique")
    return {"output": {"critique": ask(ctx, "critique")}}

def refine(ctx):
    begin(ctx, "refine")
    return {"output": {"text": ask(ctx, "refine")}}

def final_validation(ctx):
    begin(ctx, "finalValidation")
    return {"output": {"fine": True}}

def integration(ctx):
    begin(ctx, "integration")
    ctx.io.write_artifact("refined.md", json.dumps(ctx.output))
    return {"output": ctx.output}
"""
)
FLAKY = (
    COMMON
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {}}

def parsing(ctx):
    begin(ctx, "parsing")
    if ctx.meta.attempt <= told(ctx)["fails"]:
        raise RuntimeError(f"attempt {ctx.meta.attempt} is to fail")
    return {"output": {"attempt": ctx.meta.attempt}}
"""
)
OPTIONAL = COMMON + "\ndef ingestion(ctx):\n    begin(ctx, 'ingestion')\n    raise RuntimeError('nobody needs it')\n"
CRASHING = (
    COMMON
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {}}

def parsing(ctx):
    begin(ctx, "parsing")
    plan, marks = told(ctx), f"{told(ctx)['traces']}.{ctx.meta.job_id}"
    place = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    crashed = os.fstat(place).st_size
    if crashed < plan["crashes"]:
        os.write(place, b"x")
        if crashed % 2:
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(place)
    return {"output": {"crashed": crashed}}
"""
)
FAILING = (
    COMMON
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    how = told(ctx)["how"]
    if how == "exception":
        raise ValueError("as planned")
    if how == "invalid_result":
        return 7
    while how == "timeout":
        time.sleep(0.01)
    return {"output": {}, "flags": {"kind": "text"}}

def inference(ctx):
    begin(ctx, "inference")
    if told(ctx)["how"] == "provider":
        ask(ctx, "inference")
    return {"output": {}, "flags": {"kind": 1} if told(ctx)["how"] == "flags" else {}}

def validate_structure(ctx):
    begin(ctx, "validateStructure")
    return {"output": {}, "flags": {"validationFailed": True}}
"""
)
HALTING = (
    COMMON
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {}}

def parsing(ctx):
    begin(ctx, "parsing")
    while not os.path.exists(f"{told(ctx)['traces']}.{ctx.meta.job_id}.go"):
        time.sleep(0.01)
    return {"output": {}}
"""
)
CONTROLLING = (
    COMMON
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    added = [{"name": "extra", "task": "print"}, {"name": "more", "task": "print"}]
    with open(os.path.join(ctx.io.get_task_dir(), "control.json"), "w") as file:
        json.dump({"patch": {"add": added}, "skip": [{"task": "draw", "reason": "as planned"}]}, file)
    return {"output": {}}
"""
)
UNLOADABLE = "def ingestion(ctx:\n"
QUICK = COMMON + "\ndef ingestion(ctx):\n    begin(ctx, 'ingestion')\n    return {'output': ctx.meta.task_name}\n"


def add_pipelines(workspace: Workspace) -> None:
    """Write all of them."""
    workspace.add_pipeline("quick", dict.fromkeys(("one", "two"), QUICK))
    workspace.add_pipeline("chain", dict.fromkeys(("research", "write"), ASKING))
    branches = [
        "plan",
        {"name": "left", "dependsOn": ["plan"]},
        {"name": "right", "dependsOn": ["plan"]},
        {"name": "join", "dependsOn": ["left", "right"]},
    ]
    workspace.add_pipeline("branches", dict.fromkeys(("plan", "left", "right", "join"), ASKING), branches)
    workspace.add_pipeline("batch", {"batch": BATCHING})
    workspace.add_pipeline("refine", {"refine": REFINING})
    workspace.add_pipeline("strict", {"refine": REFINING}, onRefinementExhausted="reject")
    entries = ["flaky", {"name": "extra", "optional": True, "maxAttempts": 1}, "last"]
    workspace.add_pipeline("flaky", {"flaky": FLAKY, "extra": OPTIONAL, "last": QUICK}, entries)
    workspace.add_pipeline("crashing", {"crash": CRASHING, "after": QUICK})
    failing = {"name": "fail", "maxAttempts": 2}
    workspace.add_pipeline("failing", {"fail": FAILING}, [failing])
    workspace.add_pipeline("late", {"fail": FAILING}, [{**failing, "stageTimeout": STAGE_TIMEOUT_SECONDS}])
    workspace.add_pipeline("gated", {"draft": QUICK, "publish": QUICK}, [{"name": "draft", "gate": True}, "publish"])
    workspace.add_pipeline("halting", {"before": QUICK, "halt": HALTING})
    workspace.add_pipeline("controlled", {"plan": CONTROLLING, "draw": QUICK, "print": QUICK})
    workspace.add_pipeline("unloadable", {"load": UNLOADABLE})
    workspace.add_pipeline("invalid", {"one": QUICK}, [{"name": "one", "dependsOn": ["nothing"]}])
