"""Research: turns the seed's brief into findings, at least one of them for the subject as a whole."""

from __future__ import annotations

import json

from pop_actors.runner import StageContext, StageResult

SCHEMA = {
    "type": "object",
    "properties": {
        "findings": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"topic": {"type": "string"}, "finding": {"type": "string"}},
                "required": ["topic", "finding"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["findings"],
    "additionalProperties": False,
}

# Where the different kinds of seed name what they are about, and what has to be covered.
SUBJECT_KEYS = ("industry", "topic", "sourceType", "type")
TOPIC_KEYS = ("focusAreas", "keywords", "dataPoints")


def ingestion(ctx: StageContext) -> StageResult:
    brief = ctx.data["seed"]["data"]
    subject = next((brief[key] for key in SUBJECT_KEYS if brief.get(key)), "the brief")
    topics = next((brief[key] for key in TOPIC_KEYS if brief.get(key)), [subject])
    return StageResult(output={"subject": subject, "topics": topics, "brief": brief})


def prompt_templating(ctx: StageContext) -> StageResult:
    asked = ctx.output
    topics = "\n".join(f"- {topic}" for topic in asked["topics"])
    messages = [
        {
            "role": "system",
            "content": "You are a research assistant specializing in comprehensive information gathering.",
        },
        {
            "role": "user",
            "content": f"Research {asked['subject']}. Give one finding for each of these topics:\n{topics}\n\n"
            f"The whole brief:\n{json.dumps(asked['brief'], ensure_ascii=False, indent=2)}",
        },
    ]
    return StageResult(output={"messages": messages})


def inference(ctx: StageContext) -> StageResult:
    # Temperature and maxTokens are taken from the task's config in pipeline.json, which may name a model, too; else
    # the provider's own default answers.
    reply = ctx.llm.chat(ctx.output["messages"], response_format=SCHEMA)
    ctx.log.info("%s answered with %d tokens", reply.model, reply.usage.output_tokens)
    return StageResult(output={"content": reply.content})


def parsing(ctx: StageContext) -> StageResult:
    return StageResult(output=json.loads(ctx.output["content"]))


def validate_structure(ctx: StageContext) -> StageResult:
    checked = ctx.validators.validate_with_schema(SCHEMA, ctx.output)
    return StageResult(output={"errors": checked.errors}, flags={"validationFailed": not checked.valid})


def validate_quality(ctx: StageContext) -> StageResult:
    empty = [finding["topic"] for finding in ctx.output["findings"] if not finding["finding"].strip()]
    if empty:
        raise ValueError(f"no finding for {', '.join(empty)}")  # the task's next attempt asks again
    return StageResult(output={"findings": len(ctx.output["findings"])}, flags={"needsRefinement": False})


def integration(ctx: StageContext) -> StageResult:
    asked = ctx.data["ingestion"]
    research = {"subject": asked["subject"], "topics": asked["topics"], "findings": ctx.output["findings"]}
    ctx.io.write_artifact("research.json", json.dumps(research, ensure_ascii=False, indent=2))
    return StageResult(output=research)
