// A term of the glossary shows its meaning under the pointer and on keyboard focus (book/_ext/glossary.py marks them).
// Escape hides it, the pointer may rest on it, and on a touch screen the first tap shows it, the second one follows it.
document.addEventListener("DOMContentLoaded", () => {
  const terms = document.querySelectorAll("a.term");
  if (!terms.length) return;
  const note = document.createElement("div");
  note.id = "term-note";
  note.setAttribute("role", "tooltip");
  note.hidden = true;
  document.body.append(note);
  let shown = null;
  let waiting = 0;

  const hide = () => {
    clearTimeout(waiting);
    shown?.removeAttribute("aria-describedby");
    shown = null;
    note.hidden = true;
  };
  const hideSoon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(hide, 200);
  };

  const show = (term) => {
    hide();
    shown = term;
    note.textContent = term.dataset.note;
    note.hidden = false;
    term.setAttribute("aria-describedby", note.id);
    const word = term.getClientRects()[0];
    const left = Math.min(word.left, document.documentElement.clientWidth - note.offsetWidth - 8);
    const below = word.bottom + 6;
    const above = word.top - note.offsetHeight - 6;
    const fits = below + note.offsetHeight < window.innerHeight || above < 0;
    note.style.left = `${Math.max(8, left) + window.scrollX}px`;
    note.style.top = `${(fits ? below : above) + window.scrollY}px`;
  };

  for (const term of terms) {
    let touched = false;
    term.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "mouse") return;
      clearTimeout(waiting);
      waiting = setTimeout(() => show(term), 250);
    });
    term.addEventListener("pointerleave", hideSoon);
    term.addEventListener("pointerdown", (event) => {
      touched = event.pointerType === "touch" && shown !== term;
    });
    term.addEventListener("click", (event) => {
      if (touched) {
        event.preventDefault();
        show(term);
        touched = false;
      }
    });
    term.addEventListener("focus", () => {
      if (term.matches(":focus-visible")) show(term);
    });
    term.addEventListener("blur", hide);
  }
  note.addEventListener("pointerenter", () => clearTimeout(waiting));
  note.addEventListener("pointerleave", hideSoon);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  document.addEventListener("pointerdown", (event) => {
    if (event.target !== shown && !note.contains(event.target)) hide();
  });
});
