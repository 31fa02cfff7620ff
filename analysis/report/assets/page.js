// Which layer is chosen, and who is told of it.
"use strict";
(() => {
  const state = { layer: 0 };
  const pictures = Report.report.pictures.map((picture) => {
    const figure = document.querySelector(`[data-picture="${picture.name}"]`);
    return { picture, figure, host: figure.querySelector(".plot"), readout: figure.querySelector(".readout") };
  });

  function draw({ picture, host, readout, figure }) {
    if (!host) return;
    const layer = Report.layers[state.layer];
    Report.draw(host, picture, {
      layer: state.layer,
      name: layer ? layer.name : "no layer",
      readout: (text) => (readout.textContent = text),
      redraw: () => draw({ picture, host, readout, figure }),
    });
    figure.querySelectorAll("[data-table]").forEach((row) => {
      const [table, which] = [picture.tables[row.dataset.table], Number(row.dataset.which)];
      const line = Report.line(table, state.layer, which);
      row.querySelector("code").textContent = line;
      row.hidden = !line || !Report.figure(table, state.layer, which);
    });
  }

  // Charts grow into what is left of their cards, which are as high as the highest of their row. They are laid out
  // after the script that has drawn them.
  function fill({ figure }) {
    const plot = figure.querySelector(".uplot")?.plot;
    const sources = figure.querySelector(".sources");
    if (!plot || !sources) return;
    const left = Math.floor(sources.getBoundingClientRect().top - sources.previousElementSibling.getBoundingClientRect().bottom - 6);
    if (left > 0) plot.setSize({ width: plot.width, height: plot.height + left });
  }

  const drawAll = () => {
    pictures.forEach(draw);
    requestAnimationFrame(() => pictures.forEach(fill));
  };

  Report.choose = (layer) => {
    state.layer = layer;
    const select = document.getElementById("layer");
    select.value = String(layer);
    drawAll();
  };

  // The strip of layers is drawn once; it marks which is chosen.
  const redrawAll = () => {
    pictures.forEach(({ picture, host }) => picture.kind === "strip" && host && host.replaceChildren());
    drawAll();
  };

  function csv(picture, key, which) {
    const table = picture.tables[key];
    const figure = Report.figure(table, state.layer, which);
    if (!figure) return null;
    return picture.kind === "raster" ? Report.rasterCsv(figure) : Report.csv(figure);
  }

  const select = document.getElementById("layer");
  Report.layers.forEach((layer, number) => select.append(Report.element("option", { value: String(number) }, `${number + 1} ${layer.name}`)));
  select.addEventListener("change", () => Report.choose(Number(select.value)));
  const step = (by) => Report.layers.length && Report.choose((state.layer + by + Report.layers.length) % Report.layers.length);
  document.getElementById("previous").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));

  document.addEventListener("click", (event) => {
    const row = event.target.closest("[data-table] button")?.parentElement;
    if (!row) return;
    const { figure, picture } = pictures.find((each) => each.figure.contains(row));
    const key = row.dataset.table;
    const text = csv(picture, key, Number(row.dataset.which));
    if (text === null) figure.querySelector(".readout").textContent = "There are no figures of this layer here.";
    else Report.download(`${picture.name}-${key}${Report.two ? `-${"ab"[row.dataset.which]}` : ""}.csv`, text);
  });

  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.round(contentRect.width) === width) return;
    width = Math.round(contentRect.width);
    redrawAll();
  }).observe(document.querySelector("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      document.documentElement.classList.toggle("paper", on);
      redrawAll();
    });
  }
})();
