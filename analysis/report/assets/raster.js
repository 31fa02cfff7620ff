// Spikes of some neurons at one presentation after another: choose a label, drag to zoom, point at a neuron.
"use strict";
(() => {
  const TOP = 20;
  const BOTTOM = 32;
  const LEFT = 46;

  const labelOf = (presentation) => (presentation.label === null ? undefined : Report.list(presentation.label)[0]);

  function titleOf(presentation) {
    if (presentation.trial < 0) return "outside of trials";
    const label = presentation.label === null ? "" : `label ${Report.text(labelOf(presentation))} · `;
    return `${label}trial ${presentation.trial}, sample ${presentation.sample}`;
  }

  // A row for each spike that is drawn.
  Report.rasterCsv = (layer) => {
    const neurons = Report.list(layer.neurons);
    const rows = ["trial,sample,step,neuron"];
    for (const { trial, sample, steps, bits } of layer.presentations) {
      const fired = Report.bits(bits);
      Report.list(steps).forEach((step, row) =>
        neurons.forEach((neuron, column) => {
          if (fired(row * neurons.length + column)) rows.push(`${trial},${sample},${step},${neuron}`);
        }),
      );
    }
    return rows.join("\n") + "\n";
  };

  // What was chosen stays, whichever layer is looked at.
  const chosen = { label: "", zoom: null };

  function controls(layer, redraw) {
    const labels = [...new Set(layer.presentations.map((each) => Report.text(labelOf(each))))];
    const bar = Report.element("div", { class: "controls" });
    if (labels.length > 1) {
      const select = Report.element("select", { "aria-label": "Label" }, Report.element("option", { value: "" }, "all labels"));
      for (const label of labels) select.append(Report.element("option", { value: `=${label}` }, `label ${label}`));
      select.value = chosen.label;
      if (select.selectedIndex < 0) select.value = chosen.label = "";
      select.addEventListener("change", () => {
        chosen.label = select.value;
        chosen.zoom = null;
        redraw("select");
      });
      bar.append(select);
    }
    const button = (text, about, act) => {
      const made = Report.element("button", { type: "button", "aria-label": about }, text);
      made.addEventListener("click", () => act(`button[aria-label="${about}"]`));
      bar.append(made);
    };
    return { bar, button };
  }

  Report.raster = (host, layer, readout, drawAgain) => {
    host.replaceChildren();
    const neurons = Report.list(layer.neurons);
    const figure = host.closest("figure");
    // Drawn anew; what had the focus has it again.
    const redraw = (focus) => {
      drawAgain();
      figure.querySelector(focus).focus();
    };
    const { bar, button } = controls(layer, redraw);
    host.append(bar);
    const shown = layer.presentations.filter((each) => chosen.label === "" || `=${Report.text(labelOf(each))}` === chosen.label);
    const columns = shown.flatMap((presentation) => {
      const fired = Report.bits(presentation.bits);
      return Report.list(presentation.steps).map((step, time) => ({ presentation, step, time, fired }));
    });
    const [first, last] = chosen.zoom ?? [0, columns.length];
    const zoom = (from, to, focus = "canvas") => {
      const [low, high] = [Math.max(Math.floor(from), 0), Math.min(Math.ceil(to), columns.length)];
      chosen.zoom = high - low < 2 || (low === 0 && high === columns.length) ? null : [low, high];
      redraw(focus);
    };
    const middle = (first + last) / 2;
    const span = last - first;
    button("+", "Zoom in", (focus) => zoom(middle - span / 4, middle + span / 4, focus));
    button("−", "Zoom out", (focus) => zoom(middle - span, middle + span, focus));
    button("Whole", "Show all steps", (focus) => zoom(0, columns.length, focus));

    const frame = Report.element("div", { class: "frame" });
    host.append(frame);
    const width = frame.clientWidth || host.clientWidth;
    const height = Math.min(Math.max(neurons.length * 4, 60), 380);
    const about = `Raster: spikes of ${neurons.length} neurons at ${shown.length} presentations.`;
    const [canvas, context] = Report.canvas(frame, width, height + TOP + BOTTOM, about);
    const inner = width - LEFT - 4;
    const across = inner / span;
    const tall = height / neurons.length;
    const x = (column) => LEFT + (column - first) * across;
    context.fillStyle = Report.colour("field");
    context.fillRect(LEFT, TOP, inner, height);
    context.fillStyle = Report.colour("spike");
    for (let column = first; column < last; column++) {
      const { fired, time } = columns[column];
      for (let row = 0; row < neurons.length; row++) {
        if (!fired(time * neurons.length + row)) continue;
        const mark = Math.min(Math.max(across * 0.7, 1), 5);
        context.fillRect(x(column) + (across - mark) / 2, TOP + row * tall, mark, Math.max(tall * 0.85, 1));
      }
    }
    edges(context, columns.slice(first, last), first, x, height, width);
    context.fillStyle = Report.colour("muted");
    context.textAlign = "right";
    const stride = Math.max(Math.ceil((neurons.length * 16) / height), 1);
    neurons.forEach((neuron, row) => row % stride || context.fillText(neuron, LEFT - 6, TOP + (row + 0.5) * tall));
    context.fillText("step", width - 4, TOP + height + 24);
    context.textAlign = "left";
    context.fillText("neuron", 0, 8);

    const above = Report.overlay(frame, width, height + TOP);
    const outline = (at, from) => {
      above.clearRect(0, 0, width, height + TOP);
      if (!at) return;
      above.fillStyle = Report.colour("shade");
      if (from === undefined) above.fillRect(LEFT, TOP + at[0] * tall, inner, Math.max(tall, 2));
      const [low, high] = [Math.min(from ?? at[1], at[1]), Math.max(from ?? at[1], at[1])];
      above.fillRect(x(first + low), TOP, Math.max(across * (high - low + 1), 2), height);
    };
    const hit = (left, top) => {
      const at = [Math.floor((top - TOP) / tall), Math.floor((left - LEFT) / across)];
      return at[0] >= 0 && at[0] < neurons.length && at[1] >= 0 && at[1] < span ? at : null;
    };
    const describe = (row, place) => {
      const { presentation, step, time, fired } = columns[first + place];
      const verb = fired(time * neurons.length + row) ? "fires" : "is silent";
      return `Neuron ${placed(neurons[row], layer.shape)} ${verb} at step ${step} (time ${time}): ${titleOf(presentation)}`;
    };
    Report.explore(canvas, { rows: neurons.length, columns: span, hit, describe, outline, readout });
    dragging(canvas, hit, outline, (low, high) => zoom(first + low, first + high + 1));
  };

  // Index along each axis of the layer, where there are several.
  function placed(neuron, shape) {
    if (shape.length < 2) return String(neuron);
    let rest = neuron;
    const places = [...shape].reverse().map((length) => {
      const place = rest % length;
      rest = Math.floor(rest / length);
      return place;
    });
    return `${neuron} (${places.reverse().join(", ")})`;
  }

  // Where presentations begin, and as many of their titles and steps as have room.
  function edges(context, columns, first, x, height, width) {
    const begins = columns.map((each, at) => (at === 0 || each.presentation !== columns[at - 1].presentation ? at : -1)).filter((at) => at >= 0);
    let free = 0;
    context.textAlign = "left";
    begins.forEach((at, place) => {
      const left = x(first + at);
      const until = x(first + (begins[place + 1] ?? columns.length));
      context.fillStyle = Report.colour("muted");
      if (place) context.fillRect(left - 0.5, TOP - 4, 1, height + 8);
      const title = titleOf(columns[at].presentation);
      const short = columns[at].presentation.label === null ? title : Report.text(labelOf(columns[at].presentation));
      const room = Math.max(until - left - 8, 0);
      const start = place === 0 ? Math.max(left, 48) : left + 4;
      const fits = [title, `label ${short}`].find((each) => context.measureText(each).width <= room);
      const text = fits ?? Report.fitted(context, short, Math.max(room, 12));
      if (start >= free && start + context.measureText(text).width < width) {
        context.fillStyle = Report.colour("ink");
        context.fillText(text, start, 8);
        free = start + context.measureText(text).width + 6;
      }
    });
    steps(context, columns, first, x, height, width);
  }

  // Steps below: where presentations begin, and round ones in between.
  function steps(context, columns, first, x, height, width) {
    const across = x(1) - x(0);
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((each) => each * across >= 44) ?? 1000;
    context.fillStyle = Report.colour("muted");
    let free = 0;
    columns.forEach(({ step, time, presentation }, at) => {
      const begins = at === 0 || presentation !== columns[at - 1].presentation;
      if (!begins && time % every) return;
      const [left, text] = [x(first + at), String(step)];
      const wide = context.measureText(text).width;
      const next = columns.findIndex((each, behind) => behind > at && each.presentation !== presentation);
      // The step at which a presentation begins goes before.
      const until = begins || next < 0 ? width : x(first + next) - 6;
      if (left < free || left + wide >= until) return;
      context.fillText(text, left, TOP + height + 10);
      free = left + wide + 8;
    });
  }

  function dragging(canvas, hit, outline, done) {
    let from = null;
    canvas.addEventListener("mousedown", (event) => (from = hit(event.offsetX, event.offsetY)));
    canvas.addEventListener("mousemove", (event) => {
      const at = from && event.buttons ? hit(event.offsetX, event.offsetY) : null;
      if (at && at[1] !== from[1]) outline(at, from[1]);
    });
    canvas.addEventListener("mouseup", (event) => {
      const at = hit(event.offsetX, event.offsetY);
      if (from && at && Math.abs(at[1] - from[1]) > 1) done(Math.min(from[1], at[1]), Math.max(from[1], at[1]));
      from = null;
    });
  }
})();
