"use strict";
(() => {
  const PRINTED_PX = 680; // what fits on a page, upright, with margins
  const plots = [...document.querySelectorAll("[data-figure]")];
  for (const plot of plots) {
    const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    plot.figure = figure;
    Plotly.newPlot(plot, figure.data, figure.layout, {
      displaylogo: false,
      responsive: true,
      // Named one by one: among Plotly's own choice is a button that sends the figure to a server.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
  }

  // A metric for all curves.
  const curves = document.getElementById("plot-curves");
  for (const radio of document.querySelectorAll("input[name=curve]")) {
    radio.addEventListener("change", () => {
      const choice = curves.figure.choices[radio.value];
      const modes = choice.x.map((epochs) => (epochs.length > 1 ? "lines" : "markers"));
      Plotly.update(
        curves,
        { x: choice.x, y: choice.y, mode: modes },
        { "yaxis.title.text": choice.label, "xaxis.autorange": true, "yaxis.autorange": true },
      );
    });
  }

  // On paper a figure is as wide as the page, whatever the window was.
  addEventListener("beforeprint", () => {
    for (const plot of plots) Plotly.relayout(plot, { width: Math.min(PRINTED_PX, plot.closest(".few") ? 260 : PRINTED_PX) });
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const plot of plots) Plotly.relayout(plot, { width: null, autosize: true });
    for (const details of document.querySelectorAll("details")) details.open = false;
  });

  // Sorting: numbers before texts, and what is empty always at the end.
  const table = document.getElementById("runs");
  if (!table) return;
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "number" in cell.dataset ? Number(cell.dataset.number) : cell.textContent.trim();
  };
  const compared = (one, other, sign) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
    if (typeof one === "number") return sign * (one - other);
    return sign * one.localeCompare(other, "en", { numeric: true });
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort((one, other) => compared(key(one, column), key(other, column), sign)));
      document.getElementById("sorted").textContent = `Sorted by ${heading.textContent.trim()}, ${order}.`;
    });
  });
})();
