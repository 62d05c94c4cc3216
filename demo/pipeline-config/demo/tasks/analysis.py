"""Analysis: weighs what research found, and says how sure it is."""

from __future__ import annotations

import json

from pop_actors.runner import StageContext, StageResult

SCHEMA = {
    "type": "object",
    "properties": {
        "insights": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "insight": {"type": "string"},
                    "evidence": {"type": "string"},
                    "confidence": {"type": "string", "enum": ["low", "medium", "high"]},
                },
                "required": ["insight", "evidence", "confidence"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["insights"],
    "additionalProperties": False,
}


def ingestion(ctx: StageContext) -> StageResult:
    return StageResult(output=ctx.data["tasks"]["research"])


def prompt_templating(ctx: StageContext) -> StageResult:
    findings = "\n".join(f"- {finding['topic']}: {finding['finding']}" for finding in ctx.output["findings"])
    messages = [
        {"role": "system", "content": "You are an analyst. Every insight names the evidence it rests on."},
        {"role": "user", "content": f"What follows from these findings about {ctx.output['subject']}?\n{findings}"},
    ]
    return StageResult(output={"messages": messages})


def inference(ctx: StageContext) -> StageResult:
    reply = ctx.llm.chat(ctx.output["messages"], response_format=SCHEMA)
    ctx.log.info("%s answered with %d tokens", reply.model, reply.usage.output_tokens)
    return StageResult(output={"content": reply.content})


def parsing(ctx: StageContext) -> StageResult:
    return StageResult(output=json.loads(ctx.output["content"]))


def validate_structure(ctx: StageContext) -> StageResult:
    checked = ctx.validators.validate_with_schema(SCHEMA, ctx.output)
    return StageResult(output={"errors": checked.errors}, flags={"validationFailed": not checked.valid})


def validate_quality(ctx: StageContext) -> StageResult:
    unfounded = [insight["insight"] for insight in ctx.output["insights"] if not insight["evidence"].strip()]
    if unfounded:
        raise ValueError(f"no evidence for {', '.join(unfounded)}")  # the task's next attempt asks again
    return StageResult(output={"insights": len(ctx.output["insights"])}, flags={"needsRefinement": False})


def integration(ctx: StageContext) -> StageResult:
    research = ctx.data["ingestion"]
    analysis = {"subject": research["subject"], "topics": research["topics"], "insights": ctx.output["insights"]}
    ctx.io.write_artifact("analysis.json", json.dumps(analysis, ensure_ascii=False, indent=2))
    return StageResult(output=analysis)
