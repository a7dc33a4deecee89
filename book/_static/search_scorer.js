// How search orders what it finds: chapters first, then the reference of the package, whose full names hold every word.
var Scorer = {
  score: ([document, , , , score]) => score - (/^(api|genindex)$/.test(document) ? 1000 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
