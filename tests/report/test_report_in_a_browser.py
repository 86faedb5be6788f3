"""The page of a report in a browser: it asks for nothing, draws its figures, and works by mouse, keyboard and phone."""

from pathlib import Path

import pytest
from chromium import PHONE, Chromium
from made_runs import NASTY, add_study, write_slices

from brainseg.report.__main__ import main
from brainseg.tracking import MemoryStore

LINES = "document.querySelectorAll('#plot-curves .scatterlayer .trace').length"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study of seven trials, one of which has a script for its name."""
    folder = tmp_path_factory.mktemp("report")
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BRAINSEG_STORAGE", raising=False)
        patch.setattr("brainseg.tracking.open_store", lambda config: store)
        add_study(store, write_slices(folder / "slices"), folder / "mlruns")
        assert main(["quick", "--root", str(folder / "mlruns"), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.fixture
def page(browser: Chromium, file: Path) -> Chromium:
    """The report, just opened; and its console stays empty until the end of the test."""
    if browser.driver.current_url != file.as_uri():
        browser.open(file)
    else:
        browser.show()
        browser.driver.refresh()
    browser.ask("scrollTo(0, 0)")
    return browser


def test_it_opens_without_a_complaint_and_asks_for_nothing_but_itself(browser: Chromium, file: Path) -> None:
    complaints, requests = browser.open(file)
    assert (complaints, requests) == ([], [file.as_uri()])


def test_its_figures_are_drawn(page: Chromium) -> None:
    assert page.ask(LINES) == 7
    assert page.ask("document.querySelectorAll('#plot-importance .barlayer .point').length") == 3
    for place in range(3):
        assert page.ask(f"document.querySelectorAll('#plot-slice-{place} .scatterlayer .point').length") == 6
    assert page.ask("document.querySelectorAll('#plot-parallel .scatterlayer .trace').length") == 6
    heights = page.ask("[...document.querySelectorAll('.plot')].map(plot => plot.getBoundingClientRect().height)")
    assert min(heights) > 100


def test_a_name_that_is_a_script_is_shown_as_text(page: Chromium) -> None:
    assert NASTY in page.find("p.answer").text
    assert NASTY in page.texts("#runs tbody th")
    assert page.ask("document.querySelectorAll('body script:not([type])').length") == 2  # Plotly's and the page's own


def test_pointing_at_a_line_tells_which_run_it_is(page: Chromium) -> None:
    page.ask("document.getElementById('plot-curves').scrollIntoView()")
    x, y = page.ask(
        "(() => { const path = [...document.querySelectorAll('#plot-curves .scatterlayer .trace path.js-line')].at(-1);"
        " const point = path.getPointAtLength(path.getTotalLength()).matrixTransform(path.getScreenCTM());"
        " return [point.x, point.y]; })()"
    )
    page.point_at(x - 1, y)
    page.wait("document.querySelector('#plot-curves .hoverlayer .hovertext') !== null")
    (label,) = page.texts("#plot-curves .hoverlayer .hovertext .nums")
    assert label == f"{NASTY}epoch 4: 0.4000"


def test_the_curves_are_switched_to_the_loss(page: Chromium) -> None:
    title = "document.querySelector('#plot-curves .ytitle').textContent"
    assert page.ask(title) == "Dice, mean over validation images"
    page.find("input[value=val_loss]").click()
    page.wait(f"{title} === 'loss on the validation slices'")
    assert page.ask(LINES) == 7
    low, high = page.ask("document.getElementById('plot-curves')._fullLayout.yaxis.range")
    assert low < 0.6 < 0.9 < high


def column(page: Chromium, number: int) -> list[str]:
    return page.texts(f"#runs tbody tr > :nth-child({number})")


def test_the_table_is_sorted_by_a_click(page: Chromium) -> None:
    assert column(page, 3) == ["1.0000", "0.8750", "0.7500", "0.6250", "0.5000", "0.5000", ""]
    heading = page.find("#runs thead th:nth-child(3)")
    heading.find_element("css selector", "button").click()
    assert column(page, 3) == ["0.5000", "0.5000", "0.6250", "0.7500", "0.8750", "1.0000", ""]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.find_element("css selector", "button").click()
    assert column(page, 3) == ["1.0000", "0.8750", "0.7500", "0.6250", "0.5000", "0.5000", ""]
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.ask("document.querySelectorAll('#runs [aria-sort]').length") == 1
    assert page.texts("#sorted") == ["Sorted by final_dice, descending."]


def test_the_table_is_sorted_by_keyboard_where_the_focus_is_seen(page: Chromium) -> None:
    page.ask("document.querySelector('#runs thead th:nth-child(6) button').focus()")
    page.press("TAB", "ENTER")
    assert page.ask("document.activeElement.textContent") == "learning_rate"
    assert page.style("#runs thead th:nth-child(7) button", "outlineStyle") == "solid"
    assert column(page, 7) == ["1e-05", "0.0001", "0.001", "0.001", "0.001", "0.01", "0.1"]
    page.press("SPACE")
    assert column(page, 7)[0] == "0.1"


def test_the_first_tab_leads_past_the_head_of_the_page(page: Chromium) -> None:
    page.press("TAB")
    assert page.ask("document.activeElement.textContent") == "Skip to the content"
    assert page.ask("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("ENTER")
    page.wait("location.hash === '#main'")


def test_dark_colours_come_where_they_are_preferred_in_figures_too(page: Chromium) -> None:
    def colours() -> tuple[str, str, str]:
        return (
            page.style("html", "backgroundColor"),
            page.style("html", "color"),
            page.style("#plot-curves .ytitle", "fill"),
        )

    light = colours()
    page.show(dark=True)
    dark = colours()
    assert light == ("rgb(255, 255, 255)", "rgb(28, 31, 35)", "rgb(28, 31, 35)")
    assert dark == ("rgb(20, 23, 27)", "rgb(232, 234, 237)", "rgb(232, 234, 237)")
    assert page.style("#plot-curves .main-svg", "backgroundColor") == "rgba(0, 0, 0, 0)"


def test_on_a_phone_nothing_but_tables_scrolls_sideways(page: Chromium) -> None:
    page.show(PHONE)
    page.wait("document.querySelector('#plot-curves .main-svg').getBoundingClientRect().width <= 360")
    assert page.ask("document.documentElement.scrollWidth") == 360
    page.ask("scrollTo(100, 0)")
    assert page.ask("scrollX") == 0
    wide = page.ask(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll')"
        " && e.getBoundingClientRect().right > 361).map(e => e.tagName)"
    )
    assert wide == []
    assert page.ask("document.querySelector('#runs').parentElement.scrollWidth") > 360


def test_on_paper_figures_are_as_wide_as_the_page_and_the_colours_light(page: Chromium) -> None:
    page.show(dark=True)
    page.ask(
        "(() => { window.widths = []; addEventListener('beforeprint', () => setTimeout(() => 0));"
        " addEventListener('beforeprint', () => widths.push(document.querySelector('#plot-curves .main-svg')"
        ".getAttribute('width'))); })()"
    )
    printed = page.pdf()
    assert printed.startswith(b"%PDF-")
    assert page.ask("widths") == ["680"]
    page.wait("document.querySelector('#plot-curves .main-svg').getAttribute('width') !== '680'")
    assert page.complaints() == []
