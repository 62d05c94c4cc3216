"""Formatting: asks for a headline and a lead, and writes the whole text as Markdown to files/artifacts/report.md."""

from __future__ import annotations

import json
from typing import Any

from pop_actors.runner import StageContext, StageResult

SCHEMA = {
    "type": "object",
    "properties": {"headline": {"type": "string"}, "lead": {"type": "string"}},
    "required": ["headline", "lead"],
    "additionalProperties": False,
}


def ingestion(ctx: StageContext) -> StageResult:
    form = ctx.data["seed"]["data"].get("outputFormat", "report")
    return StageResult(output={"form": form, "text": ctx.data["tasks"]["synthesis"]})


def prompt_templating(ctx: StageContext) -> StageResult:
    text = ctx.output["text"]
    messages = [
        {"role": "system", "content": "You are a copy editor."},
        {
            "role": "user",
            "content": f"Write a headline and a lead of one sentence for this {ctx.output['form']}.\n\n"
            f"{text['title']}\n\n{text['summary']}",
        },
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
    if not ctx.output["headline"].strip():
        raise ValueError("the headline is empty")  # the task's next attempt asks again
    return StageResult(output={"characters": len(ctx.output["headline"])}, flags={"needsRefinement": False})


def integration(ctx: StageContext) -> StageResult:
    markdown = _markdown(ctx.output, ctx.data["ingestion"]["text"])
    ctx.io.write_artifact("report.md", markdown)
    return StageResult(output={"file": "report.md", "headline": ctx.output["headline"], "words": len(markdown.split())})


def _markdown(head: dict[str, str], text: dict[str, Any]) -> str:
    sections = "\n\n".join(f"## {section['topic']}\n\n{section['text']}" for section in text["sections"])
    return f"# {head['headline']}\n\n*{head['lead']}*\n\n{text['summary']}\n\n{sections}\n"
