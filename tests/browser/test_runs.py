"""Films, embeddings and curves of the demo in a real browser."""

import pytest
from playwright.sync_api import expect
from small_runs import EPOCHS, add_run, add_runs
from small_store import NASTY, make_splits, make_store, served

pytestmark = pytest.mark.browser
TILES = {"film": "&film.dataset=tiles", "embeddings": "&embeddings.dataset=tiles"}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("browser") / "artifacts")
    add_runs(store)
    with served(store.root) as address:
        yield address


def pixels(page, card=0):
    return page.locator(".cvx-reel canvas[data-sprite]").nth(card).evaluate("canvas => canvas.toDataURL()")


TICKS = """() => window.gradio_config.dependencies
    .filter(one => one.targets.some(([, event]) => event === "tick")).map(one => one.id)"""


def test_the_film_plays_in_step_for_all_runs_without_asking_the_server(visit, address):
    page = visit(f"{address}/?tab=film{TILES['film']}")
    expect(page.locator(".cvx-reel")).to_have_count(2)
    said = page.locator(".cvx-player output")
    expect(said).to_have_text(f"epoch {EPOCHS} of {EPOCHS}")
    expect(page.locator(".cvx-reel").first).to_contain_text("its map after epoch 2")
    expect(page.locator(".cvx-curve svg").first).to_be_visible()
    asked, last = [], pixels(page, 1)
    ticks = page.evaluate(TICKS)  # the look for news, every ten seconds

    def note(request):
        if "queue/join" in request.url and request.post_data_json["fn_index"] not in ticks:
            asked.append(request.url)

    page.on("request", note)
    page.get_by_role("slider", name="epoch").focus()
    page.keyboard.press("Home")
    expect(said).to_have_text(f"epoch 0 of {EPOCHS}")
    expect(page.locator(".cvx-reel").first).to_contain_text("zero everywhere")
    first = pixels(page, 1)
    page.keyboard.press("ArrowRight")
    expect(said).to_have_text(f"epoch 1 of {EPOCHS}")
    assert len({first, last, pixels(page, 1)}) == 3
    page.keyboard.press("Space")
    expect(said).to_have_text(f"epoch {EPOCHS} of {EPOCHS}")
    expect(page.get_by_role("button", name="play")).to_be_visible()
    assert asked == [] and pixels(page, 1) == last


def test_a_point_lights_up_in_every_panel_and_a_click_compares_the_models_on_it(visit, address):
    page = visit(f"{address}/?tab=embeddings{TILES['embeddings']}")
    expect(page.locator(".cvx-panel .cvx-plot svg").nth(3)).to_be_visible()
    place = page.locator(".cvx-panel .cvx-plot").first.evaluate(PLACE, 5)
    page.mouse.move(*place)
    expect(page.locator(".cvx-ring:visible")).to_have_count(2)
    tip = page.locator(".cvx-tip")
    expect(tip).to_contain_text("label green")
    expect(tip.locator("canvas")).to_be_visible()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator('.cvx-row[aria-label^="Tiles"] > header')).to_contain_text("test sample 6 of 40")
    page.go_back()
    expect(page.get_by_role("tab", name="Embeddings")).to_have_attribute("aria-selected", "true")


PLACE = """(plot, i) => {
    const { xaxis, yaxis } = plot._fullLayout, { x, y } = plot._fullData[0], box = plot.getBoundingClientRect();
    return [box.x + xaxis._offset + xaxis.l2p(x[i]), box.y + yaxis._offset + yaxis.l2p(y[i])];
}"""


def test_a_lasso_selects_in_every_panel_and_counts_by_class(visit, address):
    page = visit(f"{address}/?tab=embeddings{TILES['embeddings']}&embeddings.color=prediction")
    expect(page.locator(".cvx-panel .cvx-plot svg").nth(3)).to_be_visible()
    box = page.locator(".cvx-panel .nsewdrag").first.bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)]
    for number, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    chosen = page.locator(".cvx-chosen")
    expect(chosen).to_contain_text("40 of 40 images selected")
    expect(chosen.locator("tbody tr")).to_have_count(4)
    expect(chosen.locator(".cvx-thumbs button")).to_have_count(40)
    page.get_by_role("button", name="Clear").click()
    expect(chosen).to_be_empty()
    page.get_by_role("radio", name="Label").check()
    page.get_by_role("button", name="blue").press("Enter")
    expect(chosen).to_contain_text("10 of 40 images selected")
    chosen.locator(".cvx-thumbs button").nth(1).press("Enter")
    expect(page.locator('.cvx-row[aria-label^="Tiles"] > header')).to_contain_text("test sample 7 of 40")


def test_layout_and_color_change_without_asking_the_server_and_stand_in_the_link(visit, address):
    page = visit(f"{address}/?tab=embeddings{TILES['embeddings']}")
    expect(page.locator(".cvx-panel .cvx-plot svg").nth(3)).to_be_visible()
    page.get_by_role("radio", name="UMAP").check()
    page.get_by_role("radio", name="Confidence").check()
    page.wait_for_url("**embeddings.layout=umap&embeddings.color=confidence**")
    again = visit(page.url)
    expect(again.get_by_role("radio", name="UMAP")).to_be_checked()
    expect(again.get_by_role("radio", name="Confidence")).to_be_checked()


def test_curves_are_drawn_by_dataset_and_metric_and_tables_are_sorted(visit, address):
    page = visit(f"{address}/?tab=runs&runs.dataset=tiles")
    expect(page.locator(".cvx-curves .scatterlayer .trace")).to_have_count(2)
    page.get_by_role("checkbox", name="dots").check()
    expect(page.locator(".cvx-curves .scatterlayer .trace")).to_have_count(3)
    page.get_by_label("Metric", exact=True).locator("visible=true").click()
    page.get_by_role("option", name="val/loss", exact=True).click()
    expect(page.locator(".cvx-curves h3")).to_have_text("val/loss")
    table = page.get_by_role("region", name="runs and their hyperparameters")
    table.get_by_role("button", name="lr").click()
    cells = [float(row.locator("td").nth(9).inner_text()) for row in table.locator("tbody tr").all()]
    assert cells == sorted(cells, reverse=True) and len(cells) == 3
    again = visit(page.url)
    expect(again.locator(".cvx-curves h3")).to_have_text("val/loss")
    expect(again.locator(".cvx-curves .scatterlayer .trace")).to_have_count(3)


NO_WEBGL = """const real = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    return kind.includes('webgl') ? null : real.call(this, kind, ...rest);
};"""


def test_without_webgl_points_are_drawn_all_the_same_and_parallel_coordinates_say_so(visit, address):
    page = visit(f"{address}/?tab=embeddings{TILES['embeddings']}", script=NO_WEBGL)
    expect(page.locator(".cvx-panel .scatterlayer .point").nth(79)).to_be_attached()
    page.get_by_role("tab", name="Runs").click()
    page.get_by_role("checkbox", name="tiles").locator("visible=true").check()
    expect(page.locator(".cvx-parallel")).to_contain_text("no WebGL")


def test_a_name_that_is_html_stands_in_the_charts_as_it_is(visit, tmp_path):
    store = make_store(tmp_path / "artifacts")
    file = store.root / "runs" / add_run(store, make_splits("tiles", 40, 16, 3, True), "vit_tiny") / "config.json"
    file.write_text(file.read_text().replace("vit_tiny", NASTY.replace('"', '\\"')))
    add_run(store, make_splits("tiles", 40, 16, 3, True), "vit_tiny", seed=1)
    with served(store.root) as address:
        page = visit(f"{address}/?tab=runs")
        expect(page.locator(".legendtext").first).to_contain_text(f"tiles {NASTY} · seed 0")
