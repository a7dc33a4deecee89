// Moves the cover's picture: one word a step, each cell's strength the word's share of its channel's memory by then.
// It reads a sentence once, when it is in view, and stops at the end. A finger, a mouse or the arrow keys ask a row.
addEventListener("DOMContentLoaded", () => {
  const figure = document.getElementById("cover");
  if (!figure) return;
  const STEP = 650, // milliseconds a word
    CELL = [20, 10]; // as book/_ext/cover.py draws them
  const find = (selector) => figure.querySelector(selector);
  const { rates, sentences } = JSON.parse(find("script").textContent);
  const svg = find("svg"),
    picture = find(".cover-picture"),
    button = find("figcaption button"),
    asked = find(".cover-read");
  let sentence = sentences[0],
    now = sentence.words.length - 1,
    timer = null,
    row = -1;

  const percent = (p) => (p >= 0.995 ? "> 99%" : p < 0.01 ? "< 1%" : `${Math.round(100 * p)}%`);

  // The share of every word in a channel's memory after the word `now`: the softmax of key minus age times rate.
  const sharesOf = (c) => {
    const last = sentence.ends[now];
    const weights = sentence.keys.slice(0, last + 1).map((key, t) => key[c] - (last - t) * rates[c]);
    const top = Math.max(...weights);
    const powers = weights.map((w) => Math.exp(w - top));
    const sum = powers.reduce((a, b) => a + b);
    return sentence.words.map((_, n) => {
      const begin = n ? sentence.ends[n - 1] + 1 : 0;
      return powers.slice(begin, sentence.ends[n] + 1).reduce((a, b) => a + b, 0) / sum;
    });
  };

  const draw = () => {
    const cells = svg.querySelectorAll("rect");
    rates.forEach((_, c) =>
      sharesOf(c).forEach((share, n) => {
        const cell = cells[n * rates.length + c];
        cell.setAttribute("fill-opacity", share.toFixed(2));
        cell.setAttribute("class", `${n === now ? "new" : ""}${c === row ? " asked" : ""}`);
      }),
    );
    for (const words of figure.querySelectorAll(".cover-text, .cover-words"))
      [...words.children].forEach((word, n) => {
        word.className = n === now ? "new" : n < now ? "" : "ahead";
      });
    find(".cover-next").replaceChildren(
      ...sentence.guesses[now].map(([word, p]) => {
        const line = document.createElement("li");
        const parts = ["b", "i", "span"].map((tag) => document.createElement(tag));
        parts[0].textContent = word;
        parts[1].style.setProperty("--p", p);
        parts[2].textContent = percent(p);
        line.append(...parts);
        return line;
      }),
    );
    answer();
  };

  // Of the row that was asked: how fast it forgets, and what it holds most of.
  const answer = () => {
    if (row < 0) return;
    const half = Math.LN2 / rates[row];
    const shares = sharesOf(row);
    const most = shares.indexOf(Math.max(...shares));
    const tokens = half < 10 ? half.toFixed(1) : Math.round(half).toLocaleString("en");
    const when = half < 1 ? "within one token" : `after ${tokens} tokens`;
    asked.textContent =
      `Row ${row + 1}: half of a word's weight is gone ${when}. ` +
      `Its largest share is “${sentence.words[most]}”, ${percent(shares[most])}.`;
  };

  const ask = (c) => {
    row = Math.min(rates.length - 1, Math.max(0, c));
    draw();
  };

  const play = (moving) => {
    clearInterval(timer);
    timer = moving ? setInterval(step, STEP) : null;
    const over = now === sentence.words.length - 1;
    button.textContent = moving ? "❚❚ Pause" : over ? "↺ Read again" : "▶ Go on";
  };

  const step = () => {
    if (now < sentence.words.length - 1) now += 1;
    draw();
    if (now === sentence.words.length - 1) play(false);
  };

  const spans = (words) =>
    words.flatMap((word, n) => {
      const span = document.createElement("span");
      span.textContent = word;
      return n ? [" ", span] : [span];
    });

  const choose = (n) => {
    sentence = sentences[n];
    const count = sentence.words.length;
    find(".cover-text").replaceChildren(...spans(sentence.words));
    find(".cover-words").replaceChildren(...spans(sentence.words).filter((part) => part !== " "));
    find(".cover-words").classList.toggle("few", sentence.few);
    svg.setAttribute("viewBox", `0 0 ${count * CELL[0]} ${rates.length * CELL[1]}`);
    svg.querySelector("title").textContent = sentence.alt;
    const places = sentence.words.flatMap((_, t) => rates.map((_, c) => [t * CELL[0], c * CELL[1]]));
    svg.querySelector("g").innerHTML = places.map(([x, y]) => `<rect x="${x}" y="${y}"/>`).join("");
    begin();
  };

  const begin = () => {
    now = 0;
    draw();
    play(true);
  };

  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  button.hidden = find(".cover-choice").hidden = false;
  button.addEventListener("click", () =>
    timer === null && now === sentence.words.length - 1 ? begin() : play(timer === null),
  );
  find(".cover-choice").addEventListener("change", (event) => {
    choose(+event.target.value);
    if (!still) return;
    now = sentence.words.length - 1;
    draw();
    play(false);
  });
  picture.tabIndex = 0;
  picture.setAttribute("role", "group");
  picture.setAttribute("aria-label", "The memory, row by row: the arrow keys ask a row");
  picture.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const c = Math.floor(((event.clientY - box.top) / box.height) * rates.length);
    if (c >= 0 && c < rates.length && c !== row) ask(c);
  });
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    ask(row + by);
  });
  asked.textContent = "Point at a row: it says how fast it forgets.";
  play(false);
  // The finished picture first; it reads by itself once, when it has come into view.
  new IntersectionObserver(
    ([seen], watcher) => {
      if (!seen.isIntersecting) return play(false);
      if (!still) setTimeout(() => figure.contains(document.activeElement) || timer || begin(), 3 * STEP);
      watcher.disconnect();
    },
    { threshold: 0.5 },
  ).observe(picture);
});
