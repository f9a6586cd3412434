"""`python demo/app.py --mcp` offers the endpoints to language models, by the protocol's own client."""

import asyncio
import json
import re

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from small_store import ROOT, make_store, served

pytestmark = pytest.mark.slow


def told():
    """Return the address that the demo's page gives to a client of the protocol."""
    block = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "demo.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    return json.loads(block)["mcpServers"]["cvx"]["url"]


async def ask(address):
    async with streamable_http_client(told().replace("http://127.0.0.1:7860", address)) as (reading, writing, _):
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
