"use strict";
(() => {
  const ON_A_PAGE = 24; // no more is drawn at once: thousands of pictures are slow
  const SVG = "http://www.w3.org/2000/svg";
  const named = (id) => document.getElementById(id);
  const { runs, classes, slices } = JSON.parse(named("data-gallery").textContent);
  const collator = new Intl.Collator("en", { numeric: true });
  // Choice -> the number that is sorted by; ids are no numbers, and decide where two are equal.
  const NUMBERS = {
    difference: (slice) => slice.dices[1] - slice.dices[0],
    dice: (slice) => slice.dices[0],
    other: (slice) => slice.dices[1],
    area: (slice) => slice.area,
    id: () => 0,
  };
  let shown = []; // the slices that were chosen, in their order
  let page = 0;
  let place = null; // of the slice that is shown large; null: all are shown

  const element = (tag, properties = {}, children = []) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const drawn = (tag, attributes, children = []) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const dice = (slice, run) => `Dice ${slice.dices[run].toFixed(4)}`;
  const difference = (slice) => {
    const value = NUMBERS.difference(slice);
    return `difference ${value > 0 ? "+" : ""}${value.toFixed(4)}`;
  };

  // Of each class that a mask has: its area, or what a run reached on it.
  const areas = (slice) =>
    classes.flatMap(({ name }, at) => (slice.areas[at] ? [`${name} of ${slice.areas[at]} pixels`] : []));
  const dicesByClass = (slice, run) =>
    classes.flatMap(({ name }, at) => {
      const value = slice.class_dices[run][at];
      return value === null ? [] : [`${name} ${value.toFixed(4)}`];
    });
  const inFull = (slice, run) => {
    const each = dicesByClass(slice, run);
    return each.length ? `${dice(slice, run)} (${each.join(", ")})` : dice(slice, run);
  };

  // A path for each class; those of binary masks have no colour of their own.
  const outlines = (kind, paths) =>
    paths.map((d, at) => drawn("path", { class: classes.length ? `${kind} class-${at}` : kind, d }));

  // A slice with the true outline and that of a run; attributes: what a screen reader is told.
  const picture = (slice, run, attributes) =>
    drawn("svg", { class: "slice", viewBox: `0 0 ${slice.width} ${slice.height}`, ...attributes }, [
      drawn("image", { href: slice.image, width: slice.width, height: slice.height, preserveAspectRatio: "none" }),
      ...outlines("truth", slice.truth),
      ...outlines("predicted", slice.predicted[run]),
    ]);

  const thumb = (slice, at) => {
    const dices = runs.map((_, run) => slice.dices[run].toFixed(4)).join(" and ");
    const title = classes.length ? runs.map((name, run) => `${name}: ${inFull(slice, run)}`).join("\n") : "";
    const button = element("button", { type: "button", title }, [
      element("span", { className: "slices" }, runs.map((_, run) => picture(slice, run, { "aria-hidden": "true" }))),
      element("span", { textContent: [slice.id, slice.type].filter(Boolean).join(" ") }),
      element("span", { textContent: `Dice ${dices}` }),
      ...(runs.length > 1 ? [element("span", { textContent: difference(slice) })] : []),
    ]);
    button.addEventListener("click", () => open(at));
    return element("li", {}, [button]);
  };

  const choose = () => {
    const words = named("search").value.trim().toLowerCase();
    const type = named("type").value;
    const number = NUMBERS[named("sort").value];
    const sign = named("order").value === "ascending" ? 1 : -1;
    shown = slices
      .filter((slice) => (type === "" || slice.type === type.slice(1)) &&
        [slice.id, slice.patient].some((text) => text.toLowerCase().includes(words)))
      .sort((one, other) => sign * (number(one) - number(other) || collator.compare(one.id, other.id)));
    page = 0;
    drawAll();
  };

  const pages = () => Math.max(1, Math.ceil(shown.length / ON_A_PAGE));
  const drawAll = () => {
    const first = page * ON_A_PAGE;
    const here = shown.slice(first, first + ON_A_PAGE);
    named("thumbs").replaceChildren(...here.map((slice, at) => thumb(slice, first + at)));
    named("found").textContent = here.length
      ? `${first + 1} to ${first + here.length} of ${shown.length} slices`
      : "No slice is of this type and has this text in its id or patient.";
    named("page").textContent = `page ${page + 1} of ${pages()}`;
    named("before").setAttribute("aria-disabled", page === 0);
    named("after").setAttribute("aria-disabled", page === pages() - 1);
  };
  const turn = (step) => {
    const wanted = Math.min(Math.max(page + step, 0), pages() - 1);
    if (wanted === page) return;
    page = wanted;
    drawAll();
  };

  const drawOne = () => {
    const slice = shown[place];
    const share = (100 * slice.area) / (slice.height * slice.width);
    named("h-one").textContent = `Slice ${slice.id}`;
    named("place").textContent = `${place + 1} of ${shown.length}`;
    named("facts").textContent = [
      slice.type || "type unknown",
      slice.patient ? `patient ${slice.patient}` : "patient unknown",
      `foreground of ${slice.area} pixels, ${share.toFixed(1)} % of the slice`,
      ...areas(slice),
      ...(runs.length > 1 ? [difference(slice)] : []),
    ].join("; ");
    named("views").replaceChildren(...runs.map((name, run) => {
      const label = `Slice ${slice.id} with the true outline and that predicted by ${name}, ${inFull(slice, run)}`;
      return element("figure", {}, [
        element("figcaption", { textContent: `${name}: ${inFull(slice, run)}` }),
        picture(slice, run, { role: "img", "aria-label": label }),
      ]);
    }));
    named("previous").setAttribute("aria-disabled", place === 0);
    named("next").setAttribute("aria-disabled", place === shown.length - 1);
  };
  const show = (wanted) => {
    place = Math.min(Math.max(wanted, 0), shown.length - 1);
    drawOne();
  };
  const open = (at) => {
    show(at);
    named("all").hidden = true;
    named("one").hidden = false;
    named("h-one").focus({ preventScroll: true });
    document.querySelector(".outlines").scrollIntoView(); // what the colours mean stays in sight
  };
  const close = () => {
    const at = place;
    place = null;
    page = Math.floor(at / ON_A_PAGE);
    drawAll();
    named("one").hidden = true;
    named("all").hidden = false;
    named("thumbs").children[at % ON_A_PAGE].querySelector("button").focus();
  };

  const switched = (box) => document.body.classList.toggle(`no-${box.dataset.outline}`, !box.checked);
  const boxes = [...document.querySelectorAll("[data-outline]")];
  const turnOutline = (name) => {
    const box = boxes.find((each) => each.dataset.outline === name);
    box.checked = !box.checked;
    switched(box);
  };

  const KEYS = { t: () => turnOutline("truth"), p: () => turnOutline("predicted") };
  const KEYS_OF_ONE = {
    ArrowLeft: () => show(place - 1),
    ArrowRight: () => show(place + 1),
    Home: () => show(0),
    End: () => show(shown.length - 1),
    Escape: close,
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input[type=search]")) return;
    const act = KEYS[event.key.toLowerCase()] ?? (place === null ? undefined : KEYS_OF_ONE[event.key]);
    if (act === undefined) return;
    event.preventDefault();
    act();
  });

  for (const box of boxes) {
    switched(box); // a browser may keep what was chosen before the page was loaded again
    box.addEventListener("change", () => switched(box));
  }
  for (const id of ["sort", "order", "type"]) named(id).addEventListener("change", choose);
  named("search").addEventListener("input", choose);
  named("before").addEventListener("click", () => turn(-1));
  named("after").addEventListener("click", () => turn(1));
  named("back").addEventListener("click", close);
  named("previous").addEventListener("click", () => show(place - 1));
  named("next").addEventListener("click", () => show(place + 1));
  choose();
})();
