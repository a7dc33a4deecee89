// Everything that the playground draws. Numbers and labels in, elements out. Colors are the book's: hues by their names
// in the style sheet, heat maps by the manifest's ramps, since pixels know no style sheet.

(function (playground) {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const { ramps, hues } = playground.manifest;
  const hue = (i) => `var(--rwkv-hue-${1 + (i % hues)})`;

  /** An element: attributes by name, functions as listeners, children as text or elements. */
  playground.element = function (tag, attributes = {}, ...children) {
    const made = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") made.addEventListener(name, value);
      else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  };
  const element = playground.element;

  const inBytes = (sign) => playground.inHex(new TextEncoder().encode(sign));

  /** A token as it is shown: its spaces and line ends visible, and what is not to be seen as bytes. */
  playground.visible = (text) =>
    text
      .replace(/[^\P{C}\n\t\r]|[^\P{Z} ]/gu, inBytes)
      .replace(/^ | $/g, "·")
      .replace(/ /g, "\u00a0")
      .replace(/\n/g, "↵")
      .replace(/\t/g, "⇥")
      .replace(/\r/g, "␍");

  playground.percent = (p) =>
    p >= 0.9995
      ? "100%"
      : p >= 0.0995
        ? `${(100 * p).toFixed(0)}%`
        : p >= 0.001
          ? `${(100 * p).toFixed(1)}%`
          : p
            ? "< 0.1%"
            : "0%";
  playground.fixed = (x, digits) => x.toFixed(digits).replace("-", "−");
  playground.short = (x) =>
    Math.abs(x) >= 1000
      ? Math.round(x).toLocaleString("en")
      : Math.abs(x) >= 10
        ? playground.fixed(x, 0)
        : playground.fixed(x, Math.abs(x) >= 1 ? 1 : 2);

  /** The color between nothing (0) and all (1), as red, green, blue. */
  function heat(share) {
    const ramp = ramps[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];
    const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
    const i = Math.min(Math.floor(place), ramp.length - 2);
    const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    const [from, to] = [channels(ramp[i]), channels(ramp[i + 1])];
    return from.map((value, c) => Math.round(value + (place - i) * (to[c] - value)));
  }

  /** Ink that can be read on that color: black or white, whichever stands out more. */
  function inkOn([red, green, blue]) {
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) > 0.18 ? "#000000" : "#ffffff";
  }

  /** A table: a header for each column, rows of text or elements; the first cell of a row is its header. */
  playground.table = (caption, columns, rows, style = "") =>
    element(
      "table",
      { class: `pg-table ${style}` },
      element("caption", {}, caption),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          columns.map((name) => (name ? element("th", { scope: "col" }, name) : element("td"))),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map(([first, ...rest]) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, first),
            rest.map((cell) => element("td", {}, cell)),
          ),
        ),
      ),
    );

  /** A bar as long as a share, and a paler one behind it. */
  playground.bar = (share, behind = 0) =>
    element(
      "span",
      { class: "pg-bar", "aria-hidden": "true" },
      element("span", { class: "pg-bar-behind", style: `width:${100 * behind}%` }),
      element("span", { class: "pg-bar-front", style: `width:${100 * share}%` }),
    );

  /** A table whose cells are colored by their numbers, from 0 to 1. */
  playground.heatTable = function (caption, columns, rows) {
    const made = playground.table(
      caption,
      columns,
      rows.map(([name, values]) => [name, ...values.map((value) => (100 * value).toFixed(0))]),
      "pg-heat-table",
    );
    made.querySelectorAll("tbody tr").forEach((row, r) =>
      row.querySelectorAll("td").forEach((cell, c) => {
        const color = heat(rows[r][1][c]);
        cell.style.backgroundColor = `rgb(${color})`;
        cell.style.color = inkOn(color);
      }),
    );
    return made;
  };

  /** One pixel a number, rows from the top; the square root spreads the small ones. Rows are named by the caller. */
  playground.paintHeat = function (canvas, rows) {
    canvas.width = rows[0].length;
    canvas.height = rows.length;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    image.data.set(rows.flat().flatMap((value) => [...heat(Math.sqrt(value)), 255]));
    context.putImageData(image, 0, 0);
  };

  /** What the colors of `paintHeat` mean. */
  playground.heatLegend = () =>
    element(
      "p",
      { class: "pg-legend" },
      [0, 0.05, 0.2, 0.5, 1].map((share) =>
        element("span", {}, element("i", { style: `background:rgb(${heat(Math.sqrt(share))})` }), `${100 * share}%`),
      ),
    );

  // -------------------------------------------------------------------------------------------------------------------
  // charts

  /** The frame of a chart: an SVG as wide as its place, and the scales of both axes. */
  function frame(place, height, label, { left = 40, right = 8, top = 10, bottom = 26 } = {}) {
    const width = Math.max(place.clientWidth, 240);
    const svg = element(
      "svg:svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      element("svg:title", {}, label),
    );
    const x = (share) => left + share * (width - left - right);
    const y = (share) => height - bottom - share * (height - top - bottom);
    queueMicrotask(() => place.replaceChildren(svg)); // once it is drawn: scripts that watch the page look at each change
    return { svg, x, y, width, height };
  }

  const line = (x1, y1, x2, y2, style) => element("svg:line", { x1, y1, x2, y2, class: style });
  const words = (x, y, text, anchor = "middle", style = "") =>
    element("svg:text", { x, y, "text-anchor": anchor, class: style }, text);

  const shortened = (text) => (text.length > 10 ? `${text.slice(0, 9)}…` : text);

  /** A path through points. */
  const path = (points, attributes) =>
    element("svg:path", {
      d: points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join(""),
      fill: "none",
      ...attributes,
    });

  /**
   * One channel through time. Above: the value that each token wrote, and the average that the memory then held. Below:
   * the weight that each token has left, stacked, in its own color, so that one can be followed while it fades.
   */
  playground.drawChannel = function (place, history, tokens, at, label) {
    const step = 1 / history.length;
    const named = Math.ceil(26 / (place.clientWidth * step)); // where it is narrow, only some tokens have their names
    const { svg, x, y, height } = frame(place, 310, label, { top: 26, bottom: 62 });
    const values = history.flatMap(({ value, average }) => [value, average]);
    const [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
    const upper = (value) => 0.62 + 0.36 * ((value - low) / (high - low || 1));
    const most = Math.max(...history.map(({ sum }) => sum)) || 1;
    const lower = (weight) => (0.5 * weight) / most;
    svg.append(
      element("svg:rect", { x: x(at * step), y: y(1), width: x(step) - x(0), height: y(0) - y(1), class: "pg-now" }),
    );
    svg.append(line(x(0), y(upper(0)), x(1), y(upper(0)), "pg-grid"), line(x(0), y(0), x(1), y(0), "pg-axis"));
    svg.append(
      words(x(0) - 6, y(upper(0)) + 4, "0", "end"),
      element(
        "svg:text",
        { x: x(0), y: y(1) - 10, class: "pg-name" },
        "value written ",
        element("svg:tspan", { style: `fill: ${hue(1)}` }, "●"),
        ", average held ",
        element("svg:tspan", { style: `fill: ${hue(0)}` }, "—"),
      ),
      words(x(0) - 6, y(lower(most)) + 4, playground.short(most), "end"),
      words(x(0) - 6, y(0) + 4, "0", "end"),
      words(x(0), y(0.55) + 2, "weight left in memory, one color per token", "start", "pg-name"),
    );
    const middle = (t) => x((t + 0.5) * step);
    svg.append(
      path(
        history.map(({ average }, t) => [middle(t), y(upper(average))]),
        { style: `stroke: ${hue(0)}; stroke-width: 2` },
      ),
    );
    history.forEach(({ value, weights }, t) => {
      svg.append(element("svg:circle", { cx: middle(t), cy: y(upper(value)), r: 3.5, style: `fill: ${hue(1)}` }));
      let sum = 0;
      weights.forEach((weight, j) => {
        const [from, to] = [lower(sum), lower(sum + weight)];
        sum += weight;
        if (y(from) - y(to) < 0.2) return;
        svg.append(
          element("svg:rect", {
            x: x(t * step) + 1,
            y: y(to),
            width: Math.max(x(step) - x(0) - 2, 1),
            height: y(from) - y(to),
            style: `fill: ${hue(j)}`,
            class: "pg-weight",
          }),
        );
      });
      if (t === at || t % named === 0) {
        const spot = `translate(${middle(t) + 3} ${height - 48}) rotate(-40)`;
        svg.append(
          element(
            "svg:text",
            { transform: spot, "text-anchor": "end", class: t === at ? "pg-strong" : "" },
            shortened(playground.visible(tokens[t])),
          ),
        );
      }
    });
  };

  /** Half-lives of all layers, each layer's channels in order; one layer and one channel stand out. */
  playground.drawDecays = function (place, halfLives, layer, rank, label) {
    const { svg, x, y, width } = frame(place, 240, label, { left: 48, bottom: 34 });
    const up = (tokens) => (Math.log10(Math.min(Math.max(tokens, 0.01), 1000)) + 2) / 5; // from 0.01 to 1,000
    const points = (lives) => Array.from(lives, (tokens, r) => [x(r / (lives.length - 1)), y(up(tokens))]);
    for (const tokens of [0.01, 0.1, 1, 10, 100, 1000]) {
      svg.append(
        line(x(0), y(up(tokens)), x(1), y(up(tokens)), "pg-grid"),
        words(x(0) - 6, y(up(tokens)) + 4, tokens.toLocaleString("en"), "end"),
      );
    }
    svg.append(
      words(
        x(0.5),
        y(0) + 24,
        width < 420 ? "channels, quick to slow" : "the layer's channels, from quick to slow to forget",
      ),
    );
    const others = halfLives.filter((_, i) => i !== layer);
    svg.append(...others.map((lives) => path(points(lives), { class: "pg-other" })));
    const own = points(halfLives[layer]);
    svg.append(path(own, { style: `stroke: ${hue(0)}; stroke-width: 3` }));
    svg.append(element("svg:circle", { cx: own[rank][0], cy: own[rank][1], r: 5, style: `fill: ${hue(1)}` }));
  };
})((globalThis.rwkvPlayground ??= {}));
