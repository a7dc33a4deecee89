// What follows a question waits until the reader has an answer (book/_ext/predict.py boxes it). The browser's search and
// links into a closed answer open it.
addEventListener("DOMContentLoaded", () => {
  const answers = [...document.querySelectorAll(".predict-answer")];
  const openers = new Map();

  function set(answer, open) {
    const button = openers.get(answer);
    if (open) answer.removeAttribute("hidden");
    else answer.setAttribute("hidden", "until-found");
    button.setAttribute("aria-expanded", open);
    button.textContent = open ? "Hide the answer again" : "I have an answer: show it";
    for (const all of document.querySelectorAll(".predict-all")) all.hidden = answers.every((one) => !one.hidden);
  }

  function make(words, style, click) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: style });
    button.textContent = words;
    button.addEventListener("click", click);
    return button;
  }

  for (const answer of answers) {
    const place = document.createElement("p");
    const button = make("", "predict-open", () => set(answer, Boolean(answer.hidden)));
    button.setAttribute("aria-controls", answer.id);
    openers.set(answer, button);
    place.append(button);
    if (answer === answers[0])
      place.append(
        make("Show all answers on this page", "predict-all", () => answers.forEach((one) => set(one, true))),
      );
    answer.previousElementSibling.append(place);
    answer.addEventListener("beforematch", () => set(answer, true));
  }
  for (const answer of answers) set(answer, false);

  /** A link may lead into an answer. */
  function openTarget() {
    const name = decodeURIComponent(location.hash.slice(1));
    const target = name && document.getElementById(name);
    const answer = target?.closest?.(".predict-answer");
    if (!answer?.hidden) return;
    set(answer, true);
    target.scrollIntoView();
  }
  addEventListener("hashchange", openTarget);
  openTarget();
});
