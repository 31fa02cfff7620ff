// From the figures of a picture to what is drawn, by its kind. With two recordings, both, or their difference.
"use strict";
(() => {
  const name = (which) => report().recordings[which].short;
  const report = () => Report.report;
  const numbers = (figure) => (figure ? Report.values(figure) : []);

  // The figures of one row of a table whose first dimension is `layer`, for the chosen layer.
  function ofLayer(figure, layer) {
    const at = Report.along(figure, "layer").indexOf(Report.layers[layer].key);
    const length = figure.shape.slice(1).reduce((product, each) => product * each, 1);
    return at < 0 ? null : numbers(figure).slice(at * length, (at + 1) * length);
  }

  const joined = (parts) => parts.filter(Boolean).join("; ");

  function describeEach(series, at) {
    return joined(series.filter((each) => !each.faint).map((each) => `${each.label} ${Report.number(each.values[at] ?? NaN)}`));
  }

  // Which recording a map shows, or a − b.
  function switched(host, picture, context) {
    if (!Report.two) return 0;
    const state = (picture.which ??= 0);
    const bar = Report.element("div", { class: "controls", role: "group", "aria-label": "What is shown" });
    [name(0), name(1), "difference"].forEach((text, which) => {
      if (which === 2 && context.difference === false) return;
      const button = Report.element("button", { type: "button", "aria-pressed": String(which === state) }, text);
      button.addEventListener("click", () => {
        picture.which = which;
        context.redraw();
        context.host.querySelectorAll(".controls button")[which].focus();
      });
      bar.append(button);
    });
    host.append(bar);
    return state;
  }

  const same = (one, other) => one && other && one.dims.every((dim) => one.coords[dim].list === other.coords[dim].list);

  // Figures that a map shows: of one recording, or the difference of both where they are about the same.
  function shown(figures, which) {
    if (which < 2) return figures[which] ? { figure: figures[which], values: numbers(figures[which]) } : null;
    if (!same(...figures)) return null;
    const [one, other] = figures.map(numbers);
    return { figure: figures[0], values: one.map((value, at) => value - other[at]), difference: true };
  }

  const OTHERS = "These two differ in what they are about here, so there is no difference to show.";

  function reach(values, about, difference) {
    const known = values.filter(Number.isFinite);
    const most = known.reduce((a, b) => Math.max(a, b), 0);
    const least = known.reduce((a, b) => Math.min(a, b), 0);
    if (difference) return [-Math.max(most, -least, 1e-12), Math.max(most, -least, 1e-12)];
    return [about.least ?? 0, about.most ?? most];
  }

  function mapped(host, picture, context, draw) {
    host.replaceChildren();
    const which = switched(host, picture, context);
    const [table] = Object.values(picture.tables);
    const figures = report().recordings.map((_, each) => Report.figure(table, context.layer, each));
    const found = shown(figures, which);
    if (!found) {
      const said = which < 2 ? Report.said(table, context.layer, which) : OTHERS;
      host.append(Report.element("p", { class: "why" }, said || NOTHING));
      return;
    }
    const frame = Report.element("div", { class: "frame" });
    host.append(frame);
    // Both recordings have one scale.
    const values = found.difference ? found.values : figures.flatMap(numbers);
    draw(frame, found, ...reach(values, picture, found.difference));
  }

  const NOTHING = "There is nothing to show of this layer.";
  const nothing = (host, said = NOTHING) => host.replaceChildren(Report.element("p", { class: "why" }, said));

  const kinds = {
    heat(host, picture, context) {
      mapped(host, picture, context, (frame, { figure, values }, least, most) => {
        const along = figure.dims[1];
        const columns = Report.along(figure, along);
        const keys = Report.along(figure, "layer");
        const layers = keys.map((key) => Report.layers.findIndex((each) => each.key === key));
        const at = (row, column) => values[row * columns.length + column];
        Report.grid(frame, {
          rows: layers.map((place) => Report.layers[place].name),
          shorter: [layers.map((place) => Report.layers[place].short), layers.map((place) => place + 1)],
          quantity: Report.quantity(figure),
          columns,
          value: at,
          least,
          most,
          title: along === "time" ? "time in steps" : along,
          tall: 60,
          marked: layers.indexOf(context.layer),
          label: `${picture.title}: ${keys.length} layers, ${columns.length} places in ${along}; from ${Report.number(least)} to ${Report.number(most)}.`,
          describe: (row, column) => `${Report.layers[layers[row]].name}, ${along} ${Report.text(columns[column])}: ${Report.number(at(row, column))}`,
          pick: (row) => Report.choose(layers[row]),
          readout: context.readout,
        });
      });
    },

    matrix(host, picture, context) {
      mapped(host, picture, context, (frame, { figure, values }, least, most) => {
        const [rows, columns] = figure.dims.map((dim) => Report.along(figure, dim));
        const at = (row, column) => values[row * columns.length + column];
        const [first, second] = [picture.rows, picture.columns];
        const selectivity = picture.tables.selectivity && Report.figure(picture.tables.selectivity, context.layer, 0);
        const more = (column) => (selectivity ? `; selectivity ${Report.number(numbers(selectivity)[column])}` : "");
        Report.grid(frame, {
          rows,
          columns,
          value: at,
          least,
          most,
          title: second === "other" ? "neuron" : second,
          square: second === "other",
          quantity: Report.quantity(figure),
          label: `${picture.title} of ${context.name}: ${rows.length} × ${columns.length}, from ${Report.number(least)} to ${Report.number(most)}.`,
          describe: (row, column) => `${first} ${Report.text(rows[row])}, ${second === "other" ? "with neuron" : second} ${Report.text(columns[column])}: ${Report.number(at(row, column))}${more(column)}`,
          readout: context.readout,
        });
      });
    },

    maps(host, picture, context) {
      mapped(host, picture, context, (frame, { figure, values }, least, most) => {
        const names = figure.dims;
        const along = names.map((dim) => Report.along(figure, dim));
        Report.maps(frame, {
          shape: figure.shape,
          quantity: Report.quantity(figure),
          value: (place) => values[place],
          least,
          most,
          label: `${picture.title} of ${context.name}: ${values.length} neurons, from ${Report.number(least)} to ${Report.number(most)}.`,
          describe(place) {
            let rest = place;
            const places = names.map(() => 0);
            for (let axis = names.length - 1; axis >= 0; axis--) {
              places[axis] = rest % figure.shape[axis];
              rest = Math.floor(rest / figure.shape[axis]);
            }
            return `${names.map((dim, axis) => `${dim} ${along[axis][places[axis]]}`).join(", ")}: ${Report.number(values[place])}`;
          },
          readout: context.readout,
        });
      });
    },

    raster(host, picture, context) {
      host.replaceChildren();
      const which = switched(host, picture, { ...context, difference: false });
      const layer = picture.tables.spikes.layers[which][context.layer];
      const frame = Report.element("div");
      host.append(frame);
      if (layer) Report.raster(frame, layer, context.readout, context.redraw);
      else frame.append(Report.element("p", { class: "why" }, Report.said(picture.tables.spikes, context.layer, which) || "There are no frames of this layer among what is shown here."));
    },

    bars(host, picture, context) {
      const [table] = Object.values(picture.tables);
      const figure = table.data.find(Boolean);
      if (!table.data.some((each) => each && ofLayer(each, context.layer))) return nothing(host);
      const x = Report.along(figure, picture.along);
      const upto = picture.upto ? Report.along(figure, picture.upto) : null;
      const names = upto ? x.map((from, at) => `${from}–${upto[at]}`) : x;
      const series = table.data.map((each, which) => ({
        label: Report.two ? name(which) : figure.about,
        values: (each && ofLayer(each, context.layer)) ?? x.map(() => NaN),
        bars: true,
        colour: which ? "second" : "accent",
        side: Report.two ? (which ? 1 : -1) : 0,
      }));
      const notes = Object.entries(picture.tables).slice(1).map(([, more]) => noted(more, context.layer));
      Report.chart(host, {
        x: names,
        names: true,
        series,
        least: 0,
        xTitle: picture.along === "interval" ? "steps between spikes" : "spikes per neuron and step",
        yTitle: figure.about,
        label: `${picture.title} of ${context.name}: ${names.length} bars. ${joined(notes)}`,
        describe: (at) => `${names[at]}: ${describeEach(series, at)}`,
        readout: (text) => context.readout(text || joined(notes)),
      });
      context.readout(joined(notes));
    },

    layers(host, picture, context) {
      const [table, ...others] = Object.values(picture.tables);
      const series = [];
      const keys = Report.layers.map((layer) => layer.key);
      table.data.forEach((figure, which) => {
        if (!figure) return;
        const values = numbers(figure);
        const there = Report.along(figure, "layer");
        const each = keys.map((key) => (there.includes(key) ? values[there.indexOf(key)] : NaN));
        const side = Report.two ? (which ? 1 : -1) : 0;
        const common = { label: Report.two ? name(which) : figure.about, bars: true, side, colour: which ? "second" : "accent" };
        series.push({ ...common, values: each, faint: true });
        series.push({ ...common, values: each.map((value, at) => (at === context.layer ? value : NaN)) });
      });
      const said = (at) => joined(others.map((more) => noted(more, at)));
      const choices = ["name", "short"].map((kind) => Report.layers.map((layer) => layer[kind]));
      const fits = choices.find((names) => Math.max(...names.map((name) => name.length)) * 7 * keys.length < host.clientWidth - 80);
      Report.chart(host, {
        x: fits ?? keys.map((_, at) => at + 1),
        names: true,
        series,
        least: 0,
        xTitle: fits ? "" : "layer, in depth order",
        yTitle: Report.quantity(table.data.find(Boolean)),
        label: `${picture.title} of ${keys.length} layers; of ${context.name} ${describeEach(series.filter((each) => !each.faint), context.layer)}.`,
        describe: (at) => joined([`${Report.layers[at].name}: ${joined(series.filter((each) => each.faint).map((each) => `${each.label} ${Report.number(each.values[at])}`))}`, said(at)]),
        pick: Report.choose,
        readout: context.readout,
      });
    },

    lines(host, picture, context) {
      const [[, table], ...others] = Object.entries(picture.tables);
      const figures = report().recordings.map((_, which) => Report.figure(table, context.layer, which));
      const figure = figures.find(Boolean);
      if (!figure) return nothing(host, Report.said(table, context.layer) || elsewhere(table));
      if (picture.apart && !figures.some((each) => each && ofLayer(each, context.layer))) return nothing(host);
      const along = Report.along(figure, picture.along);
      const numeric = along.every((value) => typeof value === "number");
      const series = [];
      figures.forEach((each, which) => {
        if (!each) return;
        const label = Report.two ? name(which) : picture.apart ? context.name : each.about;
        const apart = picture.apart && Report.layers.length <= 64 && !Report.two;
        if (apart) Report.layers.forEach((layer, at) => at !== context.layer && series.push({ label: layer.name, values: ofLayer(each, at) ?? [], faint: true, colour: "muted" }));
        const values = picture.apart ? ofLayer(each, context.layer) : numbers(each);
        series.push({ label, values: aligned(values ?? [], Report.along(each, picture.along), along), colour: which ? "second" : "accent", dashed: which > 0 });
      });
      let band = null;
      if (picture.around && !Report.two) {
        const deviation = numbers(Report.figure(others[0][1], context.layer));
        const mean = series[0].values;
        series.push({ label: "mean + deviation", values: mean.map((value, at) => value + deviation[at]), faint: true });
        series.push({ label: "mean − deviation", values: mean.map((value, at) => value - deviation[at]), faint: true });
        band = [2, 3];
      }
      Report.chart(host, {
        x: along,
        names: !numeric,
        series,
        band,
        least: picture.least,
        most: picture.most,
        xTitle: picture.along === "time" ? "time in steps" : picture.along === "window" ? "first step of the window" : picture.along,
        yTitle: Report.quantity(figure),
        label: `${picture.title} of ${context.name}: ${along.length} places in ${picture.along}.`,
        describe: (at) => `${picture.along} ${Report.text(along[at])}: ${describeEach(series, at)}`,
        readout: context.readout,
      });
    },

    energy(host, picture) {
      host.replaceChildren();
      picture.tables.energy.data.forEach((figure, which) => {
        if (!figure) return;
        const [value] = numbers(figure);
        const input = figure.coords.input_layer ? Report.along(figure, "input_layer")[0] : null;
        if (Report.two) host.append(Report.element("h4", { class: which ? "second" : "first" }, name(which)));
        const list = Report.element("dl", { class: "sum" });
        const row = (term, text) => list.append(Report.element("dt", {}, term), Report.element("dd", {}, text));
        row("caused by spikes", `${Report.number(value / 1e6)} µJ`);
        if (input !== null) row("layers that read the input, dense", `${Report.number(input / 1e6)} µJ`);
        for (const [term, text] of figure.notes) row(term, text);
        host.append(list);
      });
    },

    strip(host, picture, context) {
      if (host.querySelector(".strip")) Report.mark(host, context);
      else Report.strip(host, picture, context);
    },
  };

  // Which layers have what this one has not.
  function elsewhere(table) {
    const names = Report.layers.filter((_, at) => table.layers.some((each) => each[at])).map((layer) => layer.name);
    const more = names.length > 4 ? ` and ${names.length - 4} more` : "";
    return names.length ? `Not recorded of this layer, but of ${names.slice(0, 4).join(", ")}${more}.` : NOTHING;
  }

  // A figure of the chosen layer in words.
  function noted(table, layer) {
    const parts = table.data.map((figure) => {
      const value = figure && ofLayer(figure, layer)?.[0];
      return value === null || value === undefined ? null : Report.number(value);
    });
    const figure = table.data.find(Boolean);
    return figure ? `${figure.about} ${parts.map((part) => part ?? "–").join(" · ")}` : "";
  }

  // Values along other places, at those that are drawn.
  function aligned(values, from, to) {
    if (from === to) return values;
    const places = new Map(from.map((key, at) => [key, at]));
    return to.map((key) => (places.has(key) ? values[places.get(key)] : NaN));
  }

  Report.draw = (host, picture, context) => kinds[picture.kind](host, picture, { ...context, host });
})();
