"""The demo as it is served to others: behind a proxy under a prefix, and with a login."""

import json
import urllib.request
from urllib.error import HTTPError

import pytest
from gradio_client import Client
from gradio_client.exceptions import AuthenticationError
from playwright.sync_api import expect
from reverse_proxy import proxied
from small_store import ROOT, served

pytestmark = pytest.mark.slow
LOGIN = ("visitors", "a-long-password")


@pytest.mark.browser
def test_behind_a_proxy_the_page_loads_answers_and_draws_charts_and_so_do_scripts(store, visit):
    with served(store.root, "--root-path=/cvx") as upstream, proxied(upstream, "/cvx") as (address, paths):
        answer = Client(f"{address}/", verbose=False).predict(["tiles-vit_tiny"], sample="tiles:6", api_name="/compare")
        assert answer["label"] == "blue" and answer["answers"][0]["error"] == ""
        missing = []
        page = visit(f"{address}/?tab=runs&runs.dataset=tiles")
        page.on("response", lambda response: missing.append(response.url) if response.status >= 400 else None)
        expect(page.locator(".cvx-curves .scatterlayer .trace")).to_have_count(2)
        page.get_by_role("tab", name="Compare").click()
        expect(page.locator(".cvx-quad").first).to_be_visible()
        page.locator('.cvx-strip[data-dataset="tiles"]').get_by_label("sample 7, blue").locator("visible=true").click()
        expect(page.locator('.cvx-row[aria-label^="Tiles"] > header')).to_contain_text("sample 7 of 40")
        with page.expect_download() as saved:
            page.locator('.cvx-row[aria-label^="Tiles"] [data-save="csv"]').click()
        assert saved.value.suggested_filename == "cvx-tiles.csv"
        assert page.url.startswith(f"{address}/?") and missing == []
    assert any(path.endswith("plotly-gl2d.min.js") for path in paths)


def test_a_login_guards_page_endpoints_and_files(store):
    with served(store.root, CVX_AUTH=":".join(LOGIN)) as address:
        for path in ("/gradio_api/info", "/config", f"/gradio_api/file={ROOT}/demo/vendor/plotly-gl2d.min.js"):
            with pytest.raises(HTTPError) as refused:
                urllib.request.urlopen(address + path)
            assert refused.value.code == 401, path
        body = json.dumps({"data": []}).encode()
        request = urllib.request.Request(
            f"{address}/gradio_api/call/models", body, {"Content-Type": "application/json"}
        )
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 401
        for wrong in (None, (LOGIN[0], "guessed")):
            with pytest.raises((AuthenticationError, ValueError)):
                Client(address, auth=wrong, verbose=False)
        held = Client(address, auth=LOGIN, verbose=False).predict(api_name="/models")
        assert len(held["models"]) == 3
