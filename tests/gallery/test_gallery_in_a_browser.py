"""The page of a gallery in a browser: it asks for nothing, and is leafed through by mouse, keyboard and phone."""

from pathlib import Path

import numpy as np
import pytest
from chromium import PHONE, Chromium
from made_classes import add_class_run
from made_runs import NASTY, add_run, square, write_slices
from PIL import Image

from brainseg.gallery.__main__ import main
from brainseg.tracking import MemoryStore

TYPES = ("glioma", "meningioma", "pituitary")
# Thirty slices, s1 to s30, three of each of ten people: more than a page of 24.
SLICES = {f"s{number}": (f"P{(number + 2) // 3}", TYPES[number % 3]) for number in range(1, 31)}
NOTHING = 24  # a shift that predicts nothing


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one.html, of a run with Dice 0 on s30, 0.25 on s20, 0.5 on s10 and 0.75 on all others; and with
    two.html, of that run and of one with 0.875 on s20 and 0.5 on all others, but 0 on s30 too.

    The square of s30 is of 128 pixels, every other one of 64.
    """
    folder = tmp_path_factory.mktemp("gallery")
    slices = write_slices(folder / "slices", SLICES)
    store = MemoryStore()
    for name, shifts, default in (
        (NASTY, {"s30": NOTHING, "s20": 6, "s10": 4}, 2),
        ("second", {"s30": NOTHING, "s20": 1}, 4),
    ):
        add_run(store, slices, name=name, shifts=[shifts.get(key, default) for key in SLICES], slices=SLICES)
    # Where nothing is predicted Dice is 0 whatever the true mask.
    larger = (square() | square(8)).astype(np.uint8) * np.uint8(255)
    Image.fromarray(larger).save(slices / "masks" / "s30.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brainseg.tracking.open_store", lambda config: store)
        assert main(["memory-1", "-o", str(folder / "one.html")]) == 0
        assert main(["memory-1", "memory-2", "-o", str(folder / "two.html")]) == 0
    return folder


@pytest.fixture
def page(browser: Chromium, pages: Path) -> Chromium:
    """The gallery of one run, just opened."""
    browser.open(pages / "one.html")
    return browser


@pytest.fixture
def two(browser: Chromium, pages: Path) -> Chromium:
    """The gallery of two runs, just opened."""
    browser.open(pages / "two.html")
    return browser


def ids(page: Chromium) -> list[str]:
    """Of the slices on the page, in their order."""
    return [text.split()[0] for text in page.texts("#thumbs button > span:nth-child(2)")]


def choose(page: Chromium, name: str, value: str) -> None:
    """Another value of a select."""
    page.find(f"#{name} option[value='{value}']").click()


def corners(page: Chromium, selector: str) -> list[str]:
    """The paths of outlines."""
    found: list[str] = page.ask("[...document.querySelectorAll(arguments[0])].map(e => e.getAttribute('d'))", selector)
    return found


@pytest.mark.parametrize("name", ["one.html", "two.html"])
def test_it_opens_without_a_complaint_and_asks_for_nothing_but_itself(
    browser: Chromium, pages: Path, name: str
) -> None:
    complaints, requests = browser.open(pages / name)
    assert (complaints, requests) == ([], [(pages / name).as_uri()])
    browser.wait("[...document.querySelectorAll('#thumbs image')].length > 0")
    assert (
        browser.ask("document.querySelectorAll('#thumbs svg image').length") == {"one.html": 24, "two.html": 48}[name]
    )
    assert NASTY in browser.texts("h1")[0]


def test_the_worst_slice_comes_first_and_the_rest_on_further_pages(page: Chromium) -> None:
    worst = ["s30", "s20", "s10"]
    rest = [key for key in SLICES if key not in worst]
    assert ids(page) == worst + rest[:21]
    assert page.texts("#found, #page") == ["1 to 24 of 30 slices", "page 1 of 2"]
    page.find("#after").click()
    assert ids(page) == rest[21:]
    assert page.texts("#found, #page") == ["25 to 30 of 30 slices", "page 2 of 2"]
    page.find("#after").click()
    assert ids(page) == rest[21:]
    page.find("#before").click()
    assert ids(page)[0] == "s30"


def test_slices_are_sorted_by_area_or_id_and_the_other_way_round(page: Chromium) -> None:
    choose(page, "sort", "id")
    assert ids(page) == list(SLICES)[:24]
    choose(page, "order", "descending")
    assert ids(page) == list(SLICES)[:5:-1]
    choose(page, "sort", "area")
    assert ids(page)[:2] == ["s30", "s29"]
    choose(page, "order", "ascending")
    assert ids(page)[:2] == ["s1", "s2"]


def test_a_type_and_a_text_leave_the_slices_that_have_both(page: Chromium) -> None:
    page.find("#search").send_keys("p1")
    assert sorted(ids(page)) == ["s1", "s2", "s28", "s29", "s3", "s30"]  # of P1 and of P10
    choose(page, "type", "=glioma")
    assert ids(page) == ["s30", "s3"]
    assert page.texts("#found") == ["1 to 2 of 2 slices"]
    page.find("#search").clear()
    page.find("#search").send_keys("S21")
    assert ids(page) == ["s21"]
    page.find("#search").send_keys("9")
    assert ids(page) == []
    assert page.texts("#found") == ["No slice is of this type and has this text in its id or patient."]


def test_arrow_keys_lead_from_slice_to_slice_and_escape_back(page: Chromium) -> None:
    page.ask("document.querySelector('#thumbs li:nth-child(3) button').focus()")
    page.press("ENTER")
    assert page.texts("#h-one, #place") == ["Slice s10", "3 of 30"]
    assert page.texts("#facts, figcaption") == [
        "meningioma; patient P4; foreground of 64 pixels, 8.3 % of the slice",
        f"{NASTY}: Dice 0.5000",
    ]
    assert corners(page, "#views path") == ["M5 4H13V12H5Z", "M9 4H17V12H9Z"]
    page.press("ARROW_LEFT", "ARROW_LEFT", "ARROW_LEFT")
    assert page.texts("#h-one, #place") == ["Slice s30", "1 of 30"]
    assert corners(page, "#views path") == ["M5 4H21V12H5Z", ""]
    page.press("END", "ARROW_RIGHT")
    assert page.texts("#h-one, #place") == ["Slice s29", "30 of 30"]
    assert not page.find("#all").is_displayed()
    page.press("ESCAPE")
    assert not page.find("#one").is_displayed()
    assert page.texts("#page") == ["page 2 of 2"]
    assert page.ask("document.activeElement.innerText").split() == ["s29", "pituitary", "Dice", "0.7500"]


def test_each_outline_is_switched_off_by_its_key_and_by_its_box(page: Chromium) -> None:
    def seen() -> list[bool]:
        return [page.find(f"#thumbs .{name}").is_displayed() for name in ("truth", "predicted")]

    choose(page, "sort", "id")
    assert page.style("#thumbs .truth", "stroke") != page.style("#thumbs .predicted", "stroke")
    assert [page.style(f"#thumbs .{name}", "strokeDasharray") for name in ("truth", "predicted")] == [
        "none",
        "5px, 3px",
    ]
    assert seen() == [True, True]
    page.ask("document.activeElement.blur()")
    page.press("t")
    assert seen() == [False, True]
    page.press("p")
    assert seen() == [False, False]
    page.find("[data-outline=truth]").click()
    assert seen() == [True, False]
    page.find("#search").send_keys("p")  # a letter that is searched for
    assert seen() == [True, False]


def test_two_runs_stand_side_by_side_with_what_lies_between_them(two: Chromium) -> None:
    # Lost most where 0.75 became 0.5; s10 and s30 stay; s20 gains 0.625.
    assert ids(two)[0] == "s1"
    choose(two, "order", "descending")
    assert ids(two)[:4] == ["s20", "s30", "s10", "s29"]
    assert two.texts("#thumbs li:first-child span:nth-child(n+3)") == ["Dice 0.2500 and 0.8750", "difference +0.6250"]
    two.find("#thumbs button").click()
    assert two.texts("#facts, figcaption") == [
        "pituitary; patient P7; foreground of 64 pixels, 8.3 % of the slice; difference +0.6250",
        f"{NASTY}: Dice 0.2500",
        "second: Dice 0.8750",
    ]
    assert corners(two, "#views .truth") == ["M5 4H13V12H5Z"] * 2
    assert corners(two, "#views .predicted") == ["M11 4H19V12H11Z", "M6 4H14V12H6Z"]
    left, right = two.ask("[...document.querySelectorAll('#views svg')].map(e => e.getBoundingClientRect().x)")
    assert left < right
    two.press("ESCAPE")
    choose(two, "sort", "other")
    assert ids(two)[:2] == ["s20", "s29"]


def test_on_a_phone_nothing_scrolls_sideways_and_the_dark_is_dark(two: Chromium) -> None:
    two.show(PHONE, dark=True)
    assert two.style("html", "backgroundColor") == "rgb(20, 23, 27)"
    assert two.ask("document.documentElement.scrollWidth") == 360
    two.find("#thumbs button").click()
    assert two.ask("document.documentElement.scrollWidth") == 360


def test_it_is_printed_without_its_controls(page: Chromium) -> None:
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        seen = [page.find(each).is_displayed() for each in ("#search", "#after", "#thumbs button", "#found")]
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert seen == [False, False, True, True]
    assert page.pdf().startswith(b"%PDF-")
    assert page.complaints() == []


def test_classes_have_their_colours_and_dice_and_are_switched_off_one_by_one(
    browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    add_class_run(store, tmp_path / "slices", name="classes")
    monkeypatch.setattr("brainseg.tracking.open_store", lambda config: store)
    assert main(["memory-1", "-o", str(tmp_path / "classes.html")]) == 0
    complaints, _ = browser.open(tmp_path / "classes.html")
    assert complaints == []
    assert ids(browser) == ["c2", "c1"]  # c2 has no road, and a Dice of 0.5
    assert browser.ask("[...document.querySelectorAll('#thumbs button')].map(e => e.title)") == [
        "classes: Dice 0.5000 (car 0.5000)",
        f"classes: Dice 0.8750 (car 0.7500, {NASTY} 1.0000)",
    ]
    colours = {
        (kind, place): browser.style(f"#thumbs .{kind}.class-{place}", "stroke")
        for kind in ("truth", "predicted")
        for place in (0, 1)
    }
    car, road = "rgb(230, 159, 0)", "rgb(86, 180, 233)"
    assert list(colours.values()) == [car, road, car, road]

    def seen() -> list[bool]:
        last = "#thumbs li:last-child"
        outlines = (".truth.class-0", ".predicted.class-0", ".truth.class-1", ".predicted.class-1")
        return [browser.find(f"{last} {each}").is_displayed() for each in outlines]

    assert seen() == [True] * 4
    browser.find("[data-outline=class-0]").click()
    assert seen() == [False, False, True, True]
    browser.find("[data-outline=truth]").click()
    assert seen() == [False, False, False, True]
    browser.find("#thumbs li:last-child button").click()
    assert browser.texts("#facts, figcaption") == [
        "type unknown; patient unknown; foreground of 96 pixels, 12.5 % of the slice; car of 64 pixels; "
        f"{NASTY} of 32 pixels",
        f"classes: Dice 0.8750 (car 0.7500, {NASTY} 1.0000)",
    ]
