// What one can ask a running model: what it would say at each layer, what a channel remembers, where a fact is kept.
// Numbers in, numbers out; app.js draws them. rwkv_explainer/lab/tracing.py is the same causal trace in Python.

(function (playground) {
  "use strict";

  /** Probabilities, from what comes before the softmax. */
  playground.softmax = function (logits) {
    const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const weights = Float64Array.from(logits, (z) => Math.exp(z - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / sum);
  };

  /** Flattened or sharpened by temperature, cut by top-p: `adjust_probabilities` in rwkv_explainer/generation.py. */
  playground.reshape = function (probabilities, temperature, topP) {
    if (temperature === 1 && topP >= 1) return Float64Array.from(probabilities); // as they are
    const order = playground.ranking(probabilities);
    if (temperature === 0) return Float64Array.from(probabilities, (_, token) => (token === order[0] ? 1 : 0));
    const changed = playground.softmax(Float64Array.from(probabilities, (p) => Math.log(p) / temperature));
    const kept = new Float64Array(changed.length);
    let sum = 0;
    for (const token of order) {
      if (sum >= topP && topP < 1) break;
      kept[token] = changed[token];
      sum += changed[token];
    }
    return kept.map((p) => p / sum);
  };

  /** Token ids, the likeliest first. */
  playground.ranking = (probabilities) =>
    Uint32Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a] || a - b);

  /** The `count` likeliest tokens: [id, probability] each. */
  playground.best = function (probabilities, count) {
    const found = [];
    for (let token = 0; token < probabilities.length; token++) {
      if (found.length === count && probabilities[token] <= found[count - 1][1]) continue;
      found.push([token, probabilities[token]]);
      found.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
      if (found.length > count) found.pop();
    }
    return found;
  };

  /** A token drawn from probabilities, with a number from 0 to 1. */
  playground.draw = function (probabilities, random) {
    let left = random,
      last = 0;
    for (let token = 0; token < probabilities.length; token++) {
      if (probabilities[token] > 0) last = token;
      left -= probabilities[token];
      if (left < 0) return token;
    }
    return last;
  };

  /** One moment of a run: a step that keeps what it saw. `state` is changed to what it is after the token. */
  playground.observe = function (model, token, state) {
    const streams = [model.embed(token)];
    for (let i = 0; i < model.sizes.layers; i++) streams.push(model.block(i, streams[i], state[i]));
    const logits = model.unembed(streams[model.sizes.layers]);
    const probabilities = Float32Array.from(playground.softmax(logits)); // half the memory: every moment keeps its own
    return { token, streams, probabilities, state: playground.copyState(state) };
  };

  /** What each layer would have said: the stream after each of them, through the last norm and the unembedding. */
  playground.lens = (model, streams) => streams.map((x) => playground.softmax(model.unembed(x)));

  /**
   * How much of what channels remember comes from each token, right after the last one: rows are tokens.
   * keys: for each token, the channels' keys. A weight is exp(key) when written, and fades by exp(-rate) a token.
   */
  playground.shares = function (keys, rates) {
    const last = keys.length - 1;
    const logs = keys.map((key, j) => key.map((k, c) => k - (last - j) * rates[c]));
    const most = rates.map((_, c) => logs.reduce((a, row) => Math.max(a, row[c]), -Infinity));
    const sums = rates.map((_, c) => logs.reduce((sum, row) => sum + Math.exp(row[c] - most[c]), 0));
    return logs.map((row) => row.map((log, c) => Math.exp(log - most[c]) / sums[c]));
  };

  /** One channel through time: at each moment the weight that each token has left, and the average of the values. */
  playground.channelHistory = function (keys, values, rate, c) {
    return keys.map((_, t) => {
      const weights = keys.slice(0, t + 1).map((key, j) => Math.exp(key[c] - (t - j) * rate));
      const sum = weights.reduce((a, b) => a + b, 0);
      const average = weights.reduce((total, weight, j) => total + weight * values[j][c], 0) / sum;
      return { weights, sum, average, value: values[t][c] };
    });
  };

  // -------------------------------------------------------------------------------------------------------------------
  // chance that can be repeated

  /** Numbers from 0 to 1, the same for the same seed: the generator mulberry32. */
  playground.random = function (seed) {
    return function () {
      seed = (seed + 0x6d2b79f5) | 0;
      let z = Math.imul(seed ^ (seed >>> 15), seed | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
    };
  };

  /** Numbers from the normal distribution, by Box and Muller. */
  playground.normals = function (seed, count) {
    const uniform = playground.random(seed);
    return Float64Array.from({ length: count }, () => {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      return radius * Math.cos(2 * Math.PI * uniform());
    });
  };

  // -------------------------------------------------------------------------------------------------------------------
  // the causal trace

  /**
   * Where the model keeps a fact. Noise hides the subject; then one cell, a token and a layer, is put back as it was.
   *
   * tokens: the prompt's ids. subject: [first, last] of the tokens that the noise covers. answer: the id to score.
   * noise: samples x subject's tokens x channels, to be added to the rows of the embedding table.
   * restore: "activation" puts a block's output back, "state" what it holds after the token, "memory" and "mixers" the
   * parts of that, "both" activation and state, "attention" and "mlp" the update of that half of the block.
   * progress(share) is awaited between cells, and may throw to stop.
   *
   * Gives log-probabilities: clean, corrupted (a sample each), grid (tokens x layers x samples).
   */
  playground.causalTrace = async function (model, { tokens, subject, answer, noise, restore = "both", progress }) {
    const layers = model.sizes.layers;
    const rows = tokens.map((token) => model.tableRow(token));
    const clean = recording(model, rows);
    const score = (x) => Math.log(playground.softmax(model.unembed(x))[answer]);
    const grid = tokens.map(() => Array.from({ length: layers }, () => []));
    const corrupted = [];
    for (let sample = 0; sample < noise.length; sample++) {
      const spoiled = rows.map((row, t) =>
        t < subject[0] || t > subject[1] ? row : row.map((value, c) => value + noise[sample][t - subject[0]][c]),
      );
      const untouched = recording(model, spoiled);
      corrupted.push(score(untouched.streams.at(-1)[layers]));
      for (let t = 0; t < tokens.length; t++) {
        for (let i = 0; i < layers; i++) {
          await progress?.(
            (sample * tokens.length * layers + t * layers + i) / (noise.length * tokens.length * layers),
          );
          grid[t][i].push(score(patchedRun(model, untouched, clean, t, i, restore)));
        }
      }
    }
    return { clean: score(clean.streams.at(-1)[layers]), corrupted, grid };
  };

  /** A run over rows of the embedding table: for each token the stream before and after each block, and all states. */
  function recording(model, rows) {
    const state = model.emptyState(),
      streams = [],
      states = [];
    for (const row of rows) {
      const x = [model.normalizeEmbedding(row)];
      for (let i = 0; i < model.sizes.layers; i++) x.push(model.block(i, x[i], state[i]));
      streams.push(x);
      states.push(playground.copyState(state));
    }
    return { streams, states };
  }

  /**
   * The last token's stream in a run that is like `untouched`, but for what is restored at token t and layer i.
   * Below layer i, and before token t, nothing differs: there the untouched run's numbers are taken.
   */
  function patchedRun(model, untouched, clean, t, i, restore) {
    const empty = model.emptyState();
    const before = (at) => ({ ...(t ? untouched.states[t - 1] : empty)[at] });
    const after = restored(model, untouched, clean, t, i, restore, before(i));
    const state = untouched.states[t].map((_, at) => (at === i ? after.memory : before(at)));
    let x = after.x;
    for (let at = i + 1; at < model.sizes.layers; at++) x = model.block(at, x, state[at]);
    for (let now = t + 1; now < untouched.streams.length; now++) {
      x = untouched.streams[now][i];
      for (let at = i; at < model.sizes.layers; at++) x = model.block(at, x, state[at]);
    }
    return x;
  }

  /** What the cell itself leaves: the stream after it, and what its block then remembers. */
  function restored(model, untouched, clean, t, i, restore, memory) {
    const [noisy, kept] = [untouched, clean].map((run) => ({
      x: run.streams[t][i + 1],
      memory: { ...run.states[t][i] },
    }));
    if (restore === "both") return kept;
    if (restore === "activation") return { x: kept.x, memory: noisy.memory };
    if (restore === "state") return { x: noisy.x, memory: kept.memory };
    const { average, logNormalizer, attentionLastX, mlpLastX } = kept.memory;
    if (restore === "memory") return { x: noisy.x, memory: { ...noisy.memory, average, logNormalizer } };
    if (restore === "mixers") return { x: noisy.x, memory: { ...noisy.memory, attentionLastX, mlpLastX } };
    // one half's update: the clean run's, then (after attention) the MLP as it comes
    const cleanMemory = { ...(t ? clean.states[t - 1] : model.emptyState())[i] };
    const half = (run, memories) => {
      const x = run.streams[t][i];
      const middle = add(x, model.attention(`blocks.${i}.attention`, model.layerNorm(`blocks.${i}.ln1`, x), memories));
      return { x, middle };
    };
    const own = half(untouched, memory),
      other = half(clean, cleanMemory);
    const mlp = (x, memories) =>
      model.gatedMLP(`blocks.${i}.gated_mlp`, model.layerNorm(`blocks.${i}.ln2`, x), memories);
    if (restore === "mlp") {
      mlp(own.middle, memory); // the memory is the noisy run's
      return { x: add(own.middle, mlp(other.middle, cleanMemory)), memory };
    }
    const middle = own.x.map((value, c) => value + other.middle[c] - other.x[c]);
    return { x: add(middle, mlp(middle, memory)), memory };
  }

  const add = (x, y) => x.map((value, c) => value + y[c]);
})((globalThis.rwkvPlayground ??= {}));
