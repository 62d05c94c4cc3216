"""Synthesis: a short first draft, then one round that adds a section for every topic of the brief it left out.

The bar is coverage: each topic has a section of its own. `refine` asks for exactly the missing ones and names them
itself, so a single round meets the bar whatever the model calls things.
"""

from __future__ import annotations

import json
from typing import Any

from pop_actors.runner import StageContext, StageResult

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "summary": {"type": "string"},
        "sections": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"topic": {"type": "string"}, "text": {"type": "string"}},
                "required": ["topic", "text"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "summary", "sections"],
    "additionalProperties": False,
}


def ingestion(ctx: StageContext) -> StageResult:
    return StageResult(output=ctx.data["tasks"]["analysis"])


def prompt_templating(ctx: StageContext) -> StageResult:
    insights = "\n".join(f"- {insight['insight']} ({insight['confidence']})" for insight in ctx.output["insights"])
    messages = [
        {"role": "system", "content": "You are an editor. You write short, plain sentences."},
        {
            "role": "user",
            "content": f"Draft a text about {ctx.output['subject']} from these insights: a title, a summary, and one "
            f"opening section on what matters most.\n{insights}",
        },
    ]
    return StageResult(output={"messages": messages})


def inference(ctx: StageContext) -> StageResult:
    return StageResult(output={"content": _ask(ctx, ctx.output["messages"], SCHEMA)})


def parsing(ctx: StageContext) -> StageResult:
    return StageResult(output=json.loads(ctx.output["content"]))


def validate_structure(ctx: StageContext) -> StageResult:
    checked = ctx.validators.validate_with_schema(SCHEMA, ctx.output)
    return StageResult(output={"errors": checked.errors}, flags={"validationFailed": not checked.valid})


def validate_quality(ctx: StageContext) -> StageResult:
    missing = _missing(ctx.data["ingestion"]["topics"], ctx.output)
    return StageResult(output={"missing": missing}, flags={"needsRefinement": bool(missing)})


def critique(ctx: StageContext) -> StageResult:
    missing = _missing(ctx.data["ingestion"]["topics"], ctx.output)
    ctx.log.info("the draft has no section on: %s", "; ".join(missing))
    return StageResult(output={"draft": ctx.output, "missing": missing})


def refine(ctx: StageContext) -> StageResult:
    draft, missing = ctx.output["draft"], ctx.output["missing"]
    wanted = {f"section_{number}": topic for number, topic in enumerate(missing, 1)}
    schema = {
        "type": "object",
        "properties": {key: {"type": "string", "description": topic} for key, topic in wanted.items()},
        "required": list(wanted),
        "additionalProperties": False,
    }
    topics = "\n".join(f"- {key}: {topic}" for key, topic in wanted.items())
    messages = [
        {"role": "system", "content": "You are an editor. You write short, plain sentences."},
        {
            "role": "user",
            "content": f"This draft leaves out some topics. Write a section for each of them.\n{topics}\n\n"
            f"The draft:\n{json.dumps(draft, ensure_ascii=False, indent=2)}",
        },
    ]
    texts = json.loads(_ask(ctx, messages, schema))
    added = [{"topic": topic, "text": texts[key]} for key, topic in wanted.items()]
    refined = {**draft, "sections": [*draft["sections"], *added]}
    return StageResult(output={"content": json.dumps(refined, ensure_ascii=False)})


def final_validation(ctx: StageContext) -> StageResult:
    empty = [section["topic"] for section in ctx.output["sections"] if not section["text"].strip()]
    return StageResult(output={"empty": empty})


def integration(ctx: StageContext) -> StageResult:
    ctx.io.write_artifact("synthesis.json", json.dumps(ctx.output, ensure_ascii=False, indent=2))
    return StageResult(output=ctx.output)


def _missing(topics: list[str], draft: dict[str, Any]) -> list[str]:
    covered = {section["topic"].casefold() for section in draft["sections"]}
    return [topic for topic in topics if topic.casefold() not in covered]


def _ask(ctx: StageContext, messages: list[dict[str, str]], schema: dict[str, Any]) -> str:
    reply = ctx.llm.chat(messages, response_format=schema)
    ctx.log.info("%s answered with %d tokens", reply.model, reply.usage.output_tokens)
    return str(reply.content)
