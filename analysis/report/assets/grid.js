// Maps of figures: rows × columns of coloured cells, looked at with the mouse or with arrow keys.
"use strict";
(() => {
  const AXIS = 34;
  const LEGEND = 26;

  // Where cells are: what the mouse and the keys need. `hit` gives [row, column] of a point, or null.
  Report.explore = (canvas, { rows, columns, hit, describe, pick, outline, readout }) => {
    let at = null;
    const show = (place) => {
      at = place;
      outline(at);
      readout(at ? describe(...at) : "");
    };
    canvas.addEventListener("mousemove", (event) => show(hit(event.offsetX, event.offsetY)));
    canvas.addEventListener("mouseleave", () => show(null));
    canvas.addEventListener("blur", () => show(null));
    canvas.addEventListener("click", (event) => {
      const place = hit(event.offsetX, event.offsetY);
      if (place && pick) pick(...place);
    });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (event.key === "Escape") show(null);
      else if ((event.key === "Enter" || event.key === " ") && at && pick) pick(...at);
      else if (moves[event.key] && rows && columns) {
        const [row, column] = at ?? [0, 0];
        const [down, right] = at ? moves[event.key] : [0, 0];
        show([Math.min(Math.max(row + down, 0), rows - 1), Math.min(Math.max(column + right, 0), columns - 1)]);
      } else return;
      event.preventDefault();
    });
  };

  // A transparent canvas above another one, for what moves.
  Report.overlay = (host, width, height) => {
    const [canvas, context] = Report.canvas(host, width, height, "");
    canvas.className = "overlay";
    canvas.removeAttribute("tabindex");
    canvas.setAttribute("aria-hidden", "true");
    return context;
  };

  // Names along an axis: as many as have room.
  function every(count, room, each) {
    return Math.max(Math.ceil((count * each) / Math.max(room, 1)), 1);
  }

  Report.grid = (host, spec) => {
    const { rows, columns, value, least, most, label, describe, pick, marked, readout } = spec;
    const width = host.clientWidth;
    const cell = Math.min(Math.max(360 / rows.length, 3), spec.tall ?? 22);
    const height = Math.max(Math.round(cell * rows.length), 24);
    host.replaceChildren();
    const [canvas, context] = Report.canvas(host, width, height + AXIS + LEGEND, label);
    // Short names where the long ones have no room, and numbers where these have none.
    const widthOf = (names) => Math.max(...names.map((name) => context.measureText(name).width), 20);
    const choices = [rows, ...(spec.shorter ?? [])].map((each) => each.map(Report.text));
    const names = choices.find((each) => widthOf(each) + 10 <= width * 0.3) ?? choices.at(-1);
    const widest = widthOf(names);
    const left = Math.min(widest + 10, width * 0.3);
    const inner = spec.square ? Math.min(width - left - 4, height) : width - left - 4;
    const scale = Report.scale(least, most);
    Report.paint(context, rows.length, columns.length, (row, column) => scale(value(row, column)), left, 0, inner, height);

    context.fillStyle = Report.colour("ink");
    context.textAlign = "right";
    const step = height / rows.length;
    const stride = every(rows.length, height, 13);
    const near = (row) => marked >= 0 && row !== marked && Math.abs(row - marked) < stride;
    let last = -Infinity;
    names.forEach((name, row) => {
      const chosen = row === marked;
      // The first name is moved down to be whole.
      const middle = Math.max((row + 0.5) * step, 7);
      if (((row % stride || middle - last < 12) && !chosen) || near(row)) return;
      last = middle;
      context.fillStyle = Report.colour(chosen ? "accent" : "ink");
      context.fillText(Report.fitted(context, name, left - 10), left - 6, middle);
    });
    context.textAlign = "center";
    context.fillStyle = Report.colour("muted");
    const wide = Math.max(...columns.map((name) => context.measureText(Report.text(name)).width), 8) + 12;
    const across = inner / columns.length;
    const jump = every(columns.length, inner, Math.min(wide, 90));
    columns.forEach((name, column) => {
      if (column % jump) return;
      const shown = Report.fitted(context, Report.text(name), 80);
      const half = context.measureText(shown).width / 2;
      const middle = Math.min(Math.max(left + (column + 0.5) * across, half), width - half);
      context.fillText(shown, middle, height + 10);
    });
    context.textAlign = "right";
    context.fillText(spec.title, left + inner, height + 25);
    const hasBlank = rows.some((_, row) => columns.some((__, column) => Number.isNaN(value(row, column))));
    Report.legend(context, scale, left, height + AXIS + 8, width - left, spec.quantity, hasBlank);

    const above = Report.overlay(host, width, height);
    const outline = (at) => {
      above.clearRect(0, 0, width, height);
      if (!at) return;
      above.strokeStyle = Report.colour("accent");
      above.lineWidth = 2;
      above.strokeRect(left + at[1] * across, at[0] * step, Math.max(across, 3), Math.max(step, 3));
    };
    const hit = (x, y) => {
      const at = [Math.floor(y / step), Math.floor((x - left) / across)];
      return at[0] >= 0 && at[0] < rows.length && at[1] >= 0 && at[1] < columns.length ? at : null;
    };
    Report.explore(canvas, { rows: rows.length, columns: columns.length, hit, describe, pick, outline, readout });
  };

  // Channels side by side, each as it lies in space.
  Report.maps = (host, spec) => {
    const { shape, value, most, least, label, describe, readout } = spec;
    const width = host.clientWidth;
    const count = shape.reduce((product, length) => product * length, 1);
    const flat = shape.length < 2;
    const wide = flat ? Math.min(Math.ceil(Math.sqrt(count * 3)), 64) : shape[shape.length - 1];
    const tiles = shape.length > 2 ? shape[0] : 1;
    const tall = flat ? Math.ceil(count / wide) : count / wide / tiles;
    const gap = tiles > 1 ? 3 : 0;
    const lay = (size) => Math.max(Math.floor((width + gap) / (wide * size + gap)), 1);
    let size = 32;
    while (size > 1 && (wide * size > width || Math.ceil(tiles / lay(size)) * (tall * size + gap) > 420)) size -= 1;
    if (size === 1 && wide > width) size = width / wide;
    // As many in each row as in the first.
    const across = Math.ceil(tiles / Math.ceil(tiles / lay(size)));
    const height = Math.ceil(Math.ceil(tiles / across) * (tall * size + gap));
    host.replaceChildren();
    const [canvas, context] = Report.canvas(host, width, height + LEGEND, label);
    const scale = Report.scale(least, most);
    const corner = (tile) => [(tile % across) * (wide * size + gap), Math.floor(tile / across) * (tall * size + gap)];
    const place = (tile, row, column) => tile * tall * wide + row * wide + column;
    const paper = parseInt(Report.colour("card").slice(1), 16);
    const empty = [paper >> 16, (paper >> 8) & 255, paper & 255];
    for (let tile = 0; tile < tiles; tile++) {
      const colour = (row, column) => (place(tile, row, column) < count ? scale(value(place(tile, row, column))) : empty);
      Report.paint(context, tall, wide, colour, ...corner(tile), wide * size, tall * size);
    }
    let hasBlank = false;
    for (let each = 0; each < count && !hasBlank; each++) hasBlank = Number.isNaN(value(each));
    Report.legend(context, scale, 0, height + 10, width, spec.quantity, hasBlank);

    const above = Report.overlay(host, width, height);
    const columns = wide * Math.min(across, tiles);
    const tileOf = (row, column) => Math.floor(row / tall) * across + Math.floor(column / wide);
    const flatPlace = (row, column) => place(tileOf(row, column), row % tall, column % wide);
    const outline = (at) => {
      above.clearRect(0, 0, width, height);
      if (!at || tileOf(...at) >= tiles) return;
      const [x, y] = corner(tileOf(...at));
      above.strokeStyle = Report.colour("accent");
      above.lineWidth = 2;
      above.strokeRect(x + (at[1] % wide) * size, y + (at[0] % tall) * size, Math.max(size, 3), Math.max(size, 3));
    };
    const hit = (x, y) => {
      const [column, row] = [Math.floor(x / (wide * size + gap)), Math.floor(y / (tall * size + gap))];
      const [inX, inY] = [x - column * (wide * size + gap), y - row * (tall * size + gap)].map((at) => Math.floor(at / size));
      if (column >= across || row * across + column >= tiles || inX >= wide || inY >= tall) return null;
      return place(row * across + column, inY, inX) < count ? [row * tall + inY, column * wide + inX] : null;
    };
    Report.explore(canvas, {
      rows: tall * Math.ceil(tiles / across),
      columns,
      hit,
      describe: (row, column) => (flatPlace(row, column) < count && tileOf(row, column) < tiles ? describe(flatPlace(row, column)) : ""),
      outline,
      readout,
    });
  };
})();
