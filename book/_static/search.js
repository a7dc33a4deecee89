// Search by section (book/_ext/search_index.py): takes the place of Sphinx' ranking and of its list of results.

const SNIPPET = 240; // characters

/** What is sought as one name: two queries of the same words, inflected or not, have the same. */
const nameOf = (query) =>
  termsOf(query)
    .map(({ text }) => stemOf(text))
    .join(" ");

/** The index, when it comes: each section gets its words, and the headings from its page's title down to its own. */
Search.setIndex = ({ pages, sections, homes }) => {
  const path = [];
  Search._index = {
    homes: new Map(Object.entries(homes).map(([term, pages]) => [nameOf(term), pages])),
    sections: sections.map(([page, depth, anchor, title, text]) => {
      path.splice(depth, path.length, title);
      const [name, rank] = pages[page];
      const isExercise = title.startsWith("Exercise:"); // whose titles play
      const headings = path.slice(0, isExercise ? -1 : undefined).join(" ");
      const words = { title: wordsOf(title), path: wordsOf(headings), text: wordsOf(text) };
      return { page, name, rank, depth, anchor, text, words, isExercise, path: [...path] };
    }),
  };
  if (Search._queued_query !== null) Search.query(Search._queued_query);
};

/** How well a section answers: how many of the terms it has, in which group of results it stands, and how high. */
function rate(section, terms, homes) {
  const { title, text, path } = section.words;
  const titled = terms.map((term) => placesOf(term, title));
  const told = terms.map((term) => placesOf(term, text));
  const above = terms.map((term) => placesOf(term, path).length > 0);
  const has = terms.filter((_, n) => titled[n].length || told[n].length || above[n]);
  const together = told.reduce((before, places) =>
    places.filter(([first]) => before.some(([, last]) => last + 1 === first)),
  );
  const isNamed = !section.isExercise && titled.every((places) => places.length);
  const isHome = section.rank === 0 && homes.includes(section.page);
  const share = titled.reduce((sum, [place]) => sum + (place ? place[1] - place[0] + 1 : 0), 0) / title.length;
  return {
    section,
    has: [...titled, ...told].some((places) => places.length) ? has.length : 0, // what is above alone is said elsewhere
    group: section.rank === 2 ? 4 : section.rank + (isNamed || isHome ? 0 : 2),
    score:
      (isNamed ? 1 + share + (section.depth === 0) : 0) +
      (isHome ? 2 : 0) +
      (section.depth === 0 ? 0.5 : 0) +
      above.filter(Boolean).length / terms.length +
      Math.log2(1 + together.length + Math.min(...told.map((places) => places.length))) / 4,
    hit: together[0] ?? told.find((places) => places.length)?.[0] ?? [0],
  };
}

/**
 * The sections that have all terms, or else the most: of chapters and the pages around them those with the terms in
 * their heading, or in a chapter that introduces the term, then the others, then the package's reference. Terms that
 * stand nowhere as whole words become beginnings of words.
 */
function find(terms, homes) {
  const { sections } = Search._index;
  for (const term of terms)
    term.begins ||= !sections.some(({ words }) => [words.title, words.text].some((all) => placesOf(term, all).length));
  const rated = sections.map((section) => rate(section, terms, homes));
  const most = Math.max(1, ...rated.map(({ has }) => has));
  return rated.filter(({ has }) => has === most).sort((a, b) => a.group - b.group || b.score - a.score);
}

/** The prose around a hit, from the beginning of its sentence where that is near. */
function snippet({ text, words }, [first]) {
  const hit = words.text[first]?.start ?? 0;
  const sentence = text.lastIndexOf(". ", hit) + 2;
  const near = hit - sentence < SNIPPET / 2;
  const start = sentence < 2 && near ? 0 : near ? sentence : text.lastIndexOf(" ", hit - SNIPPET / 3) + 1;
  const rest = text.slice(start);
  const end = rest.length > SNIPPET ? rest.lastIndexOf(" ", SNIPPET) : rest.length;
  return (near ? "" : "… ") + rest.slice(0, end) + (end < rest.length ? " …" : "");
}

Search.query = (query) => {
  const terms = termsOf(query);
  const found = terms.length ? find(terms, Search._index.homes.get(nameOf(query)) ?? []) : [];
  const sought = terms.map(({ text, begins }) => text + (begins ? "*" : "")).join(" ");
  for (const { section, hit } of found) {
    const item = document.createElement("li");
    const link = Object.assign(document.createElement("a"), { textContent: section.path.join(" › ") });
    link.href = `${section.name}.html?highlight=${encodeURIComponent(sought)}#${section.anchor}`;
    item.append(link, Object.assign(document.createElement("p"), { className: "context" }));
    item.lastChild.textContent = snippet(section, hit);
    Search.output.append(item);
  }
  markWords(Search.output, sought);
  const pages = new Set(found.map(({ section }) => section.page)).size;
  const all = !found.length || found[0].has === terms.length;
  Search.stopPulse();
  Search.title.textContent = "Search results";
  Search.status.textContent =
    (all ? "" : "No section has all of these words. These have the most. ") +
    (found.length
      ? `Sections: ${found.length}, on ${pages} page${pages > 1 ? "s" : ""}.`
      : "No page has these words in its text. Code, formulas, and what is folded or shown by a cell are not searched.");
};
