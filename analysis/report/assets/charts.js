// Lines and bars, drawn by uPlot.
"use strict";
(() => {
  const axis = (label) => ({
    stroke: Report.colour("muted"),
    grid: { stroke: Report.colour("grid"), width: 1 },
    ticks: { stroke: Report.colour("grid"), width: 1 },
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    labelSize: 18,
    labelGap: 0,
    label,
  });

  const translucent = (colour, share) => `${colour}${Math.round(share * 255).toString(16).padStart(2, "0")}`;

  function barsOf(side) {
    const gap = side ? 0.42 : 0.8;
    return uPlot.paths.bars({ size: [gap, 64], align: side });
  }

  function seriesOf(each) {
    const colour = Report.colour(each.colour ?? "accent");
    const common = { label: each.label, stroke: colour, points: { show: false }, spanGaps: false };
    if (each.bars) return { ...common, width: 0, fill: translucent(colour, each.faint ? 0.45 : 1), paths: barsOf(each.side ?? 0) };
    const few = each.values.length < 2 || each.values.length > 60 ? {} : { points: { show: true, size: 5, fill: colour } };
    if (each.faint) return { ...common, stroke: translucent(colour, 0.35), width: 1 };
    return { ...common, ...few, width: 2, ...(each.dashed ? { dash: [6, 4] } : {}) };
  }

  const known = (values) => values.filter((value) => value !== null && Number.isFinite(value));

  function reach(spec) {
    const every = known(spec.series.flatMap((each) => each.values));
    const least = Math.min(spec.least ?? Infinity, ...(every.length ? [every.reduce((a, b) => Math.min(a, b))] : [0]));
    const most = Math.max(spec.most ?? -Infinity, ...(every.length ? [every.reduce((a, b) => Math.max(a, b))] : [1]));
    const room = (most - least || Math.abs(most) || 1) * 0.06;
    return [spec.least === least ? least : least - room, spec.most === most ? most : most + room];
  }

  // Figures above bars, where these are few.
  function written(spec) {
    return (plot) => {
      const ratio = window.devicePixelRatio || 1;
      const { ctx } = plot;
      ctx.save();
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      ctx.textAlign = "center";
      ctx.fillStyle = Report.colour("ink");
      const [first] = spec.series;
      first.values.forEach((value, at) => {
        if (value === null || Number.isNaN(value)) return;
        ctx.fillText(Report.short(value), plot.valToPos(at, "x", true), plot.valToPos(value, "y", true) - 5 * ratio);
      });
      ctx.restore();
    };
  }

  // Which colour is which recording.
  function legend(spec) {
    const list = Report.element("p", { class: "legend" });
    const named = spec.series.filter((each) => !each.faint && each.values.length);
    for (const { label, colour } of named) list.append(Report.element("span", { class: colour === "second" ? "second" : "first" }, label));
    return list;
  }

  // `spec`: names along x, or numbers; series with values; titles of axes; what is said of each place.
  Report.chart = (host, spec) => {
    host.replaceChildren();
    if (Report.two) host.append(legend(spec));
    const count = spec.x.length;
    const x = spec.names ? spec.x.map((_, at) => at) : spec.x;
    const bars = spec.series.some((each) => each.bars);
    const names = (plot, splits) => splits.map((at) => (Number.isInteger(at) && at in spec.x ? Report.text(spec.x[at]) : ""));
    const ends = count ? [x[0], x[count - 1]] : [0, 1];
    const pad = bars ? 0.6 : ends[0] === ends[1] ? 1 : 0;
    const range = [ends[0] - pad, ends[1] + pad];
    const few = bars && spec.series.length === 1 && count * 42 < host.clientWidth;
    const longest = Math.max(...spec.x.map((name) => Report.text(name).length), 1);
    let at = null;
    const wholes = [1, 2, 5].flatMap((one) => [...Array(9)].map((_, zeros) => one * 10 ** zeros)).sort((a, b) => a - b);
    const whole = spec.series.every((each) => known(each.values).every(Number.isInteger));
    const options = {
      width: host.clientWidth,
      height: 250,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: !bars } },
      select: { show: false },
      scales: { x: { time: false, range }, y: { range: reach(spec) } },
      axes: [
        {
          ...axis(spec.xTitle),
          size: 30,
          ...(bars ? { grid: { show: false } } : {}),
          ...(x.every(Number.isInteger) ? { incrs: wholes } : {}),
          ...(spec.names ? { values: names, space: Math.min(longest * 7 + 10, 110) } : {}),
        },
        { ...axis(spec.yTitle), size: 58, values: (plot, splits) => splits.map(Report.short), ...(whole ? { incrs: wholes } : {}) },
      ],
      series: [{}, ...spec.series.map(seriesOf)],
      bands: spec.band ? [{ series: spec.band, fill: translucent(Report.colour("accent"), 0.18) }] : [],
      hooks: {
        setCursor: [
          (plot) => {
            at = plot.cursor.left >= 0 ? plot.cursor.idx : null;
            spec.readout(at === null || at === undefined ? "" : spec.describe(at));
          },
        ],
        draw: few ? [written(spec)] : [],
      },
    };
    const plot = new uPlot(options, [x, ...spec.series.map((each) => each.values.map((value) => (Number.isNaN(value) ? null : value)))], host);
    plot.root.plot = plot;
    plot.root.setAttribute("tabindex", "0");
    plot.root.setAttribute("role", "img");
    plot.root.setAttribute("aria-label", spec.label);
    const move = (to) => plot.setCursor({ left: plot.valToPos(x[to], "x"), top: 10 });
    plot.root.addEventListener("keydown", (event) => {
      const right = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (right && count) move(Math.min(Math.max((at ?? (right > 0 ? -1 : count)) + right, 0), count - 1));
      else if (event.key === "Escape") plot.setCursor({ left: -10, top: -10 });
      else if ((event.key === "Enter" || event.key === " ") && at !== null && spec.pick) spec.pick(at);
      else return;
      event.preventDefault();
    });
    if (spec.pick) plot.over.addEventListener("click", () => at !== null && spec.pick(at));
    return plot;
  };
})();
