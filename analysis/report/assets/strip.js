// The layers in depth order, a row each, of which one is chosen.
"use strict";
(() => {
  const COLUMNS = [
    ["rate", "firing rate"],
    ["silent", "never fired"],
    ["saturated", "saturated"],
    ["operations", "operations"],
  ];

  const percent = (value) => (value === null || Number.isNaN(value) ? "–" : `${Number((value * 100).toPrecision(3))} %`);

  const isShare = (key) => key === "silent" || key === "saturated";

  function saidOf(key, figures, layer) {
    const text = isShare(key) ? percent : key === "operations" ? Report.short : Report.number;
    return figures.map((each) => text(each[`=${layer.key}`] ?? NaN)).join(" · ");
  }

  // Figures of a table by layer, in each of the recordings; layers that are left out have none.
  function byLayer(table) {
    return table.data.map((figure) => {
      if (!figure) return {};
      const values = Report.values(figure);
      return Object.fromEntries(Report.along(figure, "layer").map((name, at) => [`=${name}`, values[at]]));
    });
  }

  Report.strip = (host, picture, state) => {
    host.replaceChildren();
    const columns = COLUMNS.filter(([key]) => picture.tables[key].data.some(Boolean));
    const figures = columns.map(([key]) => byLayer(picture.tables[key]));
    const most = figures.map((each) => Math.max(...each.flatMap((one) => Object.values(one).filter(Number.isFinite)), 0));
    const list = Report.element("div", { class: "strip", role: "radiogroup", "aria-label": "Layers in depth order" });
    const head = Report.element("div", { class: "row head", "aria-hidden": "true" }, Report.element("span", {}, "layer"));
    for (const [, title] of columns) head.append(Report.element("span", {}, title));
    list.append(head);
    Report.layers.forEach((layer, number) => {
      const chosen = number === state.layer;
      const row = Report.element("div", {
        class: "row",
        role: "radio",
        "aria-checked": String(chosen),
        tabindex: chosen ? "0" : "-1",
        "aria-label": [layer.name, ...columns.map(([key, title], place) => `${title} ${saidOf(key, figures[place], layer)}`)].join(", "),
        title: `${layer.name}: ${layer.class}, ${layer.shape} neurons, ${layer.frames.toLocaleString("en")} frames`,
      });
      row.style.setProperty("--columns", columns.length);
      const name = Report.element("span", { class: "name" });
      name.append(
        Report.element("b", {}, String(number + 1)),
        Report.element("span", { class: "long" }, ` ${layer.name} `),
        Report.element("span", { class: "short", "aria-hidden": "true" }, ` ${layer.short} `),
        Report.element("small", {}, layer.shape),
      );
      row.append(name);
      columns.forEach(([key], place) => row.append(cell(key, figures[place], layer, most[place])));
      row.addEventListener("click", () => Report.choose(number));
      list.append(row);
    });
    head.style.setProperty("--columns", columns.length);
    list.addEventListener("keydown", (event) => {
      const move = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      if (!move) return;
      event.preventDefault();
      Report.choose(Math.min(Math.max(state.layer + move, 0), Report.layers.length - 1));
      const checked = host.querySelector('[aria-checked="true"]');
      checked.focus();
    });
    host.append(list);
  };

  function cell(key, figures, layer, most) {
    const made = Report.element("span", { class: `figure ${key}` });
    const values = figures.map((each) => each[`=${layer.key}`] ?? NaN);
    const share = isShare(key);
    values.forEach((value, which) => {
      const bar = Report.element("i", { class: which ? "bar other" : "bar" });
      const of = share ? 1 : most || 1;
      bar.style.width = `${Number.isFinite(value) ? (value / of) * 100 : 0}%`;
      made.append(Report.element("span", { class: "track" }, bar));
    });
    made.append(Report.element("span", { class: "number" }, saidOf(key, figures, layer)));
    return made;
  }

  // The chosen row, without drawing all of them anew.
  Report.mark = (host, state) => {
    host.querySelectorAll("[role=radio]").forEach((row, number) => {
      row.setAttribute("aria-checked", String(number === state.layer));
      row.setAttribute("tabindex", number === state.layer ? "0" : "-1");
    });
    const list = host.querySelector(".strip");
    const row = host.querySelector('[aria-checked="true"]');
    if (row.offsetTop < list.scrollTop) list.scrollTop = row.offsetTop - 30;
    if (row.offsetTop + row.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = row.offsetTop + row.offsetHeight - list.clientHeight;
  };
})();
