// The slides of a chapter (tools/slides.py): one at a time, as large as fits, with keys, notes and a window for the speaker.
// Without this script, all slides stand below each other with their notes.
addEventListener("DOMContentLoaded", () => {
  "use strict";

  const slides = [...document.querySelectorAll(".slide")];
  const page = document.documentElement;
  let now = 0;
  let speaker = null;
  const started = Date.now();

  // -------------------------------------------------------------------------------------------------------------------
  // which slide

  function show(number, focus = true) {
    now = Math.min(Math.max(number, 0), slides.length - 1);
    slides.forEach((slide, n) => (slide.hidden = n !== now));
    place.textContent = `${now + 1} / ${slides.length}`;
    history.replaceState(null, "", `#${now + 1}`);
    if (focus) slides[now].focus({ preventScroll: true });
    fit(slides[now]);
    tellSpeaker();
  }

  /** The next slide, or first the answer to this one's question. */
  function next() {
    const closed = slides[now].querySelector('.predict-open[aria-expanded="false"]');
    if (closed) closed.click();
    else show(now + 1);
    tellSpeaker();
  }

  const previous = () => show(now - 1);
  const fromAddress = () => show((parseInt(location.hash.slice(1), 10) || 1) - 1, false);

  // -------------------------------------------------------------------------------------------------------------------
  // how large

  /** What stands on a slide is laid out in a column of a page's width, then made as large as the slide has room for. */
  function fit(slide) {
    const [stage, sized, content] = ["stage", "sized", "content"].map((name) => slide.querySelector(`.${name}`));
    const [width, height] = [content.offsetWidth, content.offsetHeight];
    if (!width || !height) return;
    const whole = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    const scale = Math.max(whole, Math.min(0.6, stage.clientWidth / width)); // what would be tiny scrolls instead
    content.style.transform = `scale(${scale})`;
    sized.style.width = `${width * scale}px`;
    sized.style.height = `${Math.floor(height * scale)}px`;
    if (stage.scrollHeight > stage.clientHeight + 1) stage.tabIndex = 0;
    else stage.removeAttribute("tabindex");
  }

  const watch = new ResizeObserver((seen) => seen.forEach(({ target }) => fit(target.closest(".slide"))));
  for (const part of document.querySelectorAll(".slide .content, .slide .stage")) watch.observe(part);

  // Paper shows all slides with their answers, so all need their size.
  let closed = [];
  const click = (buttons) => buttons.forEach((one) => one.click());

  function spread() {
    if (page.classList.contains("printing")) return;
    page.classList.add("printing");
    slides.forEach((slide) => (slide.hidden = false));
    closed = [...document.querySelectorAll('.predict-open[aria-expanded="false"]')];
    click(closed);
    slides.forEach(fit);
  }

  function gather() {
    if (!page.classList.contains("printing")) return;
    page.classList.remove("printing");
    click(closed);
    show(now, false);
  }

  addEventListener("beforeprint", spread);
  addEventListener("afterprint", gather);
  matchMedia("print").addEventListener("change", ({ matches }) => (matches ? spread() : gather()));

  // -------------------------------------------------------------------------------------------------------------------
  // light and dark

  const system = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => (page.dataset.theme = system.matches ? "dark" : "light");
  const otherTheme = () => (page.dataset.theme = page.dataset.theme === "dark" ? "light" : "dark");
  system.addEventListener("change", follow);
  follow();

  // -------------------------------------------------------------------------------------------------------------------
  // notes, and the speaker's window

  const toggleNotes = () => page.classList.toggle("with-notes");

  /** Styles as they are now, those that MathJax adds included. A linked file's rules may not be read: it is linked. */
  function copyStyles(into) {
    for (const sheet of document.styleSheets) {
      const owner = sheet.ownerNode;
      const copy = into.createElement(owner.localName);
      if (owner.localName === "link") Object.assign(copy, { rel: "stylesheet", href: owner.href });
      else copy.textContent = [...sheet.cssRules].map((rule) => rule.cssText).join("\n");
      into.head.append(copy);
    }
  }

  function openSpeaker() {
    if (speaker && !speaker.closed) return speaker.focus();
    speaker = open("", "", "width=900,height=700");
    if (!speaker) return;
    const room = speaker.document;
    room.documentElement.lang = "en";
    room.documentElement.className = "speaker";
    room.documentElement.dataset.theme = page.dataset.theme;
    room.title = `Notes: ${document.title}`;
    copyStyles(room);
    speaker.addEventListener("keydown", onKey);
    tellSpeaker();
  }

  function tellSpeaker() {
    if (!speaker || speaker.closed) return;
    const heading = (slide) => slide?.querySelector("header h1").textContent ?? "the end";
    const minutes = Math.floor((Date.now() - started) / 60_000);
    const line = speaker.document.createElement("p");
    line.textContent = `${now + 1} / ${slides.length} · ${minutes} min · next: ${heading(slides[now + 1])}`;
    const title = speaker.document.createElement("h1");
    title.textContent = heading(slides[now]);
    const notes = speaker.document.importNode(slides[now].querySelector(".notes"), true);
    speaker.document.body.replaceChildren(line, title, notes);
  }
  setInterval(tellSpeaker, 20_000);

  // -------------------------------------------------------------------------------------------------------------------
  // keys and buttons

  const KEYS = {
    ArrowRight: next,
    PageDown: next,
    " ": next,
    ArrowLeft: previous,
    PageUp: previous,
    Home: () => show(0),
    End: () => show(slides.length - 1),
    n: toggleNotes,
    s: openSpeaker,
    d: otherTheme,
    f: () => (document.fullscreenElement ? document.exitFullscreen() : page.requestFullscreen()),
  };
  const PAGING = ["PageDown", "PageUp"]; // what a pointing device sends; no figure wants it

  /** Whether a key belongs to what has the focus: a slider, a field, a button, a figure that is read by keyboard. */
  function isTaken(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return true;
    if (PAGING.includes(event.key)) return false;
    return Boolean(event.target.closest?.("input, select, textarea, button, summary, a, .lv-picture, dialog"));
  }

  function onKey(event) {
    const act = event.key === " " && event.shiftKey ? previous : KEYS[event.key];
    if (!act || isTaken(event)) return;
    event.preventDefault();
    act();
  }
  document.addEventListener("keydown", onKey);

  function button(words, key, act, name = words) {
    const title = `${name} (${key})`;
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: words, title });
    made.setAttribute("aria-label", name);
    made.addEventListener("click", act);
    return made;
  }

  const bar = document.createElement("nav");
  bar.className = "slides-bar";
  bar.setAttribute("aria-label", "Slides");
  const place = document.createElement("span");
  bar.append(
    button("‹", "left arrow", previous, "Previous slide"),
    place,
    button("›", "right arrow or space", next, "Next slide, or the answer"),
    button("Notes", "n", toggleNotes),
    button("Speaker", "s", openSpeaker, "Speaker's window"),
    button("Light/dark", "d", otherTheme),
    button("Full screen", "f", KEYS.f),
  );
  document.body.append(bar);

  page.classList.add("running");
  addEventListener("hashchange", fromAddress);
  fromAddress();
});
