// The playground: a panel for each thing that one can look at, and what they share. Whatever is drawn comes from a run
// of the model: one that was worked out when the book was built, with the same weights, or one of this browser's own.
// A chapter's figure is the same with fewer panels. The model itself is loaded when a text asks for it that was not
// worked out beforehand. On the playground's own page it can also be a checkpoint from the reader's disk.

(function (playground) {
  "use strict";

  const { manifest, element, visible, percent, short, table } = playground;
  const root = document.querySelector(".rwkv-playground[data-folder]");
  if (!root || !manifest) return;

  const MOST_TOKENS = 400;
  const MOST_TRACED = 48;
  const ROWS = 16; // of the memory's map
  const DRAWS = [1, 3, 10];
  const RESTORES = [
    ["both", "activation and state"],
    ["activation", "activation"],
    ["state", "state"],
    ["memory", "state: memory alone"],
    ["mixers", "state: mixers alone"],
    ["attention", "attention's update"],
    ["mlp", "the MLP's update"],
  ];

  const figure = "panels" in root.dataset; // in a chapter, not the playground itself
  const texts =
    figure && manifest.whole ? root.dataset.texts.split(" | ") : manifest.examples.map((example) => example.text);

  // the model that speaks: its sizes, and for each layer how fast its channels fade, their order from quick to slow
  let sizes, layers, channels, rates, orders, halfLives, noiseScale;
  const bookRates = splitRows(floats(manifest.rates), manifest.sizes.channels);
  function present(itsSizes, itsRates, itsNoiseScale) {
    [sizes, rates, noiseScale] = [itsSizes, itsRates, itsNoiseScale];
    ({ layers, channels } = sizes);
    orders = rates.map((rate) => Array.from(rate.keys()).sort((a, b) => rate[b] - rate[a]));
    halfLives = rates.map((rate, i) => orders[i].map((c) => Math.LN2 / rate[c]));
    chosen.layer = Math.min(chosen.layer, layers - 1);
    chosen.rank = Math.min(chosen.rank, channels - 1);
  }

  // what the reader has chosen; `at` is the moment, `rank` the channel's place among its layer's, quick ones first
  const chosen = {
    at: 0,
    layer: (root.dataset.layer ?? 4) - 1,
    rank: 0,
    temperature: 1,
    topP: 1,
    seed: 1,
    restore: "both",
    draws: manifest.trace.samples,
    subject: [0, 0],
  };
  present(manifest.sizes, bookRates, manifest.noiseScale);
  // the page may name a channel by its place among the layer's, or, from 0, by its index in the model's tensors
  const { channel, channelIndex } = root.dataset;
  chosen.rank =
    channelIndex === undefined
      ? (channel ?? channels / 2 + 1) - 1
      : Math.max(0, orders[chosen.layer].indexOf(Number(channelIndex)));
  let run = null; // {text, prompt: number of its tokens that are left, whole: of all of them, moments, trace}
  let model = null;
  let tokenizer = null;
  let opened = null; // the name of the reader's own checkpoint, while that is the model
  let busy = false; // or what is being done: "read", "write", "trace", "open"
  let halt = new AbortController(); // what is being done ends with it, for all who work on it
  let coming = null; // a room for the book's weights, and its files that came or are on their way
  const moment = () => run.moments[chosen.at];
  const live = () => Boolean(model && run && moment().probabilities);

  function floats(text) {
    return new Float32Array(playground.fromBase64(text).buffer);
  }

  function splitRows(numbers, width) {
    return Array.from({ length: numbers.length / width }, (_, i) => numbers.subarray(i * width, (i + 1) * width));
  }

  // -------------------------------------------------------------------------------------------------------------------
  // changes

  const drawings = []; // what is drawn anew after every change: {draw, and its place on the page if it takes long}
  const gates = []; // what says of a control whether it can be used now

  let frame = 0;
  /** While the model works, what is in view is drawn once a frame; the rest when it is done. */
  function changed() {
    clearTimeout(resting);
    chosen.subject = chosen.subject.map((t) => Math.min(t, chosen.at));
    if (busy) frame ||= requestAnimationFrame(drawInView);
    else drawAll();
    enable();
    if (!busy) keepInAddress(); // a browser takes some milliseconds for it
  }

  function drawAll() {
    cancelAnimationFrame(frame);
    frame = 0;
    for (const { draw } of drawings) draw();
  }

  function drawInView() {
    frame = 0;
    const seen = drawings.filter(({ place }) => {
      const box = place?.getBoundingClientRect();
      return !box || (box.bottom > 0 && box.top < innerHeight);
    });
    for (const { draw } of seen) draw();
  }

  /** Draw this after every change. */
  function follow(draw, place) {
    drawings.push({ draw, place });
  }

  function enable() {
    for (const gate of gates) gate();
  }

  function choose(choice) {
    Object.assign(chosen, choice);
    changed();
  }

  let resting = 0;
  /** A slider is quicker than all can be drawn: what is in view follows it, the rest is drawn when it rests. */
  function slide(choice) {
    Object.assign(chosen, choice);
    frame ||= requestAnimationFrame(drawInView);
    clearTimeout(resting);
    resting = setTimeout(changed, 200);
  }

  /** Put words where a screen reader listens, once. */
  function tell(place, words) {
    if (place.textContent !== words) place.textContent = words;
  }

  // -------------------------------------------------------------------------------------------------------------------
  // controls

  const button = (words, click, attributes) => element("button", { type: "button", click, ...attributes }, words);
  const row = (...children) => element("div", { class: "pg-row" }, ...children);

  const whereItIs = manifest.whole
    ? ": it is loaded when you read a text."
    : ", and this copy of the book came without it.";
  const needs = element(
    "p",
    { id: "pg-needs", class: "pg-quiet" },
    `Most dashed or pale controls need the model${whereItIs}`,
  );
  gates.push(() => (needs.hidden = Boolean(model)));
  const whyNot = () => (model ? "" : needs.textContent);

  /** A control that cannot be used now keeps its place among the others, for it says why. */
  function allow(control, yes, why) {
    const droppable = control.type === "file"; // it would show a file that was dropped on it
    if (droppable) control.disabled = !yes;
    else control.setAttribute("aria-disabled", !yes);
    control.title = yes ? "" : why;
    if (!yes && why === needs.textContent) control.setAttribute("aria-describedby", needs.id);
    else control.removeAttribute("aria-describedby");
    return control;
  }

  function usable(control, when, why = whyNot) {
    gates.push(() => allow(control, when(), busy ? "" : why()));
    return control;
  }

  /** Whatever is done to a control that cannot be used changes nothing, and the status line says why. */
  function refuse(event) {
    const control = event.target.closest("[aria-disabled=true]");
    if (!control || (event.type === "keydown" && !(control.tagName === "SELECT" && /^(Arrow|Enter| )/.test(event.key))))
      return; // keys open a list; all others are for the page
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.type === "mousedown") control.focus();
    else if (run && /input|change/.test(event.type)) drawAll(); // a slider goes back to its place
    if (control.title) say(control.title);
  }
  for (const kind of ["mousedown", "pointerup", "click", "keydown", "input", "change"])
    root.addEventListener(kind, refuse, true);

  /** A button for something that takes long. It is also there to stop it. */
  function stoppable(what, words, action, when, why) {
    const made = button(words, () => (busy ? halt.abort() : action()));
    gates.push(() => (made.textContent = busy === what ? "Stop" : words));
    return usable(made, () => busy === what || (!busy && when()), why);
  }

  /** `high` is a number, or a function that gives it. */
  function slider(name, label, low, high, step, show, when = () => true) {
    const told = element("span");
    const input = element("input", {
      type: "range",
      min: low,
      step,
      input: () => slide({ [name]: Number(input.value) }),
    });
    follow(() => {
      input.max = typeof high === "function" ? high() : high;
      input.value = chosen[name];
      told.textContent = show(chosen[name]);
      input.setAttribute("aria-valuetext", told.textContent);
    });
    return element("label", {}, `${label}: `, told, usable(input, when));
  }

  /** One of a list. `options` gives the value and the words of each, `current` the chosen value. */
  function select(label, options, current, pick, attributes) {
    const made = element("select", { change: () => pick(made.value), ...attributes });
    follow(() => {
      made.replaceChildren(...options().map(([value, words]) => element("option", { value }, words)));
      made.value = current();
    });
    return element(
      "label",
      {},
      `${label} `,
      usable(made, () => live() && !busy),
    );
  }

  /**
   * One of several chips. `names`: words, style and value of each, in the values' order; until these change, the chips
   * stay, with the focus. A chip is chosen from the value after the one before it up to its own.
   */
  function chips(legend, name, names, attributes) {
    const place = element("fieldset", attributes);
    const chip = ([words, style, value]) =>
      element(
        "label",
        { class: `pg-chip ${style}` },
        element("input", { type: "radio", name: legend, value, change: () => choose({ [name]: value }) }),
        element("span", {}, words),
      );
    let shown = "";
    follow(() => {
      const now = names();
      const known = shown === JSON.stringify(now);
      shown = JSON.stringify(now);
      if (!known) place.replaceChildren(element("legend", {}, legend), ...now.map(chip));
      const at = now.findIndex(([, , value]) => value >= chosen[name]);
      place.querySelectorAll("input").forEach((input, i) => (input.checked = i === at));
      if (!known && at === now.length - 1) place.scrollTop = place.scrollHeight;
    });
    return place;
  }

  const placed = new Set();
  /** A control that several panels need: it stands in the first of them that is shown. */
  function once(name, make) {
    if (placed.has(name)) return null;
    placed.add(name);
    return make();
  }

  /** The same channel by its index in the model's tensors, as chapters name it. */
  function channelIndexField() {
    const input = element("input", {
      type: "number",
      min: 0,
      change: () => choose({ rank: Math.max(0, orders[chosen.layer].indexOf(Math.trunc(Number(input.value)))) }),
    });
    follow(() => {
      input.max = channels - 1;
      input.value = orders[chosen.layer][chosen.rank];
    });
    return element("label", {}, "Channel’s index ", input);
  }

  const layerChips = () => once("layer", () => chips("Layer", "layer", () => rates.map((_, i) => [`${i + 1}`, "", i])));
  const channelSlider = () =>
    once("channel", () =>
      element(
        "div",
        { class: "pg-sliders" },
        slider(
          "rank",
          "Channel",
          0,
          () => channels - 1,
          1,
          (rank) => {
            const life = halfLives[chosen.layer][rank];
            const tokens = life === 1 ? "token" : "tokens";
            return `${rank + 1} of ${channels}, half is gone after ${short(life)} ${tokens}`;
          },
        ),
        channelIndexField(),
      ),
    );

  // -------------------------------------------------------------------------------------------------------------------
  // what panels are made of

  /** A part of the page. Without an explanation it needs no title that one sees, either. */
  function panel(title, explanation, ...children) {
    const words = explanation && [element("h3", {}, title), element("p", { class: "pg-quiet" }, explanation)];
    return element("section", { class: "pg-panel", "aria-label": title }, words, ...children);
  }

  /** A place that is filled after every change. If a button in it had the focus, the one that is now there gets it. */
  function filled(make) {
    const place = element("div", { class: "pg-scroll" });
    follow(() => {
      const i = [...place.querySelectorAll("button")].indexOf(document.activeElement);
      place.replaceChildren(make());
      if (i >= 0) place.querySelectorAll("button")[i]?.focus();
    }, place);
    return place;
  }

  /** A place for a chart, which is also drawn anew when the place changes its width. */
  function chart(draw) {
    const place = element("div");
    const drawn = () => run && draw(place);
    follow(drawn, place);
    new ResizeObserver(drawn).observe(place);
    return place;
  }

  /** A table behind a picture: made when it is opened. */
  function behind(name, make) {
    const place = element("div", {
      class: "pg-scroll",
      tabindex: 0,
      role: "region",
      "aria-label": `${name}, as a table`,
    });
    const hidden = element("span", { class: "visually-hidden" }, `: ${name}`); // for who hears three of these
    const fill = () => folded.open && run && place.replaceChildren(make());
    const folded = element("details", { toggle: fill }, element("summary", {}, "The same as a table", hidden), place);
    follow(fill, place);
    return folded;
  }

  /** The likeliest tokens, `best`: id, probability, words, and all others; `before`: before they were reshaped. */
  function choices(caption, column, best, before = best.map(([, p]) => p)) {
    const goOn = (id, words) => {
      const made = button(visible(words), () => busy || take(id));
      allow(made, live() && !busy, whyNot());
      if (live() && !busy) made.title = "Go on with this token";
      return made;
    };
    const rows = best.map(([id, p, words], i) => [goOn(id, words), playground.bar(p, before[i]), percent(p)]);
    const rest = [best.map(([, p]) => p), before].map((shares) => 1 - shares.reduce((a, b) => a + b, 0));
    const [now, then] = rest.map((share) => Math.max(0, share));
    rows.push(["all others", playground.bar(now, then), percent(now)]);
    return table(caption, ["token", "", column], rows, "pg-next");
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the panels

  const text = element("textarea", {
    id: "pg-text",
    rows: 2,
    spellcheck: "false",
    maxlength: 4000,
    keydown: (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // with Shift it breaks the line
      event.preventDefault();
      if (!busy && manifest.whole) readText();
    },
  });
  const progress = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress" });
  const status = element("p", { class: "pg-status", role: "status", tabindex: figure ? null : 0 }); // in the bar it scrolls
  const say = (words) => tell(status, words);
  const counted = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;

  function examplesRow(...more) {
    const examples = texts.map((words, i) => button(words, () => pickExample(words), { "data-example": i }));
    follow(() => examples.forEach((made, i) => made.setAttribute("aria-pressed", texts[i] === run.text)));
    return element("div", { class: "pg-row", role: "group", "aria-label": "Examples" }, examples, more);
  }

  function readButton() {
    const read = usable(
      button("", () => (busy ? halt.abort() : readText()), { class: "pg-main" }),
      () => (!busy || busy === "read") && manifest.whole,
    );
    const megabytes = Math.round(manifest.download / 1e6);
    const load = manifest.whole ? `Load the model (${megabytes} MB) and read` : "No model here";
    gates.push(() => (read.textContent = busy === "read" ? "Stop" : model ? "Read" : load));
    return read;
  }

  /** In a figure the text is a panel. */
  const textPanel = () =>
    panel(
      "A text for the model",
      null,
      examplesRow(),
      element("label", { class: "pg-label", for: "pg-text" }, "Text"),
      text,
      row(readButton(), needs),
      progress,
      status,
    );

  /** A chip for each token. Tokens that share a character share a chip: it stands for the moment after the last. */
  function tokenChips() {
    const pieces = () => {
      const made = [];
      let begun = null; // what a piece says whose last character is not whole yet
      for (const [t, m] of run.moments.entries()) {
        if (begun !== null) made.pop();
        made.push([visible((begun ?? "") + m.name), t < run.prompt ? "" : "pg-wrote", t]);
        begun = m.name === m.text ? null : (begun ?? "") + m.text;
      }
      return made;
    };
    return chips("Moment", "at", pieces, { class: "pg-tokens" });
  }

  const tokensPanel = () => panel("Token by token", null, tokenChips());

  /** On the playground's own page a bar stays in view: the text, its tokens, and what the model writes. */
  function bench() {
    return element(
      "section",
      { class: "pg-bench", "aria-label": "Text, tokens, and what the model writes" },
      element(
        "div",
        { class: "pg-typing" },
        element("label", { class: "pg-label", for: "pg-text" }, "Text"),
        text,
        readButton(),
      ),
      element(
        "div",
        { class: "pg-reading" },
        tokenChips(),
        row(
          usable(
            button("Write a token", () => writeTokens(1)),
            () => live() && !busy,
          ),
          stoppable("write", "Write twenty", () => writeTokens(20), live),
          usable(
            button("Take one back", takeBack),
            () => live() && !busy && run.moments.length > run.prompt,
            () => whyNot() || "Nothing was written yet",
          ),
          needs,
        ),
        progress,
        status,
      ),
    );
  }

  /** Copies the address. Where the browser refuses that, the address stands there to be copied by hand. */
  function copyButton() {
    const field = element("input", { type: "text", readonly: true, class: "pg-link", "aria-label": "The link" });
    async function copy() {
      keepInAddress();
      try {
        await navigator.clipboard.writeText(location.href);
        field.remove();
        say("The link is copied. It opens this text with all that you chose.");
      } catch {
        field.value = location.href;
        made.after(field);
        field.focus();
        field.select();
        say("The browser did not let this page copy. Here is the link: copy it by hand.");
      }
    }
    const made = button("Copy the link", copy);
    return usable(
      made,
      () => run && !busy && !opened,
      () => (opened ? "A file on your disk has no link" : ""),
    );
  }

  const benchWords = () =>
    element(
      "p",
      { class: "pg-quiet" },
      `Pick an example${manifest.whole ? ", or type a text and press Enter" : ""}. All pictures show the moment right ` +
        "after the chosen token; what was written after the text is underlined. Nothing that you type leaves this page.",
    );

  /** As the page was at first. The model stays where it is. */
  function startOver() {
    if (busy) return;
    Object.assign(chosen, atFirst);
    present(sizes, rates, noiseScale);
    pickExample(texts[0]);
  }

  function nextPanel() {
    const seed = element("input", {
      type: "number",
      min: 0,
      max: 999999,
      change: () => choose({ seed: Math.abs(Math.trunc(Number(seed.value))) || 0 }),
    });
    follow(() => (seed.value = chosen.seed));
    return panel(
      "What comes next",
      "How probable each next token is at this moment. Temperature and top-p change the odds before a token is " +
        "drawn: the pale bar is before, the strong one after.",
      filled(() => {
        const { next, probabilities, name } = moment();
        const best = next.slice(0, 8);
        const odds = live() ? playground.reshape(probabilities, chosen.temperature, chosen.topP) : null;
        return choices(
          `The likeliest tokens after “${visible(name)}”`,
          odds && (chosen.temperature !== 1 || chosen.topP < 1) ? "changed probability" : "probability",
          best.map(([id, p, words]) => [id, odds ? odds[id] : p, words]),
          best.map(([, p]) => p),
        );
      }),
      element(
        "div",
        { class: "pg-sliders" },
        slider("temperature", "Temperature", 0, 2, 0.1, (x) => (x ? x.toFixed(1) : "0, always the likeliest"), live),
        slider("topP", "Top-p", 0.05, 1, 0.05, (p) => (p < 1 ? p.toFixed(2) : "1, all tokens"), live),
      ),
      row(
        element(
          "label",
          {},
          "Seed ",
          usable(seed, () => live() && !busy),
        ),
        usable(
          button("⚄ Roll another", () => choose({ seed: Math.floor(1000000 * Math.random()) })),
          () => live() && !busy,
        ),
      ),
    );
  }

  /** For each layer, the embedding before the first one, the tokens that it would have said at this moment. */
  function lens() {
    const m = moment();
    m.lens ??= playground.lens(model, m.streams).map((p) => withNames(playground.best(p, 5), m.waiting));
    return m.lens;
  }

  const lensPanel = () =>
    panel(
      "What each layer would have said",
      "After each layer, the vector on its way up is sent straight to the end: through the last norm and the " +
        "unembedding. It shows from which layer on the stream reads like the answer, not which layer knows it.",
      filled(() => {
        const rows = lens().map(([[, p, words], second], i) => [
          i ? `layer ${i}` : "embedding",
          visible(words),
          playground.bar(p),
          percent(p),
          visible(second[2]),
        ]);
        return table(`After “${visible(moment().name)}”`, ["after", "likeliest", "", "", "second"], rows, "pg-lens");
      }),
    );

  const endsPanel = () =>
    panel(
      "Without blocks, and with them",
      "Two answers, right after the chosen token. One comes from this token alone, straight from the embedding to " +
        "the unembedding; the other from the whole model, which has read all that stands before. Press a token to go " +
        "on with it.",
      element(
        "div",
        { class: "pg-pair" },
        filled(() => choices(`Without blocks, after “${visible(moment().name)}” alone`, "probability", lens()[0])),
        filled(() =>
          choices(
            `With its blocks, after the text up to “${visible(moment().name)}”`,
            "probability",
            moment().next.slice(0, 5),
          ),
        ),
      ),
    );

  function memoryPanel() {
    const names = element("ol", { "aria-hidden": "true" });
    const canvas = element("canvas", { role: "img" });
    const mark = element("i");
    const legend = element("div");
    const map = element("div", { class: "pg-map", click: pick }, canvas, mark);

    function pick(event) {
      const { left, width } = map.getBoundingClientRect();
      const rank = Math.floor((channels * (event.clientX - left)) / width);
      choose({ rank: Math.min(Math.max(rank, 0), channels - 1) });
    }

    /** For each row of the map its name and the channels' shares, quick ones first. Old tokens share the first row. */
    function rows() {
      const keys = run.moments.slice(0, chosen.at + 1).map((m) => m.wrote[chosen.layer].keys);
      const all = playground
        .shares(keys, rates[chosen.layer])
        .map((share, t) => [visible(run.moments[t].name), orders[chosen.layer].map((c) => share[c])]);
      if (all.length <= ROWS) return all;
      const old = all.splice(0, all.length - ROWS + 1);
      const sums = old[0][1].map((_, r) => old.reduce((sum, [, share]) => sum + share[r], 0));
      return [[`${old.length} earlier`, sums], ...all];
    }

    follow(() => {
      const shown = rows();
      names.replaceChildren(...shown.map(([name]) => element("li", {}, name)));
      map.style.height = `${1.4 * shown.length}rem`;
      playground.paintHeat(
        canvas,
        shown.map(([, shares]) => shares),
      );
      const means = shown.map(([name, shares]) => [name, mean(shares)]);
      const [top, share] = means.reduce((a, b) => (b[1] > a[1] ? b : a));
      canvas.setAttribute(
        "aria-label",
        `Layer ${chosen.layer + 1}: what its ${channels} channels remember after ${counted(chosen.at + 1, "token")}. ` +
          `Most comes from ${top}, ${percent(share)} on average.`,
      );
      mark.style.left = `${(100 * (chosen.rank + 0.5)) / channels}%`;
      legend.replaceChildren(playground.heatLegend());
    }, map);

    function asTable() {
      const size = channels / 8;
      const groups = Array.from({ length: 8 }, (_, g) => [g * size, (g + 1) * size]);
      const lives = halfLives[chosen.layer];
      return table(
        `Layer ${chosen.layer + 1}: the share of each token, averaged over channels of these half-lives, in tokens`,
        ["token", ...groups.map(([from, to]) => `${short(lives[from])} to ${short(lives[to - 1])}`)],
        rows().map(([name, shares]) => [name, ...groups.map((group) => percent(mean(shares.slice(...group))))]),
      );
    }

    return panel(
      "What the memory holds",
      "Each channel of a layer keeps one average of what it has read. Across: the channels, from quick to slow to " +
        "forget. Down: the tokens. The color says how much of what the channel remembers comes from that token, so " +
        "each column sums to 100%.",
      layerChips(),
      element(
        "div",
        { class: "pg-memory" },
        names,
        map,
        element("div", { class: "pg-ends" }, element("span", {}, "quick"), element("span", {}, "slow")),
      ),
      legend,
      behind("What the memory holds", asTable),
    );
  }

  /** On the playground's own page the layer and the channel, which four panels obey, have a panel of their own. */
  const placePanel = () => panel("Which layer, which channel", null, layerChips(), channelSlider());

  const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length;

  function channelPanel() {
    function history() {
      const kinds = (kind) => run.moments.map((m) => m.wrote[chosen.layer][kind]);
      const c = orders[chosen.layer][chosen.rank];
      return playground.channelHistory(kinds("keys"), kinds("values"), rates[chosen.layer][c], c);
    }

    function draw(place) {
      const moments = history();
      const { weights, sum, average } = moments[chosen.at];
      const top = weights.indexOf(Math.max(...weights));
      playground.drawChannel(
        place,
        moments,
        run.moments.map((m) => m.name),
        chosen.at,
        `Layer ${chosen.layer + 1}, one channel through ${moments.length} tokens. After “${visible(moment().name)}” ` +
          `it holds ${playground.fixed(average, 2)}, and ${percent(weights[top] / sum)} of its weight is ` +
          `“${visible(run.moments[top].name)}”.`,
      );
    }

    function asTable() {
      const moments = history();
      const most = Math.max(...moments.map(({ sum }) => sum));
      return table(
        "The channel at each moment; its weight as a share of the largest",
        ["token", "value written", "average held", "weight in memory", "of it new"],
        moments.map(({ value, average, sum, weights }, t) => [
          visible(run.moments[t].name),
          playground.fixed(value, 3),
          playground.fixed(average, 3),
          percent(sum / most),
          percent(weights[t] / sum),
        ]),
      );
    }

    return panel(
      "One channel, through time",
      "At each token the channel takes in a value and a weight. All weights fade from token to token, by a factor of " +
        "the channel's own. Every token has its color: follow one to the right, and see it go.",
      layerChips(),
      channelSlider(),
      chart(draw),
      behind("One channel, through time", asTable),
    );
  }

  function decaysPanel() {
    function draw(place) {
      const own = halfLives[chosen.layer];
      playground.drawDecays(
        place,
        halfLives,
        chosen.layer,
        chosen.rank,
        `Half-lives by layer. In layer ${chosen.layer + 1}, half of the channels forget half of a weight within ` +
          `${short(own[channels >> 1])} tokens; the slowest channel takes ${short(own.at(-1))}.`,
      );
    }

    function asTable() {
      const share = (lives, low, high) => percent(lives.filter((life) => life >= low && life < high).length / channels);
      return table(
        "Channels by half-life, in tokens",
        ["layer", "median", "under 1", "1 to 10", "10 to 100", "over 100"],
        halfLives.map((lives, i) => [
          `${i + 1}`,
          short(lives[channels >> 1]),
          share(lives, 0, 1),
          share(lives, 1, 10),
          share(lives, 10, 100),
          share(lives, 100, Infinity),
        ]),
      );
    }

    return panel(
      "How fast each layer forgets",
      "For each channel, the number of tokens after which half of a weight is left. There is one line per layer; the " +
        "chosen layer is the thick one, and the dot is the chosen channel.",
      layerChips(),
      channelSlider(),
      chart(draw),
      behind("How fast each layer forgets", asTable),
    );
  }

  const traceProgress = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of the trace" });
  const traceWords = element("p", { role: "status" });

  function tracePanel() {
    const map = element("div", { class: "pg-scroll" });
    const tokens = () => run.moments.slice(0, chosen.at + 1).map((m, t) => [t, `${t + 1} ${visible(m.name)}`]);
    const from = (t) => choose({ subject: [t, Math.max(t, chosen.subject[1])] });
    const to = (t) => choose({ subject: [Math.min(t, chosen.subject[0]), t] });
    const hide = (label, end, pick, name) =>
      select(
        label,
        tokens,
        () => chosen.subject[end],
        (value) => pick(Number(value)),
        { "aria-label": name },
      );

    follow(() => {
      const found = run.trace?.key === traceKey() ? run.trace : null;
      map.replaceChildren(...(found ? [asTable(found)] : []));
      if (found) tell(traceWords, inWords(found));
      else if (busy !== "trace") tell(traceWords, whatToDo());
    });

    const likely = (logs) => mean(logs.map(Math.exp));
    const isSubject = (t) => t >= chosen.subject[0] && t <= chosen.subject[1];

    function asTable({ grid, answer }) {
      return playground.heatTable(
        `Probability of “${visible(answer)}” in percent, with one cell put back`,
        ["layer", ...grid[0].map((_, i) => `${i + 1}`)],
        grid.map((cells, t) => [visible(run.moments[t].name) + (isSubject(t) ? " ★" : ""), cells.map(likely)]),
      );
    }

    function inWords({ clean, corrupted, grid, answer }) {
      const cells = grid.flatMap((row, t) => row.map((logs, i) => ({ p: likely(logs), t, i })));
      const between = cells.filter(({ t }) => t > chosen.subject[1] && t < grid.length - 1); // the ends are no news
      const best = between.sort((a, b) => b.p - a.p)[0];
      return (
        `The probability of “${visible(answer)}” is ${percent(Math.exp(clean))}. With noise on the starred tokens it ` +
        `is ${percent(likely(corrupted))}.` +
        (best
          ? ` Between the subject and the last token, most returns from layer ${best.i + 1} at ` +
            `“${visible(run.moments[best.t].name)}”: ${percent(best.p)}.`
          : "")
      );
    }

    function whatToDo() {
      if (chosen.at >= MOST_TRACED)
        return `A trace takes a run for each token and layer: choose one of the first ${MOST_TRACED} tokens.`;
      if (!model) return "";
      return "Choose the subject's tokens, then press Trace.";
    }

    return panel(
      "Where the answer can be brought back",
      "A causal trace. Hide the subject under noise, and the model loses its answer. Then put back one thing as it " +
        "was, at one token and one layer, and see how much of the answer returns. A block's activation goes up to the " +
        "next layer, its state on to the next token. Probabilities are averaged over the draws." +
        (figure ? "" : " The text is read up to the chosen moment."),
      row(hide("Hide from", 0, from, "Hide from"), hide("to", 1, to, "Hide up to")),
      row(
        select(
          "Put back",
          () => RESTORES,
          () => chosen.restore,
          (restore) => choose({ restore }),
        ),
        select(
          "Draws of noise",
          () => DRAWS.map((n) => [n, n]),
          () => chosen.draws,
          (n) => choose({ draws: Number(n) }),
        ),
      ),
      row(stoppable("trace", "Trace", trace, () => live() && chosen.at < MOST_TRACED)),
      traceProgress,
      traceWords,
      map,
    );
  }

  // -------------------------------------------------------------------------------------------------------------------
  // a checkpoint of the reader's own

  function ownPanel() {
    const told = element("p", { role: "status" });
    const done = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of opening" });
    let checkpoint = null; // what the chosen file's header says
    let vocabulary = null; // what the chosen tokenizer's file says
    let trouble = ""; // what is wrong with one of them

    const fileInput = (accept, change) => element("input", { type: "file", accept, change });
    const weightsFile = fileInput(".pth,.pt,.bin,.safetensors", inspect);
    const tokenizerFile = fileInput(".json", inspect);
    for (const input of [weightsFile, tokenizerFile]) usable(input, () => !busy && manifest.whole);

    /** Read what the files say of themselves. */
    async function inspect() {
      [checkpoint, vocabulary, trouble] = [null, null, ""];
      try {
        if (weightsFile.files[0])
          checkpoint = await playground.inspectCheckpoint(weightsFile.files[0], manifest.checkpoint);
        if (checkpoint && tokenizerFile.files[0])
          vocabulary = await playground.readTokenizer(tokenizerFile.files[0], checkpoint.sizes.vocabulary);
      } catch (error) {
        trouble = error.message;
      }
      tell(told, trouble || inWords());
      enable();
    }

    function inWords() {
      if (!checkpoint) return "Now choose the file with the weights.";
      const { file, parameters, bytes, dtypes } = checkpoint;
      const { layers, channels, vocabulary: tokens } = checkpoint.sizes;
      const size = playground.megabytes;
      return (
        `${file.name} is an RWKV-4: ${layers} layers of ${channels} channels, ${tokens.toLocaleString("en")} tokens, ` +
        `${parameters.toLocaleString("en")} parameters in ${dtypes.join(" and ")}, ${size(file.size)} on the disk. ` +
        `Opened it takes ${size(bytes)} of memory, and ${size(playground.bytesOfToken(checkpoint.sizes))} for each ` +
        `token that it reads. ${vocabulary ? "Its tokenizer fits. " : "Now choose its tokenizer."}`
      );
    }

    const open = () =>
      during("open", async () => {
        try {
          forgetModel(); // two models would take twice the memory
          done.hidden = false;
          const start = performance.now();
          const { room, weights } = await playground.readCheckpoint(checkpoint, playground.kernel, async (share) => {
            done.value = share;
            tell(told, `Rounding: ${10 * Math.floor(10 * share)}% of the file is read.`);
            await breathe();
          });
          if (!playground.makeTokenizer) await loadScript("tokenizer.js");
          text.value ||= texts[0]; // its panels need something to show
          useModel(weights, room, vocabulary);
          opened = checkpoint.file.name;
          const seconds = (performance.now() - start) / 1000;
          await readNow();
          const { sizes, tensors } = weights;
          const itsRates = Array.from({ length: sizes.layers }, (_, i) =>
            tensors[`blocks.${i}.attention.memory.log_decay`].map(Math.exp),
          );
          present(sizes, itsRates, playground.embeddingStd(tensors["embedding.embedding.weight"]));
          tell(told, `${opened} is open, after ${seconds.toFixed(1)} seconds. It speaks in all panels.`);
        } catch (error) {
          await leave();
          tell(
            told,
            halt.signal.aborted
              ? "Stopped. The page is back to the book’s model."
              : `That did not work: ${error.message}`,
          );
        }
        done.hidden = true;
      });

    function forgetModel() {
      [model, tokenizer, opened] = [null, null, null];
      delete playground.model;
      delete playground.tokenizer;
    }

    /** Back to the book's model, which is loaded again when it is needed. */
    async function leave() {
      forgetModel();
      await showExample(texts[0]);
      present(manifest.sizes, bookRates, manifest.noiseScale);
    }

    const back = () =>
      during("open", async () => {
        await leave();
        tell(told, "The page is back to the book’s model.");
      });

    return panel(
      "A model of your own",
      "Open a checkpoint from your disk: an RWKV-4 as a .pth or a .safetensors, of any size that fits, and its " +
        "tokenizer.json. For the models trained on the Pile the tokenizer is called 20B_tokenizer.json. The page reads " +
        "the files itself and sends them nowhere. Each matrix is rounded to int8 on its way in, as the book’s model was.",
      row(element("label", {}, "Weights ", weightsFile), element("label", {}, "Tokenizer ", tokenizerFile)),
      row(
        stoppable(
          "open",
          "Open it",
          open,
          () => checkpoint && vocabulary,
          () => (trouble ? "One of the files cannot be used" : "Choose both files first"),
        ),
        usable(
          button("Back to the book’s model", back),
          () => opened && !busy,
          () => "It is the book’s model that speaks",
        ),
      ),
      done,
      told,
    );
  }

  // -------------------------------------------------------------------------------------------------------------------
  // runs: worked out beforehand, or by the model here

  async function loadScript(name) {
    const script = element("script", { src: `${root.dataset.folder}${name}${root.dataset.stamp}` });
    await new Promise((done, failed) => {
      script.onload = done;
      script.onerror = () =>
        failed(new Error(`${name} could not be loaded. Check the network, or whether the book’s folder is complete.`));
      document.head.append(script);
    });
    script.remove();
  }

  /** An example's run: as it was stored, keys and values as 16-bit floats. */
  async function exampleRun(i) {
    const name = `example${i}`;
    if (!playground[name]) await loadScript(`example-${i}.js`);
    const { text, prompt, moments, wrote, trace } = playground[name];
    const numbers = Array.from(new Uint16Array(playground.fromBase64(wrote).buffer), playground.fromHalf);
    const rows = splitRows(Float32Array.from(numbers), manifest.sizes.channels); // layer, token, then keys and values
    const wroteAt = (t) =>
      bookRates.map((_, i) => {
        const place = 2 * (i * moments.length + t);
        return { keys: rows[place], values: rows[place + 1] };
      });
    return { text, prompt, trace, moments: moments.map((m, t) => ({ ...m, wrote: wroteAt(t) })) };
  }

  const pickExample = (words, at) => during("read", () => showExample(words, at));

  /** Show an example: by the model where it is loaded, else as it was worked out beforehand. */
  async function showExample(words, at) {
    text.value = words;
    const stored = manifest.examples.findIndex((example) => example.text === words);
    if (model || stored < 0) return readNow({ at });
    const { trace, ...made } = await exampleRun(stored);
    show(made, at ?? made.prompt - 1, trace?.subject);
    if (trace) run.trace = { ...trace, key: traceKey({ ...trace, at: made.prompt - 1, draws: trace.samples }) };
    say(
      manifest.whole
        ? "Worked out when this page was built. For a text of yours, or another step, the model is loaded."
        : "This copy of the book was made without a connection to npm, from which the tokenizer comes, so only the " +
            "examples are here.",
    );
  }

  function show(made, at, subject) {
    run = { whole: made.prompt, ...made };
    chosen.at = Math.min(Math.max(at, 0), run.moments.length - 1);
    chosen.subject = subject ?? [0, 1];
  }

  /** Do this for 0, 1, ... count - 1, six at a time: as many as a browser asks one server for. */
  async function inParallel(count, action) {
    const { signal } = halt;
    let next = 0;
    let done = 0;
    const worker = async () => {
      while (next < count) {
        await action(next++);
        signal.throwIfAborted(); // or it would go on beside the next one's workers
        progress.value = ++done / count;
      }
    };
    progress.value = 0;
    progress.hidden = false;
    const stopped = new Promise((_, fail) => (signal.onabort = () => fail(signal.reason)));
    const all = Promise.all(Array.from({ length: 6 }, worker));
    await Promise.race([all, stopped]); // a file on its way is not waited for
  }

  async function loadModel() {
    if (model) return;
    say("Loading the model…");
    // Whoever stopped and begins again goes on from there: no file is asked for twice.
    coming ??= { room: playground.makeRoom(manifest, playground.kernel), files: [] };
    const { room, files } = coming;
    const loadFile = async (i) => {
      if (i === manifest.chunks) return loadScript("tokenizer.js");
      await loadScript(`weights-${i}.js`);
      new Uint8Array(room.buffer).set(playground.fromBase64(playground[`weights${i}`]), i * manifest.chunk);
      delete playground[`weights${i}`];
    };
    await inParallel(manifest.chunks + 1, async (i) => {
      files[i] ??= loadFile(i).catch((error) => {
        files[i] = null; // to be asked for again
        throw error;
      });
      await files[i];
    });
    useModel(playground.openWeights(manifest, room.buffer), room, playground.tokenizerData);
    delete playground.tokenizerData;
    coming = null;
    progress.hidden = true;
  }

  function useModel(weights, room, tokenizerData) {
    tokenizer = playground.makeTokenizer(tokenizerData);
    model = playground.createModel(weights, room.multiply);
    root.dataset.how = room.how;
    Object.assign(playground, { model, tokenizer }); // for the curious, in the browser's console
  }

  /** A token as text, after the bytes of a character that is not whole yet. */
  const decode = (id, waiting = []) => playground.decodeBytes([...waiting, ...playground.tokenBytes(tokenizer, id)]);
  const withNames = (best, waiting) => best.map(([id, p]) => [id, p, decode(id, waiting).name]);

  /** Read one more token, after the run's last moment. */
  function readToken(made, token) {
    const last = made.moments.at(-1);
    const seen = playground.observe(model, token, last ? playground.copyState(last.state) : model.emptyState());
    const said = decode(token, last?.waiting);
    made.moments.push({
      ...seen,
      ...said, // text, waiting, name
      next: withNames(playground.best(seen.probabilities, 12), said.waiting),
      wrote: seen.state.map(({ wrote }) => wrote),
    });
  }

  /** Do something that takes time: one thing at once, errors said, the page kept alive. */
  async function during(what, action) {
    if (busy) return;
    busy = what;
    halt = new AbortController();
    const { signal } = halt;
    enable();
    try {
      await action();
    } catch (error) {
      say(signal.aborted ? "Stopped." : `That did not work: ${error.message}`);
    }
    halt.abort(); // after a failure, too, nobody works on
    busy = false;
    progress.hidden = traceProgress.hidden = true;
    (run ? changed : enable)();
  }

  let breath = 0;
  /** Let the page draw and listen, at most about thirty times a second. */
  async function breathe() {
    if (performance.now() - breath > 30) await new Promise((done) => setTimeout(done));
    halt.signal.throwIfAborted();
    if (performance.now() - breath > 30) breath = performance.now();
  }

  const readText = () => during("read", () => readNow(asked?.text === text.value ? asked : {}));

  /** Read the text, then the tokens that were written after it, if any. */
  async function readNow({ wrote = [], at, subject, kept = MOST_TOKENS } = {}) {
    await loadModel();
    asked = null;
    const ids = tokenizer.encode(text.value).ids;
    if (!ids.length) return say("Write a text first.");
    const whole = Math.min(ids.length, MOST_TOKENS);
    const prompt = Math.min(whole, kept);
    const made = { text: text.value, whole, prompt, moments: [] };
    const tokens = [...ids.slice(0, prompt), ...wrote];
    const start = performance.now();
    let waited = 0;
    progress.hidden = false;
    say(`Reading ${counted(tokens.length, "token")}…`);
    for (const [n, token] of tokens.entries()) {
      progress.value = n / tokens.length;
      readToken(made, token);
      const before = performance.now();
      await breathe();
      waited += performance.now() - before;
    }
    const each = (performance.now() - start - waited) / tokens.length;
    const known = manifest.examples.find((example) => example.text === made.text);
    show(made, at ?? prompt - 1, subject ?? (opened ? undefined : known?.subject));
    say(
      `Read ${counted(tokens.length, "token")} in your browser, ${each.toFixed(each < 10 ? 1 : 0)} ms each, with ` +
        `${root.dataset.how}.` +
        (ids.length > whole ? ` Only the first ${whole} of ${ids.length} tokens were read.` : ""),
    );
  }

  /** Forget what came after the chosen moment: writing goes on from there. */
  function cut() {
    run.moments.length = chosen.at + 1;
    run.prompt = Math.min(run.prompt, run.moments.length);
  }

  function append(id) {
    cut();
    readToken(run, id);
    choose({ at: run.moments.length - 1 });
  }

  /** As the reader chose, not the model. */
  function take(id) {
    append(id);
    sayWritten();
  }

  function writeTokens(count) {
    return during("write", async () => {
      cut();
      if (count > 1) {
        say(`Writing ${count} tokens…`);
        progress.hidden = false;
      }
      for (let n = 0; n < count && run.moments.length < MOST_TOKENS && !halt.signal.aborted; n++) {
        const odds = playground.reshape(moment().probabilities, chosen.temperature, chosen.topP);
        progress.value = n / count;
        append(playground.draw(odds, playground.random(chosen.seed * 1000003 + run.moments.length)()));
        if (count > 1) await new Promise((done) => setTimeout(done, 10)); // for the page to draw, and to hear Stop
      }
      sayWritten();
    });
  }

  function sayWritten() {
    const written = run.moments.slice(run.prompt).map((m) => m.text);
    const place = run.prompt < run.whole ? `the text’s first ${counted(run.prompt, "token")}` : "the text";
    say(written.length ? `After ${place}: ${written.join("")}` : "");
    status.scrollTop = status.scrollHeight;
  }

  function takeBack() {
    chosen.at = Math.max(0, run.moments.length - 2);
    cut();
    changed();
    sayWritten();
  }

  /** What a trace depends on, as a string. */
  function traceKey({ at, subject, restore, draws, seed } = chosen) {
    return JSON.stringify([run.moments.slice(0, at + 1).map(({ token }) => token), subject, restore, draws, seed]);
  }

  function trace() {
    return during("trace", async () => {
      run.trace = null;
      traceProgress.hidden = false;
      tell(traceWords, "Tracing…");
      changed();
      const key = traceKey();
      const [id, , answer] = moment().next[0];
      const width = chosen.subject[1] - chosen.subject[0] + 1;
      const scale = manifest.trace.noise * noiseScale;
      const normals = playground.normals(chosen.seed, chosen.draws * width * channels).map((z) => scale * z);
      const found = await playground.causalTrace(model, {
        tokens: run.moments.slice(0, chosen.at + 1).map(({ token }) => token),
        subject: chosen.subject,
        answer: id,
        noise: splitRows(normals, width * channels).map((draw) => splitRows(draw, channels)),
        restore: chosen.restore,
        progress: async (share) => {
          traceProgress.value = share;
          await breathe();
        },
      });
      run.trace = { ...found, answer, key };
    });
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the playground's address: whatever is chosen stands in it, so that it can be shared

  let touched = false; // until then the address is the reader's: it may lead to a heading
  let asked = null; // the address's text and details, which wait for the model

  function keepInAddress() {
    if (!touched || figure || opened) return; // a file on a disk has no address
    const said = new URLSearchParams({
      text: run.text,
      at: chosen.at,
      layer: chosen.layer + 1,
      channel: chosen.rank + 1,
    });
    const own = run.moments.slice(run.prompt).map(({ token }) => token);
    if (own.length) said.set("wrote", own.join("."));
    if (run.prompt < run.whole) said.set("kept", run.prompt);
    if (model) {
      for (const name of ["temperature", "topP", "seed", "restore", "draws"])
        if (chosen[name] !== atFirst[name]) said.set(name, chosen[name]);
      said.set("subject", chosen.subject.join("-"));
    }
    history.replaceState(null, "", `#${said}`);
  }

  async function fromAddress() {
    const said = new URLSearchParams(location.hash.slice(1));
    if (run && !said.has("text")) return; // a heading of the page
    const number = (name, low, high, otherwise) => {
      const value = Number(said.get(name));
      return said.has(name) && value >= low && value <= high ? value : otherwise;
    };
    const whole = (...limits) => Math.round(number(...limits));
    const list = (name, separator, most) =>
      (said.get(name) ?? "")
        .split(separator)
        .map((part) => parseInt(part, 10))
        .filter((n) => n >= 0 && n < most);
    chosen.layer = whole("layer", 1, layers, chosen.layer + 1) - 1;
    chosen.rank = whole("channel", 1, channels, chosen.rank + 1) - 1;
    chosen.temperature = number("temperature", 0, 2, 1);
    chosen.topP = number("topP", 0.05, 1, 1);
    chosen.seed = whole("seed", 0, 999999, 1);
    if (RESTORES.some(([value]) => value === said.get("restore"))) chosen.restore = said.get("restore");
    if (DRAWS.includes(Number(said.get("draws")))) chosen.draws = Number(said.get("draws"));
    const at = said.has("at") ? whole("at", 0, MOST_TOKENS, 0) : undefined;
    const wrote = list("wrote", ".", sizes.vocabulary);
    const subject = list("subject", "-", MOST_TOKENS);
    const kept = said.has("kept") ? whole("kept", 1, MOST_TOKENS, MOST_TOKENS) : undefined;
    const details = { text: said.get("text"), wrote, at, kept, subject: subject.length === 2 ? subject : undefined };
    const known = texts.includes(details.text);
    if (!model) await pickExample(known ? details.text : texts[0], known ? at : undefined);
    if (!details.text) return;
    root.scrollIntoView();
    const shown = run.moments.slice(run.prompt).map(({ token }) => token);
    if (!model && known && !kept && (!wrote.length || wrote.join() === shown.join())) return;
    history.replaceState(null, "", `#${said}`);
    text.value = details.text;
    asked = details;
    if (manifest.whole && !navigator.connection?.saveData) await readText();
    else
      say(
        "This address asks for a text that the model has to read" +
          (manifest.whole ? ": to load it, press the button beside the text." : whereItIs),
      );
  }

  // -------------------------------------------------------------------------------------------------------------------

  const PANELS = {
    text: textPanel,
    tokens: tokensPanel,
    next: nextPanel,
    lens: lensPanel,
    ends: endsPanel,
    place: placePanel,
    memory: memoryPanel,
    channel: channelPanel,
    decays: decaysPanel,
    trace: tracePanel,
    own: ownPanel,
  };
  const WIDE = ["place", "own"]; // they take the width of both columns
  const atFirst = { ...chosen };
  const panels = (names) => names.split(" ").map((name) => [name, PANELS[name]()]);
  if (figure) root.replaceChildren(...panels(root.dataset.panels).map(([, made]) => made));
  else {
    const board = element("div", { class: "pg-board" });
    const examples = examplesRow(button("Start over", startOver), copyButton());
    examples.classList.add("pg-examples");
    root.replaceChildren(benchWords(), examples, bench(), board);
    for (const [name, made] of panels("next lens place memory channel decays trace own")) {
      if (WIDE.includes(name)) made.classList.add("pg-wide", `pg-${name}`);
      board.append(made);
    }
  }
  if (figure) {
    if ("pressed" in root.dataset) root.focus({ preventScroll: true }); // the button, which had it, is gone
    const stored = manifest.examples.map((example) => example.text);
    pickExample(texts.find((words) => stored.includes(words)) ?? texts[0]);
  } else {
    for (const kind of ["click", "input", "change"]) root.addEventListener(kind, () => (touched = true), true);
    addEventListener("hashchange", () => !busy && fromAddress());
    fromAddress();
  }
  const dark = { attributes: true, attributeFilter: ["data-theme"] };
  new MutationObserver(() => run && changed()).observe(document.documentElement, dark); // pixels know no style sheet
})((globalThis.rwkvPlayground ??= {}));
