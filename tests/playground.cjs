// node tests/playground.cjs FOLDER plain|kernel: run the playground's scripts without a page.
// Reads one JSON object from the standard input, {runs, traces, texts, normals}, and writes what came of each.
const fs = require("fs"),
  path = require("path"),
  vm = require("vm");
const [folder, how] = process.argv.slice(2);
const load = (name) => vm.runInThisContext(fs.readFileSync(path.join(folder, name), "utf8"), { filename: name });
["data.js", "kernel.js", "model.js", "experiments.js", "tokenizer.js"].forEach(load);
const playground = globalThis.rwkvPlayground,
  manifest = playground.manifest;

const room = playground.makeRoom(manifest, how === "kernel" ? playground.kernel : null);
let filled = 0;
for (let i = 0; i < manifest.chunks; i++) {
  load(`weights-${i}.js`);
  const bytes = playground.fromBase64(playground[`weights${i}`]);
  new Uint8Array(room.buffer).set(bytes, filled);
  filled += bytes.length;
}
const model = playground.createModel(playground.openWeights(manifest, room.buffer), room.multiply);
const tokenizer = playground.makeTokenizer(playground.tokenizerData);

/** The logits after each token, and the state after the last one. */
function run(tokens) {
  const state = model.emptyState();
  const start = performance.now();
  const logits = tokens.map((token) => Array.from(model.step(token, state)));
  const milliseconds = (performance.now() - start) / tokens.length;
  const buffers = ["attentionLastX", "mlpLastX", "average", "logNormalizer"];
  return {
    logits,
    milliseconds,
    state: state.map((memory) => Object.fromEntries(buffers.map((name) => [name, Array.from(memory[name])]))),
  };
}

(async () => {
  const job = JSON.parse(fs.readFileSync(0, "utf8"));
  const traces = [];
  for (const asked of job.traces ?? []) traces.push(await playground.causalTrace(model, asked));
  const result = {
    how: room.how,
    bytes: [filled, manifest.bytes],
    runs: (job.runs ?? []).map(run),
    traces,
    texts: (job.texts ?? []).map((text) => tokenizer.encode(text).ids),
    pieces: (job.pieces ?? []).map((ids) => tokenizer.decode(ids, { skip_special_tokens: false })),
    normals: (job.normals ?? []).map(([seed, count]) => Array.from(playground.normals(seed, count))),
    reshaped: (job.reshaped ?? []).map(([p, temperature, topP]) =>
      Array.from(playground.reshape(p, temperature, topP)),
    ),
  };
  process.stdout.write(JSON.stringify(result));
})();
