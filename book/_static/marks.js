// Which words of a text a reader seeks, and marks on them: on the page of results, and where one lands from there.

const stemmer = new Stemmer();
const stems = new Map();
const stemOf = (word) => {
  if (!stems.has(word)) stems.set(word, stemmer.stemWord(word.replace(/lives$/, "life")));
  return stems.get(word);
};

/** A text's words. Those of a name, as in `log_decay` or `LayerNorm`, and of a compound are words too, but joined. */
function wordsOf(text) {
  const words = [];
  let end = 0;
  for (const { 0: word, index } of text.matchAll(/\p{Lu}+(?!\p{Ll})\p{N}*|\p{Lu}?[\p{Ll}\p{Lo}]+\p{N}*|\p{N}+/gu)) {
    const joined = words.length > 0 && /^[-_./’']?$/.test(text.slice(end, index));
    words.push({ word: word.toLowerCase(), start: index, end: (end = index + word.length), joined });
  }
  return words;
}

/**
 * What is sought: each word or compound of a query, such as "top-p"; one that ends in a star begins others. What code
 * calls rwkv.name stands in the reference under the module's name.
 */
function termsOf(query) {
  const terms = query.split(/\s+/).map((part) => ({
    text: wordsOf(part.replace(/^rwkv\.(?=.)/, ""))
      .map(({ word }) => word)
      .join(""),
    begins: part.endsWith("*"),
  }));
  const told = terms.filter(({ text }) => text && !stopwords.includes(text));
  return told.length ? told : terms.filter(({ text }) => text);
}

/** Where a term stands among these words, as pairs: its first word and its last. */
function placesOf({ text, begins }, words) {
  const places = [];
  const stem = stemOf(text);
  const isIt = (word) => (begins ? word.startsWith(text) : stemOf(word) === stem);
  for (let first = 0; first < words.length; first++) {
    if (words[first].word[0] !== text[0]) continue;
    let whole = words[first].word;
    let last = first;
    while (!isIt(whole) && whole.length < text.length && words[last + 1]?.joined) whole += words[++last].word;
    if (isIt(whole)) places.push([first, last]);
  }
  return places;
}

/** Mark a query's words in an element's prose, and tell where they are. */
function markWords(root, query) {
  const unread = "script, style, svg, button, details, .cell, .math, .headerlink, mjx-container, .highlight";
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) =>
    node.matches?.(unread) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
  );
  const terms = termsOf(query);
  const ranges = [];
  while (texts.nextNode()) {
    if (texts.currentNode.nodeType !== Node.TEXT_NODE) continue;
    const words = wordsOf(texts.currentNode.data);
    for (const [first, last] of terms.flatMap((term) => placesOf(term, words))) {
      const range = document.createRange();
      range.setStart(texts.currentNode, words[first].start);
      range.setEnd(texts.currentNode, words[last].end);
      ranges.push(range);
    }
  }
  window.CSS?.highlights?.set("sought", new Highlight(...ranges));
  return ranges;
}

/** A page that the search led to, when it stands: the first mark from its anchor on is opened to and shown. */
async function landOn(query) {
  if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done));
  await window.MathJax?.startup?.promise;
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const isBehind = ({ startContainer: text }) =>
    !place || place.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
  const first = markWords(document.querySelector("article"), query).find(isBehind);
  first?.startContainer.parentElement.closest(".predict-answer[hidden]")?.dispatchEvent(new Event("beforematch"));
  const { top, bottom } = first?.getBoundingClientRect() ?? {};
  if (top < 100 || bottom > innerHeight) scrollBy({ top: top - innerHeight / 3, behavior: "instant" }); // a bar is on top
}

const cameFor = new URLSearchParams(location.search).get("highlight");
if (cameFor) landOn(cameFor);
addEventListener("keydown", ({ key }) => key === "Escape" && window.CSS?.highlights?.delete("sought"));
