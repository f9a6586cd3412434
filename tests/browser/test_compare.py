"""The demo in a real browser: the tabs Compare, Class view and About, as people use them."""

import pytest
from browsing import cell, choose, map_of
from gradio_client import Client
from PIL import Image
from playwright.sync_api import expect
from small_store import NASTY, make_store, served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("browser") / "artifacts")
    with served(store.root) as address:
        models = [entry.reference for entry in store.models()]
        Client(address, verbose=False).predict(models, sample="tiles:0", api_name="/compare")  # all is imported
        yield address


def test_compare_shows_images_maps_overlays_and_the_five_most_probable_classes(visit, address):
    page = visit(address)
    expect(cell(page, "Tiles", "vit_tiny")).to_be_visible()
    assert page.locator(".cvx-row").count() == 2
    for row, model, classes in (("Dots", "resnet10t", 3), ("Tiles", "resnet10t", 4), ("Tiles", "vit_tiny", 4)):
        one = cell(page, row, model)
        assert one.locator("figure").count() == 3
        assert one.locator(".cvx-top li").count() == classes
        for picture in one.locator("img").all():
            assert picture.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
            assert picture.evaluate("image => image.naturalWidth") in (8, 16)
    assert "no such model of dots" in page.locator(".cvx-absent").inner_text()
    assert "row's scale" in cell(page, "Tiles", "vit_tiny").inner_text()


def test_another_sample_another_class_and_other_options_redraw_the_rows(visit, address):
    page = visit(address)
    strip = page.locator('.cvx-strip[data-dataset="tiles"]')
    first = map_of(page)
    strip.get_by_label("sample 7, blue").click()
    caption = page.locator('.cvx-row[aria-label^="Tiles"] > header')
    expect(caption).to_contain_text("sample 7 of 40")
    expect(caption).to_contain_text("blue")
    second = map_of(page)
    assert second != first
    strip.get_by_label("show").select_option("green")
    expect(strip.locator(".cvx-thumbs button")).to_have_count(10)
    expect(caption).to_contain_text("sample 2 of 40")
    strip.locator(".cvx-thumbs button").first.focus()
    page.keyboard.press("ArrowRight")
    expect(caption).to_contain_text("sample 6 of 40")
    choose(page, "Explain", "A class I choose")
    strip.get_by_label("class to explain").select_option("gray")
    expect(cell(page, "Tiles", "vit_tiny").locator("footer")).to_contain_text("logit of gray (chosen)")
    choose(page, "Channels", "Signed sum")
    expect(page.locator(".cvx-legend")).to_contain_text("lowers the score")
    choose(page, "Scale", "Each map its own")
    expect(cell(page, "Tiles", "vit_tiny").locator("footer")).to_contain_text("own scale")
    choose(page, "Score", "Log-probability")
    expect(cell(page, "Tiles", "vit_tiny").locator("footer")).to_contain_text("log-probability of gray")


def test_a_class_name_is_text_and_never_a_program(visit, address):
    page = visit(address)
    choose(page, "Explain", "A class I choose")
    page.locator('.cvx-strip[data-dataset="dots"]').get_by_label("class to explain").select_option(NASTY)
    expect(cell(page, "Dots", "resnet10t").locator("footer")).to_contain_text(NASTY)
    assert page.locator("[onclick]").count() == 0


def test_datasets_and_models_are_ticked_on_and_off(visit, address):
    page = visit(address)
    expect(page.locator(".cvx-row")).to_have_count(2)
    page.get_by_role("checkbox", name="vit_tiny").uncheck()
    expect(cell(page, "Tiles", "vit_tiny")).to_have_count(0)
    page.get_by_role("checkbox", name="dots").uncheck()
    expect(page.locator(".cvx-row")).to_have_count(1)
    expect(page.locator(".cvx-strip")).to_have_count(1)


def test_in_a_low_window_the_strips_of_samples_stay_below_the_controls(visit, address):
    page = visit(address, (1440, 500))
    strip = page.locator('.cvx-strip[data-dataset="tiles"]')
    strip.scroll_into_view_if_needed()
    assert strip.bounding_box()["x"] < page.get_by_role("checkbox", name="tiles").bounding_box()["x"]


def test_opacity_moves_without_a_new_picture(visit, address):
    page = visit(address)
    veil = cell(page, "Tiles", "resnet10t").locator(".cvx-veil")
    expect(veil).to_have_css("opacity", "0.6")
    page.get_by_role("slider", name="Overlay opacity").fill("20")
    expect(veil).to_have_css("opacity", "0.2")


def test_an_image_of_ones_own_is_looked_at_by_every_model(visit, address, tmp_path):
    Image.new("RGB", (60, 40), "orange").save(tmp_path / "own.png")
    (tmp_path / "notes.png").write_text("shopping list")
    page = visit(address)
    page.get_by_role("radio", name="My own image").check()
    expect(page.locator(".cvx-notice").first).to_contain_text("Upload an image")
    page.locator('.cvx-upload input[type="file"]').set_input_files(tmp_path / "own.png")
    expect(page.locator(".cvx-row > header").first).to_contain_text("your image, 60 × 40 pixels")
    expect(page.locator(".cvx-cell .cvx-quad")).to_have_count(3)
    page.locator(".cvx-upload").get_by_label("Clear").or_(page.get_by_label("Remove Image")).first.click()
    page.locator('.cvx-upload input[type="file"]').set_input_files(tmp_path / "notes.png")
    expect(page.get_by_role("alert")).to_contain_text("not an image")


def test_class_view_shows_a_card_per_model(visit, address):
    page = visit(address)
    page.get_by_role("tab", name="Class view").click()
    expect(page.locator(".cvx-card")).to_have_count(1)
    choose(page, "Dataset", "tiles")
    expect(page.locator(".cvx-card")).to_have_count(2)
    choose(page, "Class", "green")
    expect(page.locator(".cvx-classes h2")).to_have_text("green")
    card = page.locator('.cvx-card[aria-label="vit_tiny"]')
    expect(card.locator(".cvx-exemplars figure")).to_have_count(8)
    for fact in ("recognized", "center bias", "mass on mask"):
        expect(card.locator("dl")).to_contain_text(fact)


def test_about_says_what_a_gradient_is(visit, address):
    page = visit(address)
    page.get_by_role("tab", name="About").click()
    expect(page.locator(".cvx-about")).to_contain_text("vanilla gradient")


def test_two_visitors_see_what_each_of_them_chose(visit, address):
    one, other = visit(address), visit(address)
    one.locator('.cvx-strip[data-dataset="tiles"]').get_by_label("sample 3, blue").click()
    other.locator('.cvx-strip[data-dataset="tiles"]').get_by_label("sample 4, gray").click()
    for page, caption in ((one, "sample 3 of 40"), (other, "sample 4 of 40")):
        expect(page.locator('.cvx-row[aria-label^="Tiles"] > header')).to_contain_text(caption)


def test_the_pixel_under_the_pointer_is_read_in_every_model(visit, address):
    sample, heats = "tiles:0", {}
    found = Client(address, verbose=False).predict(["tiles-resnet10t", "tiles-vit_tiny"], sample, api_name="/compare")
    for name, answer in zip(("resnet10t", "vit_tiny"), found["answers"], strict=True):
        heats[name] = answer["heatmap"]
    page = visit(address)
    well = cell(page, "Tiles", "resnet10t").locator(".cvx-well").nth(1)
    box = well.bounding_box()
    well.hover(position={"x": box["width"] * 3.5 / 16, "y": box["height"] * 5.5 / 16})
    for name, heat in heats.items():
        at = cell(page, "Tiles", name).locator(".cvx-at")
        expect(at).to_contain_text("pixel (3, 5): ")
        said = float(at.inner_text().split(": ")[1].split(",")[0])
        assert said == pytest.approx(heat[5][3], rel=0.01)
        expect(cell(page, "Tiles", name).locator(".cvx-dot")).to_have_count(3)
    expect(page.locator('.cvx-row[aria-label^="Dots"] .cvx-dot')).to_have_count(0)
    well.click(position={"x": box["width"] * 3.5 / 16, "y": box["height"] * 5.5 / 16})
    well.focus()
    page.keyboard.press("ArrowRight")
    expect(cell(page, "Tiles", "vit_tiny").locator(".cvx-at")).to_contain_text("pixel (4, 5)")
    expect(page.locator('.cvx-row[aria-label^="Tiles"] .cvx-read')).to_contain_text("logit per unit pixel")
    page.keyboard.press("Escape")
    expect(page.locator(".cvx-dot")).to_have_count(0)


def test_a_row_is_saved_from_the_page(visit, address):
    page = visit(address)
    row = page.locator('.cvx-row[aria-label^="Tiles"]')
    for kind, begins in (("png", b"\x89PNG"), ("npz", b"PK"), ("csv", b"\xef\xbb\xbfdataset,")):
        with page.expect_download() as saved:
            row.locator(f'[data-save="{kind}"]').click()
        assert saved.value.suggested_filename == f"cvx-tiles.{kind}"
        assert saved.value.path().read_bytes().startswith(begins)


def test_a_strip_offers_what_models_get_wrong_and_the_runner_up_is_explained(visit, address):
    page = visit(address)
    strip = page.locator('.cvx-strip[data-dataset="tiles"]')
    strip.get_by_label("which samples").select_option("wrong")
    expect(strip.get_by_role("status")).to_contain_text("of 40 samples")
    choose(page, "Explain", "Predicted less runner-up")
    expect(cell(page, "Tiles", "vit_tiny").locator("footer")).to_contain_text("the runner-up")
    page.wait_for_url("**target=difference**")
    expect(cell(visit(page.url), "Tiles", "vit_tiny").locator("footer")).to_contain_text("the runner-up")


def test_two_models_maps_lie_under_one_slider(visit, address):
    page = visit(address)
    row = page.locator('.cvx-row[aria-label^="Tiles"]')
    assert page.locator('.cvx-row[aria-label^="Dots"] [data-slide]').count() == 0  # it has one model
    row.locator("[data-slide]").click()
    left, right = row.locator(".cvx-slider img").all()
    assert left.get_attribute("src") == map_of(page, model="resnet10t")
    assert right.get_attribute("src") == map_of(page, model="vit_tiny")
    row.get_by_label("how much of the left model").fill("20")
    expect(right).to_have_css("clip-path", "inset(0px 0px 0px 20%)")
    row.get_by_label("model on the left").select_option("vit_tiny")
    assert left.get_attribute("src") == map_of(page, model="vit_tiny")
    row.locator("[data-slide]").click()
    expect(row.locator(".cvx-slider")).to_have_count(0)
