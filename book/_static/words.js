// The map of words at the beginning of "Embedding and unembedding"
// (rwkv_explainer/chapters/embedding_and_unembedding/figures.py): point at a word, or type one, and its neighbors show.
// `caption` makes what `WordMap.caption` makes.
(function () {
  "use strict";

  /** The places in `names`, with their cosines, of the tokens nearest to the one at a place. */
  function nearest({ near, cosines, each }, place) {
    const found = [...Array(each).keys()].map((n) => place * each + n);
    return found.map((n) => [near[n], (cosines[n] / 100).toFixed(2)]);
  }

  function caption(map, place) {
    const found = nearest(map, place).map(([n, cosine]) => `${map.names[n]} ${cosine}`);
    return (
      `Of ${map.vocabulary} tokens, these have the directions closest to that of ${map.names[place]}, each with its ` +
      `cosine: ${found.join(", ")}. In a shuffled table, the closest has about ${map.chance}.`
    );
  }

  function bringToLife(figure) {
    const map = JSON.parse(figure.querySelector(':scope > script[type="application/json"]').textContent);
    const words = [...figure.querySelectorAll(".wm-map span")];
    const told = figure.querySelector("figcaption");
    const controls = figure.querySelector(".lv-controls");
    const [input, said] = [controls.querySelector("input"), controls.querySelector(".wm-said")];
    const asked = map.near.length / map.each;
    const placeOf = new Map(map.names.slice(0, asked).map((name, place) => [name.replace(/^·/, ""), place]));

    function choose(place) {
      const near = new Set(nearest(map, place).map(([n]) => n));
      words.forEach((word, n) => (word.className = n === place ? "wm-chosen" : near.has(n) ? "wm-near" : ""));
      told.textContent = caption(map, place);
    }

    for (const kind of ["pointerover", "pointerdown"])
      figure.querySelector(".wm-map").addEventListener(kind, ({ target }) => {
        const place = words.indexOf(target);
        if (place < 0) return;
        choose(place);
        input.value = said.textContent = "";
      });
    input.addEventListener("input", () => {
      const word = input.value.trim().replace(/^·/, "");
      const small = word.toLowerCase();
      const place = [word, small, small.replace(/^./, (first) => first.toUpperCase())]
        .map((w) => placeOf.get(w))
        .find((n) => n >= 0);
      if (place !== undefined) choose(place);
      said.textContent =
        word && place === undefined ? `not among the ${asked.toLocaleString("en")} words of this figure` : "";
    });
    told.setAttribute("aria-live", "polite");
    controls.hidden = false;
  }

  globalThis.rwkvWords = { caption };
  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".rwkv-words").forEach(bringToLife));
})();
