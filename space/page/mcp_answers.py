"""What tools answer over MCP: JSON, as text and as structured content, which each tool describes.

By itself Gradio 6 answers with a list's Python text, which no JSON parser reads, and describes nothing.
"""

from __future__ import annotations

import json
from typing import Any

from mcp.types import CallToolRequest, ListToolsRequest, ServerResult, TextContent

from .api import SCHEMAS


def answer_json(server: Any) -> None:
    """Changes a ``gradio.mcp.GradioMCPServer`` in place.

    The text is what the endpoint answers; structured content must be an object, so there the list is
    its ``result``.
    """
    handlers = server.mcp_server.request_handlers
    call, describe = handlers[CallToolRequest], handlers[ListToolsRequest]

    def as_json(answers: list[Any], _: str) -> list[TextContent]:
        return [TextContent(type="text", text=json.dumps(answer, ensure_ascii=False)) for answer in answers]

    async def called(request: CallToolRequest) -> ServerResult:
        answer = await call(request)
        if not answer.root.isError:
            [content] = answer.root.content
            answer.root.structuredContent = {"result": json.loads(content.text)}
        return answer

    async def described(request: ListToolsRequest) -> ServerResult:
        answer = await describe(request)
        for tool in answer.root.tools:
            for field in tool.inputSchema["properties"].values():
                field.pop("format", None)  # says of files that any address is read
            result = {"type": "array", "items": SCHEMAS[server.tool_to_endpoint[tool.name]]}
            tool.outputSchema = {"type": "object", "properties": {"result": result}, "required": ["result"]}
        return answer

    server.postprocess_output_data = as_json
    handlers[CallToolRequest], handlers[ListToolsRequest] = called, described
