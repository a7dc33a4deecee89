// The playground's page: controls, state, and which picture shows what. Everything it draws comes from a run of the
// model: one that was worked out when the book was built, with the same weights, or one of this browser's own.

(function (playground) {
  "use strict";

  const { manifest, element, visible, percent, short, table } = playground;
  const root = document.querySelector(".rwkv-playground[data-folder]");
  if (!root || !manifest) return;

  const { layers, channels } = manifest.sizes;
  const RESTING = manifest.whole
    ? ""
    : "This copy of the book was made without a connection to npm, from which the tokenizer comes, " +
      "so only the examples are here.";
  const MOST_TOKENS = 400,
    MOST_TRACED = 48,
    ROWS = 16;
  const floats = (text) => new Float32Array(playground.fromBase64(text).buffer);
  const rates = splitRows(floats(manifest.rates), channels); // for each layer: how fast its channels fade
  const orders = rates.map((rate) => Array.from(rate.keys()).sort((a, b) => rate[b] - rate[a])); // quick channels first
  const halfLives = rates.map((rate, i) => orders[i].map((c) => Math.LN2 / rate[c]));

  // what the reader has chosen; `at` is the moment, `rank` the channel's place among its layer's, quick ones first
  const chosen = {
    at: 0,
    layer: Math.min(3, layers - 1),
    rank: channels >> 1,
    temperature: 1,
    topP: 1,
    seed: 1,
    restore: "both",
    draws: manifest.trace.samples,
    subject: [0, 0],
  };
  let run = null; // {prompt: number of tokens, moments, trace}
  let model = null,
    tokenizer = null,
    busy = false,
    stop = false;

  function splitRows(numbers, width) {
    return Array.from({ length: numbers.length / width }, (_, i) => numbers.subarray(i * width, (i + 1) * width));
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the panels

  const parts = {}; // elements by name
  const part = (name, tag, attributes = {}, ...children) => (parts[name] = element(tag, attributes, ...children));
  const button = (name, text, action, attributes = {}) =>
    part(name, "button", { type: "button", click: action, ...attributes }, text);

  function panel(title, explanation, ...children) {
    return element(
      "section",
      { class: "pg-panel", "aria-label": title },
      element("h3", {}, title),
      element("p", { class: "pg-quiet" }, explanation),
      ...children,
    );
  }

  /** A table behind a picture: made when it is opened. */
  function behind(name, make) {
    const place = element("div", { class: "pg-scroll", tabindex: 0, role: "region", "aria-label": "table" });
    const fill = () => folded.open && place.replaceChildren(make());
    const folded = element("details", { toggle: fill }, element("summary", {}, "The same as a table"), place);
    parts[name] = { fill };
    return folded;
  }

  function slider(name, label, low, high, step, show) {
    const told = element("span");
    const input = element("input", {
      type: "range",
      min: low,
      max: high,
      step,
      value: chosen[name],
      input: () => {
        chosen[name] = Number(input.value);
        changed();
      },
    });
    parts[name] = {
      input,
      tell: () => {
        input.value = chosen[name];
        told.textContent = show(chosen[name]);
        input.setAttribute("aria-valuetext", show(chosen[name]));
      },
    };
    return element("label", {}, `${label}: `, told, input);
  }

  function select(name, label, options) {
    const made = part(
      name,
      "select",
      {
        change: () => {
          chosen[name] = isNaN(made.value) ? made.value : Number(made.value);
          changed();
        },
      },
      options.map(([value, text]) => element("option", { value }, text)),
    );
    return element("label", {}, `${label} `, made);
  }

  function radios(place, legend, names, current, choose, style = () => "") {
    const chips = names.map((name, i) =>
      element(
        "label",
        { class: `pg-chip ${style(i)}` },
        element("input", { type: "radio", name: legend, value: i, checked: i === current, change: () => choose(i) }),
        element("span", {}, name),
      ),
    );
    place.replaceChildren(element("legend", {}, legend), ...chips);
  }

  function build() {
    const megabytes = Math.round((manifest.bytes * 4) / 3 / 1e6);
    root.replaceChildren(
      panel(
        "A text for the model",
        "Pick an example: what you see then was worked out when this page was built. Or load the " +
          "model into your browser, and it reads what you write. Nothing that you type leaves this " +
          "page.",
        element(
          "div",
          { class: "pg-row", role: "group", "aria-label": "Examples" },
          manifest.examples.map(({ text }, i) =>
            element(
              "button",
              { type: "button", "data-example": i, "aria-pressed": "false", click: () => pickExample(i) },
              text,
            ),
          ),
        ),
        element("label", { class: "pg-label", for: "pg-text" }, "Text"),
        part("text", "textarea", {
          id: "pg-text",
          rows: 2,
          spellcheck: "false",
          maxlength: 4000,
          keydown: (event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) readText(event);
          },
        }),
        element(
          "div",
          { class: "pg-row", style: "margin-top:0.6rem" },
          button("read", manifest.whole ? `Load the model (${megabytes} MB) and read` : "No model here", readText, {
            class: "pg-main",
          }),
        ),
        part("progress", "progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress" }),
        part("status", "p", { class: "pg-status", role: "status" }),
      ),

      panel(
        "Token by token",
        "The model reads these pieces one after the other. Choose one: all pictures below show the " +
          "moment right after it. What the model wrote itself is underlined.",
        part("tokens", "fieldset", { class: "pg-tokens" }),
      ),

      panel(
        "What comes next",
        "How probable each next token is at this moment. Temperature and top-p change the odds " +
          "before a token is drawn: the pale bar is before, the strong one after.",
        part("next", "div", { class: "pg-scroll" }),
        element(
          "div",
          { class: "pg-sliders", style: "margin-top:0.8rem" },
          slider("temperature", "Temperature", 0, 2, 0.1, (value) =>
            value ? value.toFixed(1) : "0, always the likeliest",
          ),
          slider("topP", "Top-p", 0.05, 1, 0.05, (value) => (value < 1 ? value.toFixed(2) : "1, all tokens")),
        ),
        element(
          "div",
          { class: "pg-row" },
          button("one", "Write a token", () => writeTokens(1)),
          button("many", "Write twenty", () => (busy ? (stop = true) : writeTokens(20))),
          button("back", "Take one back", takeBack),
          element(
            "label",
            {},
            "Seed ",
            part("seed", "input", {
              type: "number",
              min: 0,
              max: 999999,
              value: chosen.seed,
              change: () => {
                chosen.seed = Math.abs(Math.trunc(Number(parts.seed.value))) || 0;
                changed();
              },
            }),
          ),
        ),
      ),

      panel(
        "What each layer would have said",
        "After each layer, the vector on its way up is sent straight to the end: through the last " +
          "norm and the unembedding. So one sees where the answer is made.",
        part("lens", "div", { class: "pg-scroll" }),
      ),

      panel(
        "What the memory holds",
        "Each channel of a layer keeps one average of what it has read. Across: the channels, from " +
          "quick to slow to forget. Down: the tokens. The color says how much of what the channel " +
          "remembers comes from that token, so each column sums to 100 %.",
        part("layers", "fieldset", {}),
        element(
          "div",
          { class: "pg-memory" },
          part("rows", "ol", { "aria-hidden": "true" }),
          part(
            "map",
            "div",
            {
              class: "pg-map",
              click: (event) => {
                const box = parts.map.getBoundingClientRect();
                chosen.rank = Math.min(
                  channels - 1,
                  Math.max(0, Math.floor((channels * (event.clientX - box.left)) / box.width)),
                );
                changed();
              },
            },
            part("canvas", "canvas", { role: "img" }),
            part("mark", "i"),
          ),
          element("div", { class: "pg-ends" }, element("span", {}, "quick"), element("span", {}, "slow")),
        ),
        part("legend", "div"),
        behind("mapTable", memoryTable),
        element(
          "div",
          { class: "pg-sliders", style: "margin-top:0.8rem" },
          slider("rank", "Channel", 0, channels - 1, 1, (rank) => {
            const life = halfLives[chosen.layer][rank];
            return `${rank + 1} of ${channels}, half is gone after ${short(life)} ${life === 1 ? "token" : "tokens"}`;
          }),
        ),
        part("channel", "div"),
        behind("channelTable", channelTable),
      ),

      panel(
        "How fast each layer forgets",
        "For each channel, the number of tokens after which half of a weight is left. One line a " +
          "layer; the chosen layer is the thick one, the dot is the chosen channel.",
        part("decays", "div"),
        behind("decayTable", decayTable),
      ),

      panel(
        "Where the fact is kept",
        "A causal trace. Hide the subject under noise, and the model loses its answer. Then put back " +
          "one thing as it was, at one token and one layer, and see how much of the answer returns. " +
          "The text is read up to the chosen moment.",
        element(
          "div",
          { class: "pg-row" },
          element(
            "label",
            {},
            "Hide from ",
            part("from", "select", {
              "aria-label": "Hide from",
              change: () => {
                chosen.subject[0] = Number(parts.from.value);
                chosen.subject[1] = Math.max(...chosen.subject);
                changed();
              },
            }),
          ),
          element(
            "label",
            {},
            " to ",
            part("to", "select", {
              "aria-label": "Hide up to",
              change: () => {
                chosen.subject[1] = Number(parts.to.value);
                chosen.subject[0] = Math.min(...chosen.subject);
                changed();
              },
            }),
          ),
        ),
        element(
          "div",
          { class: "pg-row" },
          select("restore", "Put back", [
            ["both", "a block's output and its memory"],
            ["activation", "a block's output"],
            ["state", "a block's memory"],
            ["attention", "what attention adds"],
            ["mlp", "what the MLP adds"],
          ]),
          select("draws", "Draws of noise", [
            [1, "1"],
            [3, "3"],
            [10, "10"],
          ]),
        ),
        element(
          "div",
          { class: "pg-row" },
          button("trace", "Trace", () => (busy ? (stop = true) : trace())),
        ),
        part("traceProgress", "progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of the trace" }),
        part("traceWords", "p", { role: "status" }),
        part("traceMap", "div", { class: "pg-scroll" }),
      ),
    );
    parts.text.value = manifest.examples[0].text;
  }

  // -------------------------------------------------------------------------------------------------------------------
  // drawing

  const moment = () => run.moments[chosen.at];
  const live = () => Boolean(model && moment().probabilities);

  function drawTokens() {
    radios(
      parts.tokens,
      "Moment",
      run.moments.map(({ text }) => visible(text)),
      chosen.at,
      (i) => {
        chosen.at = i;
        changed();
      },
      (i) => (i >= run.prompt ? "pg-wrote" : ""),
    );
  }

  function drawNext() {
    const { next, probabilities } = moment();
    const after = live() ? playground.reshape(probabilities, chosen.temperature, chosen.topP) : null;
    const rows = next
      .slice(0, 8)
      .map(([id, p, text]) => [
        element(
          "button",
          {
            type: "button",
            disabled: !live() || busy,
            title: live() ? "Go on with this token" : null,
            click: () => append(id),
          },
          visible(text),
        ),
        playground.bar(after ? after[id] : p, p),
        percent(after ? after[id] : p),
      ]);
    const caption = `The likeliest tokens after “${visible(moment().text)}”`;
    keepFocus(
      parts.next,
      table(
        caption,
        ["token", "", after && (chosen.temperature !== 1 || chosen.topP < 1) ? "drawn" : "probability"],
        rows,
        "pg-next",
      ),
    );
  }

  /** Replace what is in a place; if a button in it had the focus, the one that is now where it was gets it. */
  function keepFocus(place, content) {
    const i = [...place.querySelectorAll("button")].indexOf(document.activeElement);
    place.replaceChildren(content);
    if (i >= 0) place.querySelectorAll("button")[i]?.focus();
  }

  function drawLens() {
    const m = moment();
    m.lens ??= playground.lens(model, m.streams).map((p) => withTexts(playground.best(p, 3)));
    const rows = m.lens.map((best, i) => [
      i ? `layer ${i}` : "embedding",
      visible(best[0][2]),
      playground.bar(best[0][1]),
      percent(best[0][1]),
      best
        .slice(1)
        .map(([, , text]) => visible(text))
        .join("  "),
    ]);
    parts.lens.replaceChildren(
      table(`After “${visible(m.text)}”`, ["after", "likeliest", "", "", "then"], rows, "pg-lens"),
    );
  }

  const written = (kind) => run.moments.slice(0, chosen.at + 1).map((m) => m.wrote[chosen.layer][kind]);

  /** For each row of the map its name and the channels' shares, quick ones first. Old tokens share the first row. */
  function memoryRows() {
    const all = playground
      .shares(written("keys"), rates[chosen.layer])
      .map((row, t) => [visible(run.moments[t].text), orders[chosen.layer].map((c) => row[c])]);
    const many = all.length - ROWS;
    if (many <= 0) return all;
    const first = all
      .slice(0, many + 1)
      .reduce((sum, [, row]) => sum.map((value, r) => value + row[r]), new Array(channels).fill(0));
    return [[`${many + 1} before`, first], ...all.slice(many + 1)];
  }

  function drawMemory() {
    const rows = memoryRows();
    parts.rows.replaceChildren(...rows.map(([name]) => element("li", {}, name)));
    parts.map.style.height = `${1.4 * rows.length}rem`;
    playground.paintHeat(
      parts.canvas,
      rows.map(([, row]) => row),
    );
    const mean = rows.map(([, row]) => row.reduce((a, b) => a + b, 0) / channels),
      top = mean.indexOf(Math.max(...mean));
    parts.canvas.setAttribute(
      "aria-label",
      `Layer ${chosen.layer + 1}: what its ${channels} channels remember after ${rows.length} rows ` +
        `of tokens. Most comes from ${rows[top][0]}, ${percent(mean[top])} on average.`,
    );
    parts.mark.style.left = `${(100 * (chosen.rank + 0.5)) / channels}%`;
    parts.legend.replaceChildren(playground.heatLegend());
  }

  function memoryTable() {
    const rows = memoryRows(),
      groups = 8,
      size = channels / groups;
    const names = Array.from(
      { length: groups },
      (_, g) => `${short(halfLives[chosen.layer][g * size])} to ${short(halfLives[chosen.layer][(g + 1) * size - 1])}`,
    );
    const mean = (row, g) => row.slice(g * size, (g + 1) * size).reduce((a, b) => a + b, 0) / size;
    return table(
      `Layer ${chosen.layer + 1}: the share of each token, averaged over channels of these half-lives, in tokens`,
      ["token", ...names],
      rows.map(([name, row]) => [name, ...names.map((_, g) => percent(mean(row, g)))]),
    );
  }

  function channelHistory() {
    const kinds = (kind) => run.moments.map((m) => m.wrote[chosen.layer][kind]),
      c = orders[chosen.layer][chosen.rank];
    return playground.channelHistory(kinds("keys"), kinds("values"), rates[chosen.layer][c], c);
  }

  function drawChannel() {
    const history = channelHistory(),
      now = history[chosen.at],
      top = now.weights.indexOf(Math.max(...now.weights));
    playground.drawChannel(
      parts.channel,
      history,
      run.moments.map(({ text }) => text),
      chosen.at,
      `Layer ${chosen.layer + 1}, one channel through ${history.length} tokens. After ` +
        `“${visible(moment().text)}” it holds ${now.average.toFixed(2)}, and ` +
        `${percent(now.weights[top] / now.sum)} of its weight is “${visible(run.moments[top].text)}”.`,
    );
  }

  function channelTable() {
    const history = channelHistory(),
      most = Math.max(...history.map(({ sum }) => sum));
    return table(
      "The channel at each moment; its weight as a share of the largest",
      ["token", "value written", "average held", "weight in memory", "of it new"],
      history.map(({ value, average, sum, weights }, t) => [
        visible(run.moments[t].text),
        value.toFixed(3),
        average.toFixed(3),
        percent(sum / most),
        percent(weights[t] / sum),
      ]),
    );
  }

  function drawDecays() {
    const middle = halfLives.map((lives) => lives[channels >> 1]);
    playground.drawDecays(
      parts.decays,
      halfLives,
      chosen.layer,
      chosen.rank,
      `Half-lives by layer. In layer ${chosen.layer + 1}, half of the channels forget half of a ` +
        `weight within ${short(middle[chosen.layer])} tokens; the slowest channel takes ` +
        `${short(halfLives[chosen.layer].at(-1))}.`,
    );
  }

  function decayTable() {
    const share = (lives, low, high) => percent(lives.filter((life) => life >= low && life < high).length / channels);
    return table(
      "Channels by half-life, in tokens",
      ["layer", "middle", "under 1", "1 to 10", "10 to 100", "over 100"],
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

  function drawTraceControls() {
    const names = run.moments.slice(0, chosen.at + 1).map(({ text }, t) => [t, `${t + 1} ${visible(text)}`]);
    chosen.subject = chosen.subject.map((t) => Math.min(t, chosen.at));
    for (const [i, name] of ["from", "to"].entries()) {
      parts[name].replaceChildren(...names.map(([value, text]) => element("option", { value }, text)));
      parts[name].value = chosen.subject[i];
    }
    for (const name of ["restore", "draws"]) parts[name].value = chosen[name];
  }

  /** The trace that belongs to what is chosen, or null. */
  const currentTrace = () => (run.trace && run.trace.key === traceKey() ? run.trace : null);
  const traceKey = () =>
    JSON.stringify([
      run.moments.slice(0, chosen.at + 1).map(({ token }) => token),
      chosen.subject,
      chosen.restore,
      chosen.draws,
      chosen.seed,
    ]);

  function drawTrace() {
    const found = currentTrace();
    parts.trace.textContent = busy === "trace" ? "Stop" : "Trace";
    if (!found) {
      parts.traceMap.replaceChildren();
      const next =
        chosen.at >= MOST_TRACED
          ? `A trace takes a run for each token and layer: choose one of the first ${MOST_TRACED} tokens.`
          : model
            ? "Choose the subject's tokens, then press Trace."
            : "Load the model above to trace a text of yours.";
      if (busy !== "trace") tell(parts.traceWords, next);
      return;
    }
    const mean = (logs) => logs.reduce((sum, log) => sum + Math.exp(log), 0) / logs.length;
    const grid = found.grid.map((row) => row.map(mean)),
      answer = visible(found.answer);
    const cells = grid.flatMap((row, t) => row.map((p, i) => ({ p, t, i })));
    const between = cells.filter(({ t }) => t > chosen.subject[1] && t < grid.length - 1); // at the ends it is no news
    const best = between.sort((a, b) => b.p - a.p)[0];
    tell(
      parts.traceWords,
      `The probability of “${answer}” is ${percent(Math.exp(found.clean))}. With noise on the ` +
        `starred tokens it is ${percent(mean(found.corrupted))}.` +
        (best
          ? ` Between the subject and the last token, most returns when layer ${best.i + 1} is put ` +
            `back at “${visible(run.moments[best.t].text)}”: ${percent(best.p)}.`
          : ""),
    );
    const rows = grid.map((row, t) => [
      visible(run.moments[t].text) + (t >= chosen.subject[0] && t <= chosen.subject[1] ? " ★" : ""),
      row,
    ]);
    parts.traceMap.replaceChildren(
      playground.heatTable(
        `Probability of “${answer}” in percent, with one cell put back`,
        ["layer", ...grid[0].map((_, i) => `${i + 1}`)],
        rows,
      ),
    );
  }

  /** Everything, after any change. */
  function changed() {
    for (const input of parts.tokens.querySelectorAll("input")) input.checked = Number(input.value) === chosen.at;
    for (const input of parts.layers.querySelectorAll("input")) input.checked = Number(input.value) === chosen.layer;
    for (const name of ["temperature", "topP", "rank"]) parts[name].tell();
    parts.seed.value = chosen.seed;
    for (const made of root.querySelectorAll("[data-example]")) {
      made.setAttribute("aria-pressed", String(manifest.examples[made.dataset.example].text === run.text));
    }
    drawNext();
    drawLens();
    drawMemory();
    drawChannel();
    drawDecays();
    drawTraceControls();
    drawTrace();
    for (const name of ["mapTable", "channelTable", "decayTable"]) parts[name].fill();
    enable();
    keepInAddress();
  }

  /** Only what can be done now can be pressed. */
  function enable() {
    parts.read.disabled = Boolean(busy) || !manifest.whole;
    for (const name of ["one", "back"]) parts[name].disabled = !live() || Boolean(busy);
    parts.back.disabled ||= run.moments.length <= run.prompt;
    parts.many.disabled = !live() || (Boolean(busy) && busy !== "write");
    parts.many.textContent = busy === "write" ? "Stop" : "Write twenty";
    parts.trace.disabled = !live() || chosen.at >= MOST_TRACED || (Boolean(busy) && busy !== "trace");
    for (const name of ["seed", "from", "to", "restore", "draws"]) parts[name].disabled = !live() || Boolean(busy);
    for (const name of ["temperature", "topP"]) parts[name].input.disabled = !live();
  }

  /** Put words where a screen reader listens, once. */
  const tell = (place, text) => {
    if (place.textContent !== text) place.textContent = text;
  };
  const say = (text) => tell(parts.status, text);

  // -------------------------------------------------------------------------------------------------------------------
  // runs: worked out beforehand, or by the model here

  function loadScript(name) {
    return new Promise((done, failed) => {
      const script = element("script", { src: `${root.dataset.folder}${name}${root.dataset.stamp}` });
      script.onload = () => {
        script.remove();
        done();
      };
      script.onerror = () => {
        script.remove();
        failed(new Error(`${name} could not be loaded. Is the book's folder whole?`));
      };
      document.head.append(script);
    });
  }

  /** An example's run: as it was stored, keys and values as 16-bit floats. */
  async function exampleRun(i) {
    const name = `example${i}`;
    if (!playground[name]) await loadScript(`example-${i}.js`);
    const { text, prompt, moments, wrote, trace } = playground[name];
    const numbers = Array.from(new Uint16Array(playground.fromBase64(wrote).buffer), fromHalf),
      time = moments.length;
    const rows = splitRows(Float32Array.from(numbers), channels); // layer, token, then keys and values
    const made = {
      text,
      prompt,
      moments: moments.map((m, t) => ({
        ...m,
        wrote: rates.map((_, i) => ({ keys: rows[2 * (i * time + t)], values: rows[2 * (i * time + t) + 1] })),
      })),
    };
    return { made, trace };
  }

  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1,
      exponent = (bits >> 10) & 31,
      fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }

  function pickExample(i, at) {
    return during("read", async () => {
      const { made, trace } = await exampleRun(i);
      parts.text.value = made.text;
      if (model)
        return readNow(made.moments.slice(made.prompt).map(({ token }) => token), at);
      show(made, at ?? made.prompt - 1, trace?.subject);
      if (trace)
        run.trace = {
          ...trace,
          key: JSON.stringify([
            made.moments.slice(0, made.prompt).map(({ token }) => token),
            trace.subject,
            trace.restore,
            trace.samples,
            trace.seed,
          ]),
        };
      say(RESTING);
    });
  }

  function show(made, at, subject) {
    run = made;
    chosen.at = Math.min(Math.max(at, 0), run.moments.length - 1);
    chosen.subject = subject ? [...subject] : [0, Math.min(1, chosen.at)];
    drawTokens();
    changed();
  }

  async function loadModel() {
    if (model) return;
    parts.progress.hidden = false;
    say("Loading the model…");
    await loadScript("tokenizer.js");
    const room = playground.makeRoom(manifest, playground.kernel);
    for (let i = 0, filled = 0; i < manifest.chunks; i++) {
      await loadScript(`weights-${i}.js`);
      const bytes = playground.fromBase64(playground[`weights${i}`]);
      delete playground[`weights${i}`];
      new Uint8Array(room.buffer).set(bytes, filled);
      filled += bytes.length;
      parts.progress.value = (i + 1) / manifest.chunks;
    }
    tokenizer = playground.makeTokenizer(playground.tokenizerData);
    delete playground.tokenizerData;
    model = playground.createModel(playground.openWeights(manifest, room.buffer), room.multiply);
    root.dataset.how = room.how;
    Object.assign(playground, { model, tokenizer }); // for the curious, in the browser's console
    parts.read.textContent = "Read";
    parts.progress.hidden = true;
  }

  const textOf = (id) => tokenizer.decode([id], { skip_special_tokens: false });
  const withTexts = (best) => best.map(([id, p]) => [id, p, textOf(id)]);

  /** Read one more token, after the run's last moment. */
  function readToken(made, token) {
    const state = made.moments.length ? playground.copyState(made.moments.at(-1).state) : model.emptyState();
    const seen = playground.observe(model, token, state);
    made.moments.push({
      ...seen,
      text: textOf(token),
      next: withTexts(playground.best(seen.probabilities, 12)),
      wrote: seen.state.map(({ wrote }) => wrote),
    });
  }

  /** Do something that takes time: one thing at once, errors said, the page kept alive. */
  async function during(what, action) {
    if (busy) return;
    [busy, stop] = [what, false];
    enable();
    try {
      await action();
    } catch (error) {
      if (!stop) say(`That did not work: ${error.message}`);
    }
    busy = false;
    parts.progress.hidden = parts.traceProgress.hidden = true;
    (run ? changed : enable)();
  }

  let breath = 0;
  /** Let the page draw and listen, at most about thirty times a second. */
  async function breathe() {
    if (performance.now() - breath > 30) await new Promise((done) => setTimeout(done));
    if (stop) throw new Error("stopped");
    if (performance.now() - breath > 30) breath = performance.now();
  }

  const readText = (more, at, subject) => during("read", () => readNow(more, at, subject));

  /** Read the text, then the tokens that were written after it, if any. */
  async function readNow(more, at, subject) {
    await loadModel();
    if (asked?.text === parts.text.value && more instanceof Event) [more, at, subject] = asked.details;
    asked = null;
    const ids = tokenizer.encode(parts.text.value).ids;
    if (!ids.length) return say("Write a text first.");
    const tokens = ids.slice(0, MOST_TOKENS),
      made = { text: parts.text.value, prompt: tokens.length, moments: [] };
    const whole = Array.isArray(more) ? [...tokens, ...more] : tokens;
    const start = performance.now();
    let waited = 0;
    for (const token of whole) {
      readToken(made, token);
      const before = performance.now();
      await breathe();
      waited += performance.now() - before;
    }
    const each = (performance.now() - start - waited) / whole.length;
    const known = manifest.examples.find(({ text }) => text === made.text);
    show(made, at ?? tokens.length - 1, subject ?? known?.subject);
    const cut = ids.length > MOST_TOKENS ? ` Only the first ${MOST_TOKENS} of ${ids.length} tokens were read.` : "";
    say(
      `Read ${whole.length} tokens in your browser, ${each.toFixed(each < 10 ? 1 : 0)} ms each, ` +
        `with ${root.dataset.how}.${cut}`,
    );
  }

  /** Forget what came after the chosen moment: writing goes on from there. */
  function cut() {
    run.moments.length = chosen.at + 1;
    run.prompt = Math.min(run.prompt, run.moments.length);
  }

  function append(id) {
    if (!live()) return;
    cut();
    readToken(run, id);
    chosen.at = run.moments.length - 1;
    drawTokens();
    changed();
  }

  function writeTokens(count) {
    return during("write", async () => {
      cut();
      for (let n = 0; n < count && run.moments.length < MOST_TOKENS; n++) {
        const odds = playground.reshape(moment().probabilities, chosen.temperature, chosen.topP);
        append(playground.draw(odds, playground.random(chosen.seed * 1000003 + run.moments.length)()));
        if (count > 1) {
          parts.tokens.scrollTop = parts.tokens.scrollHeight;
          await new Promise((done) => setTimeout(done, 30));
          if (stop) break;
        }
      }
      say(
        `The model wrote: ${run.moments
          .slice(run.prompt)
          .map(({ text }) => text)
          .join("")}`,
      );
    });
  }

  function takeBack() {
    chosen.at = Math.max(0, run.moments.length - 2);
    cut();
    drawTokens();
    changed();
  }

  function trace() {
    return during("trace", async () => {
      const tokens = run.moments.slice(0, chosen.at + 1).map(({ token }) => token),
        [from, to] = chosen.subject;
      parts.traceProgress.hidden = false;
      parts.traceMap.replaceChildren();
      tell(parts.traceWords, "Tracing…");
      drawTrace();
      const key = traceKey(),
        answer = moment().next[0][0],
        each = (to - from + 1) * channels;
      const scale = manifest.trace.noise * manifest.noiseScale,
        normal = playground.normals(chosen.seed, chosen.draws * each);
      const noise = Array.from({ length: chosen.draws }, (_, s) =>
        Array.from({ length: to - from + 1 }, (_, t) =>
          Float32Array.from(normal.subarray(s * each + t * channels, s * each + (t + 1) * channels), (z) => scale * z),
        ),
      );
      const found = await playground.causalTrace(model, {
        tokens,
        subject: [from, to],
        answer,
        noise,
        restore: chosen.restore,
        progress: async (share) => {
          parts.traceProgress.value = share;
          await breathe();
        },
      });
      run.trace = { ...found, answer: textOf(answer), key };
    });
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the address: whatever is chosen stands in it, so that it can be shared

  function keepInAddress() {
    if (!touched) return; // until then the address is the reader's: it may lead to a heading
    const said = new URLSearchParams({
      text: run.text,
      at: chosen.at,
      layer: chosen.layer + 1,
      channel: chosen.rank + 1,
    });
    const own = run.moments.slice(run.prompt).map(({ token }) => token);
    if (own.length) said.set("wrote", own.join("."));
    if (model) {
      for (const [name, plain] of [
        ["temperature", 1],
        ["topP", 1],
        ["seed", 1],
        ["restore", "both"],
      ])
        if (chosen[name] !== plain) said.set(name, chosen[name]);
      said.set("subject", chosen.subject.join("-"));
    }
    history.replaceState(null, "", `#${said}`);
  }

  let touched = false;
  for (const kind of ["click", "input", "change"])
    root.addEventListener(
      kind,
      () => {
        touched = true;
      },
      true,
    );

  async function fromAddress() {
    const said = new URLSearchParams(location.hash.slice(1));
    if (run && !said.has("text")) return; // a heading of the page
    const number = (name, low, high, otherwise) => {
      const value = Number(said.get(name));
      return said.has(name) && value >= low && value <= high ? value : otherwise;
    };
    chosen.layer = Math.round(number("layer", 1, layers, chosen.layer + 1)) - 1;
    chosen.rank = Math.round(number("channel", 1, channels, chosen.rank + 1)) - 1;
    chosen.temperature = number("temperature", 0, 2, 1);
    chosen.topP = number("topP", 0.05, 1, 1);
    chosen.seed = Math.round(number("seed", 0, 999999, 1));
    const choices = Array.from(parts.restore.options, ({ value }) => value);
    if (choices.includes(said.get("restore"))) chosen.restore = said.get("restore");
    const at = said.has("at") ? Math.round(number("at", 0, MOST_TOKENS, 0)) : undefined;
    const ids = (name, separator) => (said.get(name) ?? "").split(separator).filter(Boolean).map(Number);
    const wrote = ids("wrote", ".").filter((id) => Number.isInteger(id) && id >= 0 && id < manifest.sizes.vocabulary);
    const subject = ids("subject", "-").filter((t) => Number.isInteger(t) && t >= 0);
    const text = said.get("text"),
      i = manifest.examples.findIndex((example) => example.text === text);
    const details = [wrote, at, subject.length === 2 ? subject : undefined];
    if (model && text) {
      parts.text.value = text;
      return readText(...details);
    }
    await pickExample(Math.max(i, 0), i >= 0 ? at : undefined);
    const shown = run.moments.slice(run.prompt).map(({ token }) => token);
    if (text && (i < 0 || (wrote.length && wrote.join() !== shown.join()))) {
      parts.text.value = text;
      say("This address asks for a text that has to be read by the model. Load it to see.");
      history.replaceState(null, "", `#${said}`);
      asked = { text, details };
    }
  }

  let asked = null; // the address's text and details, which wait for the model

  // -------------------------------------------------------------------------------------------------------------------

  build();
  radios(
    parts.layers,
    "Layer",
    rates.map((_, i) => `${i + 1}`),
    chosen.layer,
    (i) => {
      chosen.layer = i;
      changed();
    },
  );
  fromAddress();
  addEventListener("hashchange", () => !busy && fromAddress());
  new MutationObserver(() => run && changed()).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["data-theme"],
  });
  new ResizeObserver(() => run && (drawChannel(), drawDecays())).observe(parts.channel);
})((globalThis.rwkvPlayground ??= {}));
