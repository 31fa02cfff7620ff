// Colours as the style sheet has them, light or dark; and scales of colours for maps.
"use strict";
(() => {
  Report.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const parsed = (text) => text.split(" ").map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));

  // A function from 0 … 1 to [red, green, blue].
  function ramp(stops) {
    return (share) => {
      const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
      const low = Math.min(Math.floor(at), stops.length - 2);
      return stops[low].map((from, channel) => Math.round(from + (stops[low + 1][channel] - from) * (at - low)));
    };
  }

  // From least to most; where least is below 0, its middle is 0.
  Report.scale = (least, most) => {
    const diverging = least < 0;
    const reach = diverging ? Math.max(-least, most) : most - least;
    const colours = ramp(parsed(Report.colour(diverging ? "ramp-around" : "ramp")));
    const blank = parsed(Report.colour("blank"))[0];
    const from = diverging ? -reach : least;
    const span = (diverging ? 2 * reach : reach) || 1;
    const scale = (value) => (value === null || Number.isNaN(value) ? blank : colours((value - from) / span));
    return Object.assign(scale, { least: from, most: from + span });
  };

  Report.element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // A canvas of so many CSS pixels, sharp on any screen, and its context.
  Report.canvas = (host, width, height, label) => {
    const canvas = Report.element("canvas", { tabindex: "0", role: "img", "aria-label": label });
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    host.append(canvas);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    return [canvas, context];
  };

  // As much of a text as has room, with an ellipsis in its middle, as names differ at their ends.
  Report.fitted = (context, text, room) => {
    if (context.measureText(text).width <= room) return text;
    const cut = (kept) => `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(text.length - Math.floor(kept / 2))}`;
    let [kept, more] = [1, text.length];
    while (more - kept > 1) {
      const middle = Math.floor((kept + more) / 2);
      if (context.measureText(cut(middle)).width > room) more = middle;
      else kept = middle;
    }
    return cut(kept);
  };

  // An image of rows × columns of colours, drawn into a rectangle.
  Report.paint = (context, rows, columns, colourOf, left, top, width, height) => {
    if (!rows || !columns) return;
    const small = document.createElement("canvas");
    small.width = columns;
    small.height = rows;
    const inner = small.getContext("2d");
    const image = inner.createImageData(columns, rows);
    for (let row = 0, place = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, place += 4) {
        image.data.set(colourOf(row, column), place);
        image.data[place + 3] = 255;
      }
    }
    inner.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = width < columns || height < rows;
    context.drawImage(small, left, top, width, height);
  };

  // The colours of a scale, with the figures at their ends and what they are; and that of places without one.
  Report.legend = (context, scale, left, top, width, about, hasBlank) => {
    const bar = Math.min(120, width / 4);
    Report.paint(context, 1, 64, (_, at) => scale(scale.least + ((scale.most - scale.least) * at) / 63), left, top, bar, 8);
    context.fillStyle = Report.colour("muted");
    context.textAlign = "left";
    const range = `${Report.number(scale.least)} to ${Report.number(scale.most)}`;
    const blank = hasBlank ? 90 : 0;
    const whole = `${range} ${about}`;
    const text = context.measureText(whole).width <= width - bar - 6 - blank ? whole : range;
    context.fillText(text, left + bar + 6, top + 4);
    if (!hasBlank) return;
    const end = left + bar + 6 + context.measureText(text).width + 14;
    Report.paint(context, 1, 1, () => scale(null), end, top, 8, 8);
    context.fillText("undefined", end + 12, top + 4);
  };
})();
