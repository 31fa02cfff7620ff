// The figures that came with the page: unpacked when they are first looked at, and handed out as CSV.
"use strict";
const Report = {};

(() => {
  const report = JSON.parse(document.getElementById("report").textContent);
  Report.report = report;
  Report.layers = report.layers;
  Report.two = report.recordings.length > 1;

  // Names without what all have in common, for where room is scarce: parts between dots in front, and behind.
  const shared = (names) => {
    const [first, ...others] = names;
    let count = 0;
    while (others.length && count < first.length - 1 && others.every((each) => each.length > count + 1 && each[count] === first[count])) count++;
    return count;
  };
  const parts = report.layers.map((layer) => layer.name.split("."));
  const front = parts.length ? shared(parts) : 0;
  const rest = parts.map((each) => each.slice(front).reverse());
  const back = parts.length ? shared(rest) : 0;
  report.layers.forEach((layer, at) => (layer.short = rest[at].slice(back).reverse().join(".")));

  const readers = {
    u1: [1, "getUint8"],
    u2: [2, "getUint16"],
    u4: [4, "getUint32"],
    f8: [8, "getFloat64"],
  };

  function bytesOf(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  // Bits of a raster, eight a byte, the lowest first.
  Report.bits = (text) => {
    const bytes = bytesOf(text);
    return (place) => (bytes[place >> 3] >> (place & 7)) & 1;
  };

  // The numbers of a figure, flat. Whole numbers that are divided here give the very floats that Python has.
  Report.values = (figure) => {
    if (figure.values) return figure.values;
    if (figure.type === "text") return (figure.values = figure.data);
    const [size, read] = readers[figure.type];
    const bytes = bytesOf(figure.data);
    const view = new DataView(bytes.buffer);
    const numbers = new Array(bytes.length / size);
    for (let place = 0; place < numbers.length; place++) {
      const number = view[read](place * size, true);
      numbers[place] = figure.divisor ? number / figure.divisor : number;
    }
    return (figure.values = numbers);
  };

  Report.list = (place) => report.lists[place];
  Report.along = (figure, name) => report.lists[figure.coords[name].list];

  // The figure of a table for a layer in one of the recordings, or null; and what is said of it.
  Report.figure = (table, layer, which = 0) =>
    table.layers ? table.layers[which][layer] : table.data[which];
  Report.said = (table, layer, which = 0) =>
    table.layers ? table.said[which][layer] : table.said[which];

  Report.line = (table, layer, which) => {
    const lines = table.lines[which];
    const line = Array.isArray(lines) ? lines[layer] : lines;
    return line.replace("⟨layer⟩", () => Report.layers[layer].literal);
  };

  Report.number = (value) => {
    if (value === null || Number.isNaN(value)) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    return size >= 1e5 || (size < 1e-3 && size > 0) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
  };

  // Where room is scarce.
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  Report.short = (value) => (Math.abs(value) >= 1e4 ? compact.format(value) : Report.number(value));

  // What a figure is about, with its unit; the unit alone, where that is long.
  Report.quantity = ({ about, units }) => {
    const said = about.includes(": ") ? about.slice(about.indexOf(": ") + 2) : about;
    return units === "1" ? said : said.length > 24 ? units : `${said} (${units})`;
  };

  Report.text = (value) => (value === null || value === undefined ? "none" : String(value));

  // No spreadsheet takes a cell of text for a formula, whoever wrote the labels.
  function cell(value) {
    if (value === null || Number.isNaN(value)) return "";
    if (typeof value === "number") return String(value);
    const text = String(value).replace(/(^|;)(?=[\s"]*[=+\-@\t\r＝＋－＠])/g, "$1'");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  // A row for each figure: its place along each dimension, what lies along these, and the figure.
  Report.csv = (figure) => {
    const others = Object.keys(figure.coords).filter((name) => !figure.dims.includes(name));
    const columns = [...figure.dims, ...others];
    const rows = [[...columns, figure.name].map(cell).join(",")];
    const place = figure.dims.map(() => 0);
    const strides = (dims) => {
      let stride = 1;
      const steps = {};
      for (const name of [...dims].reverse()) {
        steps[name] = stride;
        stride *= figure.shape[figure.dims.indexOf(name)];
      }
      return figure.dims.map((name) => steps[name] ?? 0);
    };
    const lookups = columns.map((name) => {
      const steps = strides(figure.coords[name].dims);
      const list = Report.along(figure, name);
      return () => list[place.reduce((sum, at, axis) => sum + at * steps[axis], 0)];
    });
    for (const value of Report.values(figure)) {
      rows.push([...lookups.map((look) => cell(look())), cell(value)].join(","));
      for (let axis = place.length - 1; axis >= 0; axis--) {
        place[axis] += 1;
        if (place[axis] < figure.shape[axis]) break;
        place[axis] = 0;
      }
    }
    return rows.join("\n") + "\n";
  };

  Report.download = (name, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
})();
