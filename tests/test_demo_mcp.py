"""`python demo/app.py --mcp` offers the endpoints to language models, by the protocol's own client."""

import asyncio

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from small_store import make_store, served

pytestmark = pytest.mark.slow


async def ask(address):
    async with streamable_http_client(f"{address}/gradio_api/mcp/") as (reading, writing, _):
        async with ClientSession(reading, writing) as session:
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            answer = await session.call_tool("compare", {"models": ["tiles-vit_tiny"], "sample": "tiles:6"})
            return tools, answer


def test_language_models_find_the_endpoints_and_get_answers(tmp_path):
    make_store(tmp_path / "artifacts")
    with served(tmp_path / "artifacts", "--mcp") as address:
        tools, answer = asyncio.run(ask(address))
    assert {"models", "samples", "compare", "agreement"} <= tools.keys()
    assert "target" in tools["compare"].inputSchema["properties"] and tools["compare"].description
    assert not answer.isError and "'label': 'blue'" in answer.content[0].text
