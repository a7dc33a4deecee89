// The memory at the beginning of "Attention and memory" (rwkv_explainer/chapters/attention_and_memory/figures.py): four
// tokens whose weights and values can be dragged. `picture` and `caption` make what `Buckets` makes.
(function () {
  "use strict";

  const fixed = (value, digits) => value.toFixed(digits);
  const rounded = (value) => fixed(value, 2).replace(/\.?0+$/, "");
  const sum = (parts) => parts.reduce((total, part) => total + part, 0);
  const hue = (token) => `var(--rwkv-hue-${token + 1})`;

  /** Each token's part of contents and of normalizer as one token reads them. The newest past one has not faded yet. */
  function at({ weights, values, kept }, token) {
    const left = weights.slice(0, token + 1).map((weight, j) => weight * kept ** Math.max(token - 1 - j, 0));
    return [left.map((weight, j) => weight * values[j]), left];
  }

  function height(memory, n) {
    const highest = Math.max(...memory.values.map((_, token) => sum(at(memory, token)[n])));
    let limit = 8;
    while (limit < highest) limit *= 2;
    return limit;
  }

  function bucket(name, parts, limit) {
    const layers = parts.map(
      (part, token) => `<i style="height:${fixed((100 * part) / limit, 2)}%;background:${hue(token)}"></i>`,
    );
    const filled = layers.reverse().join("");
    const past = `${rounded(sum(parts.slice(0, -1)))} + ${rounded(parts.at(-1))}`;
    return `<div><b>${past}</b><div class="bk-bucket">${filled}</div><small>${name}</small></div>`;
  }

  function column(memory, token, limits) {
    const [contents, weights] = at(memory, token);
    const read = sum(weights) ? rounded(sum(contents) / sum(weights)) : "–";
    const later = (token >= memory.chosen ? " bk-later" : "") + (token + 1 === memory.chosen ? " bk-chosen" : "");
    const own = `${rounded(memory.weights[token])} × ${rounded(memory.values[token])}`;
    return (
      `<div class="bk-token${later}"><div class="bk-pair">${bucket("contents", contents, limits[0])}` +
      `${bucket("normalizer", weights, limits[1])}</div>` +
      `<span><i style="background:${hue(token)}"></i>token ${token + 1}</span><span>${own}</span>` +
      `<span>reads <b>${read}</b></span></div>`
    );
  }

  function picture(memory) {
    const limits = [height(memory, 0), height(memory, 1)];
    return `<div class="bk-row">${memory.values.map((_, token) => column(memory, token, limits)).join("")}</div>`;
  }

  function caption(memory) {
    const [contents, weights] = at(memory, memory.chosen - 1);
    if (!sum(weights)) return `Token ${memory.chosen} reads nothing yet: no token so far has a weight.`;
    const [past, own] = [(parts) => rounded(sum(parts.slice(0, -1))), (parts) => rounded(parts.at(-1))];
    return (
      `Token ${memory.chosen} reads (${past(contents)} + ${own(contents)}) / (${past(weights)} + ${own(weights)}) = ` +
      `${rounded(sum(contents) / sum(weights))}: what the past has left and what the token brings, contents over ` +
      `normalizer. The first token still has a share of ${fixed((100 * weights[0]) / sum(weights), 0)}% in it.`
    );
  }

  function bringToLife(figure) {
    const memory = JSON.parse(figure.querySelector(':scope > script[type="application/json"]').textContent);
    memory.chosen = 1; // the reader goes on from the first token; without this script all four are drawn
    const controls = figure.querySelector(".lv-controls");
    const inputs = Object.fromEntries([...controls.querySelectorAll("input")].map((input) => [input.name, input]));

    function show() {
      const token = memory.chosen - 1;
      const now = { chosen: token + 1, weight: memory.weights[token], value: memory.values[token], kept: memory.kept };
      for (const [name, input] of Object.entries(inputs)) {
        input.value = now[name];
        input.parentElement.querySelector(".lv-value").textContent = rounded(now[name]);
      }
      figure.querySelector(".lv-picture").innerHTML = picture(memory);
      figure.querySelector("figcaption").textContent = caption(memory);
    }

    controls.addEventListener("input", ({ target }) => {
      const value = Number(target.value);
      if (target.name === "weight") memory.weights[memory.chosen - 1] = value;
      else if (target.name === "value") memory.values[memory.chosen - 1] = value;
      else memory[target.name] = value;
      show();
    });
    figure.querySelector("figcaption").setAttribute("aria-live", "polite");
    show();
    controls.hidden = false;
  }

  globalThis.rwkvBuckets = { picture, caption };
  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".rwkv-buckets").forEach(bringToLife));
})();
