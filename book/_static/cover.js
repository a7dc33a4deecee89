// Moves the cover's picture: one token a step, each cell's strength the token's share of its channel's memory by then.
addEventListener("DOMContentLoaded", () => {
  const figure = document.getElementById("cover");
  if (!figure) return;
  const STEP = 650,
    HOLD = 8; // milliseconds a token; steps that the last moment stays
  const { keys, rates } = JSON.parse(figure.querySelector("script").textContent);
  const cells = figure.querySelectorAll("rect"),
    words = figure.querySelectorAll(".cover-text span");
  const button = figure.querySelector("button");
  let now = keys.length - 1,
    timer = null;

  const show = () => {
    rates.forEach((rate, c) => {
      const weights = keys.map((key, t) => (t > now ? -Infinity : key[c] - (now - t) * rate));
      const top = Math.max(...weights);
      const sum = weights.reduce((total, w) => total + Math.exp(w - top), 0);
      weights.forEach((w, t) => {
        const cell = cells[t * rates.length + c];
        cell.setAttribute("fill-opacity", (Math.exp(w - top) / sum).toFixed(2));
        cell.classList.toggle("new", t === now);
      });
    });
    words.forEach((word, t) => {
      word.className = t === now ? "new" : t < now ? "" : "ahead";
    });
  };

  const play = (moving, atOnce) => {
    clearInterval(timer);
    timer = null;
    let held = atOnce && now === keys.length - 1 ? HOLD : 0;
    if (moving)
      timer = setInterval(() => {
        if (now < keys.length - 1) now += 1;
        else if (held++ < HOLD) return;
        else now = held = 0;
        show();
      }, STEP);
    button.textContent = moving ? "❚❚ Pause" : "▶ Play";
    button.setAttribute("aria-label", moving ? "Pause the picture" : "Play the picture");
  };

  button.hidden = false;
  button.addEventListener("click", () => play(timer === null, true));
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches, false); // the finished picture first
});
