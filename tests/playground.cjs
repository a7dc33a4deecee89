// node tests/playground.cjs FOLDER plain|kernel: run the playground's scripts without a page.
// Reads one JSON object from the standard input, {runs, traces, texts, normals, opened}, and writes what came of each.
const fs = require("fs"),
  path = require("path"),
  vm = require("vm");
const [folder, how] = process.argv.slice(2);
const load = (name) => vm.runInThisContext(fs.readFileSync(path.join(folder, name), "utf8"), { filename: name });
["data.js", "kernel.js", "text.js", "model.js", "experiments.js", "checkpoint.js", "tokenizer.js"].forEach(load);
const playground = globalThis.rwkvPlayground,
  manifest = playground.manifest;
const kernel = how === "kernel" ? playground.kernel : null;
const base64 = (buffer, from, length) => Buffer.from(buffer, from, length).toString("base64");

let filled = 0;
/** The book's model, loaded when a job needs it. */
function bookModel() {
  const room = playground.makeRoom(manifest, kernel);
  for (let i = 0; i < manifest.chunks; i++) {
    load(`weights-${i}.js`);
    const bytes = playground.fromBase64(playground[`weights${i}`]);
    new Uint8Array(room.buffer).set(bytes, filled);
    filled += bytes.length;
  }
  return { room, model: playground.createModel(playground.openWeights(manifest, room.buffer), room.multiply) };
}

/** The logits after each token, and the state after the last one. */
function run(model, tokens) {
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

/** A checkpoint and its tokenizer from the disk: what was said before, its tensors, its logits; or why it is refused. */
async function open({ weights, tokenizer, text }) {
  const file = async (name) => new File([await fs.openAsBlob(name)], path.basename(name));
  try {
    const checkpoint = await playground.inspectCheckpoint(await file(weights), manifest.checkpoint);
    const { sizes, bytes, dtypes, parameters } = checkpoint;
    const said = await playground.readTokenizer(await file(tokenizer), sizes.vocabulary);
    const { room, weights: opened } = await playground.readCheckpoint(checkpoint, kernel);
    const ids = playground.makeTokenizer(said).encode(text).ids;
    const tensors = checkpoint.tensors.map(({ name, shape, offset, scales }) =>
      shape.length === 1
        ? [name, base64(room.buffer, offset, 4 * shape[0])]
        : [name, base64(room.buffer, offset, shape[0] * shape[1]), base64(room.buffer, scales, 4 * shape[0])],
    );
    const std = playground.embeddingStd(opened.tensors["embedding.embedding.weight"]);
    const { logits } = run(playground.createModel(opened, room.multiply), ids);
    return { sizes, bytes, dtypes, parameters, ids, tensors, std, logits };
  } catch (error) {
    return { refused: error.message };
  }
}

(async () => {
  const job = JSON.parse(fs.readFileSync(0, "utf8"));
  const book = job.runs || job.traces ? bookModel() : null;
  const tokenizer = playground.makeTokenizer(playground.tokenizerData);
  const traces = [];
  for (const asked of job.traces ?? []) traces.push(await playground.causalTrace(book.model, asked));
  const opened = [];
  for (const asked of job.opened ?? []) opened.push(await open(asked));
  const result = {
    how: book?.room.how,
    bytes: [filled, manifest.bytes],
    runs: (job.runs ?? []).map((tokens) => run(book.model, tokens)),
    traces,
    opened,
    texts: (job.texts ?? []).map((text) => tokenizer.encode(text).ids),
    pieces: (job.pieces ?? []).map((ids) => tokenizer.decode(ids, { skip_special_tokens: false })),
    decoded: (job.decoded ?? []).map((bytes) => playground.decodeBytes(bytes)),
    bytesOf: (job.pieces ?? []).map((ids) => ids.flatMap((id) => playground.tokenBytes(tokenizer, id))),
    normals: (job.normals ?? []).map(([seed, count]) => Array.from(playground.normals(seed, count))),
    reshaped: (job.reshaped ?? []).map(([p, temperature, topP]) =>
      Array.from(playground.reshape(p, temperature, topP)),
    ),
  };
  process.stdout.write(JSON.stringify(result));
})();
