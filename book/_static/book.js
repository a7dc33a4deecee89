// What the theme leaves to do.

// Where the search led here, the words that were sought get marks. No other reader loads what that takes.
if (/[?&]highlight=/.test(location.search))
  for (const name of ["language_data.js", "marks.js"]) {
    const src = new URL(name, document.currentScript.src);
    document.head.append(Object.assign(document.createElement("script"), { src, async: false }));
  }

// What scrolls sideways can be scrolled by keyboard, and is no stop on the way where it does not.
function markScrollers() {
  const boxes =
    "figure.rwkv-graph > div, .rwkv-graph pre, .highlight pre, .output pre, " +
    ".cell_output .text_html, .cell_output .text_markdown, div.math, .pst-scrollable-table-container";
  const found = [...document.querySelectorAll(`article :is(${boxes})`)];
  // All are measured before one is changed: after a change the page is laid out anew for the next measurement.
  const scrolls = found.map((box) => box.scrollWidth > box.clientWidth + 1);
  found.forEach((box, n) => {
    if (scrolls[n]) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}

// A graph's drawing opens large in a dialog, which Escape closes; plus and minus zoom, and the box scrolls.
function offerZoom(figure) {
  const drawing = figure.querySelector("svg");
  const open = Object.assign(document.createElement("button"), { type: "button", className: "zoom-open" });
  open.textContent = "⤢";
  open.title = "Enlarge the graph";
  open.setAttribute("aria-label", `Enlarge: ${drawing.querySelector("title").textContent}`);
  open.addEventListener("click", () => showLarge(drawing, figure));
  figure.prepend(open);
}

function showLarge(drawing, figure) {
  const dialog = Object.assign(document.createElement("dialog"), { className: "zoom rwkv-graph" });
  const bar = Object.assign(document.createElement("form"), { method: "dialog" });
  const pane = Object.assign(document.createElement("div"), { tabIndex: 0 });
  const large = drawing.cloneNode(true);
  for (const part of [large, ...large.querySelectorAll("[id]")]) part.removeAttribute("id");
  large.removeAttribute("aria-labelledby");
  const title = drawing.querySelector("title").textContent;
  dialog.setAttribute("aria-label", title);
  large.setAttribute("aria-label", title);
  const natural = drawing.viewBox.baseVal.width;
  let scale = Math.max(1, Math.min(2, (0.9 * innerWidth) / natural));
  const resize = (factor) => {
    scale = Math.min(4, Math.max(0.25, scale * factor));
    large.style.cssText = `width: ${natural * scale}px; min-width: 0; max-width: none; height: auto`;
  };
  const controls = [
    ["−", "Smaller", () => resize(0.8)],
    ["+", "Larger", () => resize(1.25)],
    ["✕", "Close"],
  ];
  for (const [sign, name, action] of controls) {
    const button = Object.assign(document.createElement("button"), { textContent: sign, title: name });
    button.type = action ? "button" : "submit";
    button.setAttribute("aria-label", name);
    if (action) button.addEventListener("click", action);
    bar.append(button);
  }
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") resize(1.25);
    if (event.key === "-") resize(0.8);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    figure.querySelector(".zoom-open").focus();
  });
  resize(1);
  pane.append(large);
  dialog.append(bar, pane);
  figure.append(dialog);
  dialog.showModal();
  pane.focus();
}

// The page does not scroll behind what opens over it (book.css), and keeps its width then. To set a property of the page
// styles all of it anew, so it is set where the scrollbar takes room alone.
let scrollbar = 0;
function keepWidth() {
  const page = document.documentElement;
  const width = innerWidth - page.clientWidth;
  if (width === scrollbar || document.querySelector("dialog:modal")) return;
  scrollbar = width;
  page.style.setProperty("--scrollbar", `${width}px`);
}

// The theme's buttons give up the focus when they are pressed. By key they keep it, and what they opened gives it back.
let pressed = null;
function focusPressed() {
  if (document.activeElement === document.body) pressed?.focus({ preventScroll: true });
}
addEventListener(
  "click",
  ({ target, detail }) => {
    if (target.closest("dialog")) return;
    pressed = target.closest(".sidebar-toggle, .search-button__button, .theme-switch-button");
    if (!detail) setTimeout(focusPressed);
  },
  true,
);
addEventListener("close", () => setTimeout(focusPressed), true);

// Escape closes what is open over the page. Sphinx keeps this key from the browser, except in fields and on buttons.
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) [...document.querySelectorAll("dialog:modal")].at(-1)?.close();
});

// Paper is white, and nothing can be opened on it.
function printLightAndOpen(printing) {
  const page = document.documentElement;
  if (printing.matches) {
    page.dataset.screenTheme = page.dataset.theme;
    page.dataset.theme = "light";
  } else if (page.dataset.screenTheme) page.dataset.theme = page.dataset.screenTheme;
  for (const folded of document.querySelectorAll(printing.matches ? "article details:not([open])" : "details.printed"))
    folded.open = folded.classList.toggle("printed", printing.matches);
}
matchMedia("print").addEventListener("change", printLightAndOpen);

addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article .rwkv-graph").forEach(offerZoom);
  new ResizeObserver(() => {
    markScrollers();
    keepWidth();
  }).observe(document.body);
});
