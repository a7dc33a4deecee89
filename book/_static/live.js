// Figures of numbers (rwkv_explainer/drawing/live.py): they give their values, and move with their controls.
// `bars`, `lines`, `heat` and `text` draw what the functions of these names in live.py draw, element by element.
(function () {
  "use strict";

  const [WIDE, MANY] = [12, 16];
  const safe = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const fixed = (value, digits) => {
    const text = value.toFixed(digits);
    return /[1-9]/.test(text) ? text : text.replace("-", "");
  };
  const words = (value, digits) =>
    value === null
      ? "–"
      : typeof digits === "string"
        ? `${fixed(100 * value, Number(digits.slice(1)))}%`
        : fixed(value, digits).replace("-", "−");
  const hue = (n) => `var(--rwkv-hue-${n + 1})`;
  const clamped = (share) => Math.min(Math.max(share, 0), 1);

  function legend(names) {
    if (names.length === 1 && names[0] === "") return "";
    const keys = names.map((name, n) => `<span><i style="background:${hue(n)}"></i>${safe(name)}</span>`);
    return `<div class="lv-legend">${keys.join("")}</div>`;
  }

  function bars({ names, series, limits: [low, high], digits }) {
    const place = (value) => 100 * clamped((value - low) / (high - low));
    const rows = names.map((name, row) => {
      const values = series.map(([, numbers]) => numbers[row]);
      const drawn = values.map((value, n) => {
        const from = place(Math.min(value ?? 0, 0));
        const width = place(Math.max(value ?? 0, 0)) - from;
        return `<i style="margin-left:${fixed(from, 2)}%;width:${fixed(width, 2)}%;background:${hue(n)}"></i>`;
      });
      return (
        `<span class="lv-name">${safe(name)}</span>` +
        `<span class="lv-track" style="--zero:${fixed(place(0), 2)}%">${drawn.join("")}</span>` +
        `<span class="lv-number">${values.map((value) => words(value, digits)).join("  ")}</span>`
      );
    });
    return `${legend(series.map(([name]) => name))}<div class="lv-bars">${rows.join("")}</div>`;
  }

  function share(value, [low, high], logarithmic) {
    return logarithmic ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  }

  function lines({ x, series, xlim, ylim, xlog, ylog, xticks, yticks, xlabel, ylabel }) {
    const across = (value) => 100 * share(value, xlim, xlog);
    const down = (value) => 100 - 100 * share(value, ylim, ylog);
    const grid = yticks.map(([at]) => `M0 ${fixed(down(at), 2)}H100`).join("");
    const paths = series.map(([, values, dotted], n) => {
      let path = "";
      let pen = "M";
      values.forEach((value, i) => {
        if (value === null) return (pen = "M");
        path += `${dotted ? "M" : pen}${fixed(across(x[i]), 2)} ${fixed(down(value), 2)}${dotted ? "h0" : ""}`;
        pen = "L";
      });
      return `<path class="${dotted ? "lv-dots" : "lv-line"}" style="stroke:${hue(n)}" d="${path}"></path>`;
    });
    const widest = yticks.reduce((most, [, name]) => (name.length > most.length ? name : most), "");
    const left = yticks.map(([at, name]) => `<b style="top:${fixed(down(at), 2)}%">${name}</b>`);
    const tilted = xticks.reduce((sum, [, name]) => sum + [...name].length + 2, 0) > 42 ? " lv-tilted" : "";
    const below = xticks.map(([at, name]) => `<b style="left:${fixed(across(at), 2)}%">${safe(name)}</b>`);
    return (
      `${legend(series.map(([name]) => name))}<div class="lv-lines">` +
      `<span class="lv-title">${safe(ylabel)}</span>` +
      `<div class="lv-scale" aria-hidden="true"><span>${widest}</span>${left.join("")}</div>` +
      `<div class="lv-area"><svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">` +
      `<path class="lv-grid" d="${grid}"></path>${paths.join("")}</svg></div>` +
      `<div class="lv-under${tilted}" aria-hidden="true">${below.join("")}</div>` +
      `<span class="lv-below">${safe(xlabel)}</span></div>`
    );
  }

  function heat({ rows, columns, cells, limits: [low, high], label, digits, texts }) {
    const cell = (value, r, c) => {
      if (value === null) return "<td></td>";
      const at = clamped((value - low) / (high - low));
      const mark = at > 0.62 ? ' class="lv-mid lv-high"' : at > 0.47 ? ' class="lv-mid"' : "";
      const inside = texts ? safe(texts[r][c]) : words(value, digits).replace("%", "");
      return `<td${mark} style="--v:${fixed(at, 3)}">${inside}</td>`;
    };
    const row = (r) => cells[r].map((value, c) => cell(value, r, c)).join("");
    const body = rows.map((name, r) => `<tr><th scope="row">${safe(name)}</th>${row(r)}</tr>`);
    const head = columns.map((name) => `<th scope="col">${safe(name)}</th>`);
    const longest = (names) => Math.max(0, ...names.map((name) => [...name].length));
    const count = columns.length;
    const kinds = ["lv-heat"]
      .concat(
        count * longest(columns) > 40 ? "lv-long" : [],
        count > WIDE ? "lv-wide" : [],
        count > MANY ? "lv-many" : [],
        texts ? "lv-said" : [],
      )
      .join(" ");
    return (
      `<table class="${kinds}" style="--columns:${count};--names:${Math.min(longest(rows), 14) + 1}ch">` +
      `<caption>${safe(label)}</caption><colgroup><col>${"<col>".repeat(count)}</colgroup>` +
      `<thead><tr><td></td>${head.join("")}</tr></thead><tbody>${body.join("")}</tbody></table>`
    );
  }

  function text({ tokens, values, limits: [low, high] }) {
    const spans = tokens.map((token, n) => {
      const at = clamped(((values[n] ?? 0) - low) / (high - low));
      return `<span${at > 0 ? ` style="--v:${fixed(at, 2)}"` : ""}>${safe(token)}</span>`;
    });
    return `<p class="lv-text">${spans.join("")}</p>`;
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the value under pointer, finger or keyboard

  /** A line of words below the picture, and a way to choose what it says. `at` survives when other numbers are drawn. */
  function readable(figure, picture, now) {
    const line = Object.assign(document.createElement("output"), { className: "lv-read" });
    let at = null;

    function readLine() {
      const { x, series, xlim, xlog, xlabel, digits, xticks } = now();
      const area = picture.querySelector(".lv-area");
      const mark = area.querySelector(".lv-mark") ?? area.appendChild(document.createElement("span"));
      mark.className = "lv-mark";
      mark.style.left = `${100 * share(x[at], xlim, xlog)}%`;
      const name = xticks.find(([place]) => place === x[at])?.[1] ?? Number(x[at].toPrecision(4)).toLocaleString("en");
      const values = series.map(([name, values]) => `${name && `${name} `}${words(values[at], digits)}`);
      line.textContent = `${xlabel}: ${name} → ${values.join(", ")}`;
    }

    function readCell() {
      const { rows, columns, cells, digits, told: said } = now();
      const [row, column] = at;
      picture.querySelector(".lv-chosen")?.classList.remove("lv-chosen");
      picture.querySelectorAll("tbody tr")[row].cells[column + 1].classList.add("lv-chosen");
      line.textContent = `${rows[row]}, ${columns[column]}: ${said?.[row][column] ?? words(cells[row][column], digits)}`;
    }

    function readToken() {
      const { tokens, values, digits } = now();
      const spans = picture.querySelector(".lv-text").children;
      picture.querySelector(".lv-chosen")?.classList.remove("lv-chosen");
      spans[at].classList.add("lv-chosen");
      line.textContent = `“${tokens[at].trim()}”: ${words(values[at], digits)}`;
    }

    function choose(event) {
      const { kind, x, xlim, xlog } = now();
      if (kind === "lines") {
        const { left, width } = picture.querySelector(".lv-area").getBoundingClientRect();
        const place = (event.clientX - left) / width;
        const far = (i) => Math.abs(share(x[i], xlim, xlog) - place);
        at = x.reduce((best, _, i) => (far(i) < far(best) ? i : best), 0);
      } else if (kind === "text") {
        const token = event.target.closest(".lv-text span");
        if (!token) return;
        at = [...token.parentElement.children].indexOf(token);
      } else {
        const cell = event.target.closest("tbody td");
        if (!cell) return;
        at = [cell.parentElement.sectionRowIndex, cell.cellIndex - 1];
      }
      read();
    }

    function step(event) {
      const way = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!way || event.target !== picture) return;
      event.preventDefault();
      const { kind, x, rows, columns, tokens } = now();
      const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
      if (kind === "text") at = at === null ? 0 : within(at + way[1], tokens.length);
      else if (kind === "lines") at = at === null ? 0 : within(at + way[1] - way[0], x.length);
      else at = at === null ? [0, 0] : [within(at[0] + way[0], rows.length), within(at[1] + way[1], columns.length)];
      read();
    }

    function read() {
      const { kind, x, rows, columns, tokens } = now();
      if (at === null || kind === "bars") return;
      if (kind === "text" && at < tokens.length) readToken();
      if (kind === "lines" && at < x.length) readLine();
      if (kind === "heat" && at[0] < rows.length && at[1] < columns.length) readCell();
    }

    if (now().kind !== "bars") {
      picture.after(line);
      line.setAttribute("aria-live", "polite");
      picture.tabIndex = 0;
      for (const kind of ["pointermove", "pointerdown"]) picture.addEventListener(kind, choose);
      picture.addEventListener("keydown", step);
      line.textContent = "\u00a0"; // its line is kept free
    }
    return read;
  }

  // -------------------------------------------------------------------------------------------------------------------
  // controls

  const DRAWINGS = { bars, lines, heat, text };

  /** A text of packed frames: its pieces, each stored once. */
  const unpack = ({ pieces }, frame) => frame.map((i) => pieces[i]).join("");

  /** What a frame shows: the base, but for what the frame has of its own. */
  function whole({ base }, frame) {
    const series = frame.series?.map((one, n) => one ?? base.series[n]);
    return { ...base, ...frame, ...(series && { series }) };
  }

  function bringToLife(figure) {
    const told = JSON.parse(figure.querySelector(':scope > script[type="application/json"]').textContent);
    const picture = figure.querySelector(".lv-picture");
    const caption = figure.querySelector("figcaption");
    const controls = figure.querySelector(".lv-controls");
    const moving = "frames" in told;
    let now = moving ? whole(told, told.frames[told.start]) : told;
    const read = moving && told.pieces ? () => {} : readable(figure, picture, () => now);
    if (!moving) return;

    const inputs = [...controls.querySelectorAll("input, select")];
    const at = (input) => (input.type === "checkbox" ? Number(input.checked) : Number(input.value));
    const count = (input) => (input.type === "checkbox" ? 2 : (input.options?.length ?? Number(input.max) + 1));

    function show() {
      const frame = told.frames[inputs.reduce((place, input) => place * count(input) + at(input), 0)];
      now = whole(told, frame);
      picture.innerHTML = told.pieces ? unpack(told, now.picture) : DRAWINGS[now.kind](now);
      picture.setAttribute("aria-label", now.alt);
      caption.textContent = now.caption;
      caption.hidden = !now.caption;
      read();
    }

    for (const input of inputs) {
      const value = input.parentElement.querySelector(".lv-value");
      const say = () => {
        if (!value) return;
        value.textContent = input.dataset.values.split("|")[at(input)];
        input.setAttribute("aria-valuetext", value.textContent);
      };
      input.addEventListener("input", () => {
        say();
        show();
      });
      say();
    }
    caption.setAttribute("aria-live", "polite");
    controls.hidden = false;
  }

  globalThis.rwkvLive = { bars, lines, heat, text };
  addEventListener("DOMContentLoaded", () =>
    document.querySelectorAll(".rwkv-live:not(.rwkv-buckets, .rwkv-words)").forEach(bringToLife),
  );
})();
