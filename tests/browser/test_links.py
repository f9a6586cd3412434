"""What stands in the demo's address: a link restores the whole view, and the way back leads through what was seen."""

import pytest
from browsing import cell, choose, map_of, strip
from playwright.sync_api import expect
from small_runs import EPOCHS, add_runs
from small_store import make_store, served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("links") / "artifacts")
    add_runs(store)
    with served(store.root) as address:
        yield address


def test_a_link_restores_the_view(visit, address):
    page = visit(address)
    page.locator('.cvx-strip[data-dataset="tiles"]').get_by_label("sample 7, blue").click()
    choose(page, "Channels", "Sum of magnitudes")
    page.wait_for_url("**reduction=sum**")
    again = visit(page.url)
    expect(again.locator('.cvx-row[aria-label^="Tiles"] > header')).to_contain_text("sample 7 of 40")
    expect(again.locator(".cvx-legend")).to_contain_text("sum of the channels")
    assert map_of(again) == map_of(page)


def test_a_link_restores_filters_slider_and_marked_pixel_which_a_redraw_leaves_alone(visit, address):
    page = visit(f"{address}/?datasets=tiles&models=resnet10t&models=vit_tiny")
    own = strip(page, "tiles")
    own.get_by_label("show").select_option("green")
    expect(own.locator(".cvx-thumbs button")).to_have_count(10)
    own.get_by_label("which samples").select_option("wrong")
    expect(own.get_by_role("status")).to_contain_text("of 40 samples")
    num = own.locator(".cvx-thumbs button").count()
    row = page.locator(".cvx-row")
    row.locator("[data-slide]").click()
    row.get_by_label("model on the left").select_option("vit_tiny")
    row.get_by_label("model on the right").select_option("resnet10t")
    row.get_by_label("how much of the left model").fill("30")
    well = cell(page, "Tiles", "vit_tiny").locator(".cvx-well").nth(1)
    box = well.bounding_box()
    well.click(position={"x": box["width"] * 3.2 / 16, "y": box["height"] * 5.8 / 16})
    choose(page, "Channels", "Signed sum")  # a redraw
    expect(page.locator(".cvx-legend")).to_contain_text("lowers the score")
    page.wait_for_url("**reduction=signed**slide.tiles=vit_tiny%2Cresnet10t%2C30&pixel.tiles=0.2188%2C0.3438")
    for seen in (page, visit(page.url)):
        slider = seen.locator(".cvx-slider")
        expect(slider.get_by_label("model on the left")).to_have_value("vit_tiny")
        expect(slider.get_by_label("model on the right")).to_have_value("resnet10t")
        expect(slider.locator("img").nth(1)).to_have_css("clip-path", "inset(0px 0px 0px 30%)")
        assert slider.locator("img").first.get_attribute("src") == map_of(seen, model="vit_tiny")
        expect(cell(seen, "Tiles", "resnet10t").locator(".cvx-at")).to_contain_text("pixel (3, 5)")
        expect(strip(seen, "tiles").get_by_label("show")).to_have_value("green")
        expect(strip(seen, "tiles").get_by_label("which samples")).to_have_value("wrong")
        expect(strip(seen, "tiles").locator(".cvx-thumbs button")).to_have_count(num)
    page.locator("[data-slide]").click()
    expect(page.locator(".cvx-slider")).to_have_count(0)
    page.wait_for_function("!location.search.includes('slide')")


def test_a_link_restores_the_epoch_of_the_film_and_the_curves_metric(visit, address):
    page = visit(f"{address}/?tab=film&film.dataset=tiles")
    expect(page.locator(".cvx-player output")).to_have_text(f"epoch {EPOCHS} of {EPOCHS}")
    page.get_by_role("slider", name="epoch").fill("1")
    page.get_by_label("metric of the curve").select_option("val/loss")
    page.wait_for_url("**film.epoch=1&film.metric=val%2Floss")
    again = visit(page.url)
    expect(again.locator(".cvx-player output")).to_have_text(f"epoch 1 of {EPOCHS}")
    expect(again.get_by_label("metric of the curve")).to_have_value("val/loss")
    again.locator("#cvx-film .cvx-thumbs button").nth(2).click()
    again.wait_for_url("**film.image=2**film.epoch=1**")
    again.get_by_role("slider", name="epoch").fill(str(EPOCHS))
    again.wait_for_function("!location.search.includes('epoch')")


def test_a_link_restores_what_the_tab_runs_and_the_tab_agreement_were_set_to(visit, address):
    page = visit(f"{address}/?tab=runs&runs.dataset=tiles")
    page.get_by_role("radio", name="Model").check()
    page.get_by_label("Logarithmic y").check()
    page.get_by_role("radio", name="Step").check()
    page.wait_for_url("**runs.x=step&runs.log=y&runs.color=model")
    again = visit(page.url)
    for name in ("Model", "Step"):
        expect(again.get_by_role("radio", name=name)).to_be_checked()
    expect(again.get_by_label("Logarithmic y")).to_be_checked()
    page = visit(f"{address}/?tab=agreement&agreement.dataset=tiles")
    choose(page, "Measure", "SSIM")
    page.get_by_role("radio", name="They disagree").check()
    page.wait_for_url("**agreement.measure=ssim&agreement.condition=disagree**")
    again = visit(page.url)
    expect(again.locator(".cvx-agree h2").first).to_contain_text("SSIM")
    expect(again.get_by_role("radio", name="They disagree")).to_be_checked()


def test_a_link_with_a_tab_s_old_name_leads_on_and_is_written_with_the_new_one(visit, address):
    page = visit(f"{address}/?tab=points&points.dataset=tiles&points.layout=umap&points.color=confidence")
    expect(page.get_by_role("tab", name="Embeddings")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("radio", name="UMAP")).to_be_checked()
    expect(page.get_by_role("radio", name="Confidence")).to_be_checked()
    page.wait_for_url("**tab=embeddings&embeddings.dataset=tiles**embeddings.layout=umap&embeddings.color=confidence")
    assert "points" not in page.url


def test_the_way_back_leads_through_what_was_seen(visit, address):
    page = visit(address)
    strip = page.locator('.cvx-strip[data-dataset="tiles"]')
    caption = page.locator('.cvx-row[aria-label^="Tiles"] > header')
    for number in (3, 4):
        strip.get_by_label(f"sample {number},").click()
        expect(caption).to_contain_text(f"test sample {number} of 40")
        page.wait_for_timeout(1700)  # what follows an opened page or tab at once belongs to it
    page.get_by_role("tab", name="Class view").click()
    page.wait_for_url("**tab=classes&classes.dataset**")
    page.go_back()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(caption).to_contain_text("test sample 4 of 40")
    page.go_back()
    expect(caption).to_contain_text("test sample 3 of 40")
    page.go_forward()
    expect(caption).to_contain_text("test sample 4 of 40")


def test_the_way_back_undoes_a_filter(visit, address):
    page = visit(f"{address}/?datasets=tiles&models=resnet10t")
    own = strip(page, "tiles")
    own.get_by_label("show").select_option("green")
    page.wait_for_url("**show.tiles=green**")
    page.wait_for_timeout(1700)
    own.get_by_label("show").select_option("blue")
    page.wait_for_url("**show.tiles=blue**")
    page.go_back()
    expect(own.get_by_label("show")).to_have_value("green")
    expect(page.locator(".cvx-row > header")).to_contain_text("sample 2 of 40")


def test_the_way_back_from_an_own_image_leads_to_the_label_which_it_does_not_have(visit, address):
    page = visit(f"{address}/?datasets=tiles&models=resnet10t&target=label")
    said = page.locator(".cvx-grid footer")
    expect(said).to_contain_text("(the label)")
    page.wait_for_timeout(1700)
    page.get_by_role("radio", name="My own image").check()
    expect(page.locator(".cvx-row")).to_contain_text("Upload an image")
    page.go_back()
    expect(said).to_contain_text("(the label)")
    choose(page, "Channels", "Signed sum")
    expect(page.locator(".cvx-legend")).to_contain_text("lowers the score")
    expect(said).to_contain_text("(the label)")
