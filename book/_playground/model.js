// The model, one step at a time: the same arithmetic, under the same names, as rwkv_explainer/model.py.
// A vector is a Float32Array. A matrix is rows of int8 numbers, and one scale for each row.

(function (playground) {
  "use strict";

  /** One row at a time: the sum of weight times input. This is where almost all of the time goes. */
  function plainMultiply({ rows, columns, numbers, scales }, x) {
    const y = new Float32Array(rows);
    for (let row = 0, at = 0; row < rows; row++) {
      let sum = 0;
      for (let column = 0; column < columns; column++) sum += numbers[at++] * x[column];
      y[row] = scales[row] * sum;
    }
    return y;
  }

  /**
   * The model's functions, over the tensors of `openWeights`.
   * multiply(matrix, x) is plainMultiply, or the same in WebAssembly.
   */
  playground.createModel = function ({ sizes, tensors }, multiply = plainMultiply) {
    function step(token, state) {
      let x = embed(token);
      for (let i = 0; i < sizes.layers; i++) x = block(i, x, state[i]);
      return unembed(x); // (vocabulary,): what comes before the softmax
    }

    const embed = (token) => layerNorm("embedding.normalize_emb", rowOf(tensors["embedding.embedding.weight"], token));
    const unembed = (x) => times("unembedding.unembedding", layerNorm("unembedding.normalize_unemb", x));

    function block(i, x, memory) {
      x = plus(x, attention(`blocks.${i}.attention`, layerNorm(`blocks.${i}.ln1`, x), memory));
      return plus(x, gatedMLP(`blocks.${i}.gated_mlp`, layerNorm(`blocks.${i}.ln2`, x), memory));
    }

    function attention(name, x, memory) {
      const keys = times(`${name}.key`, mix(`${name}.key_mixer`, x, memory.attentionLastX));
      const values = times(`${name}.value`, mix(`${name}.value_mixer`, x, memory.attentionLastX));
      const gates = times(`${name}.receptance`, mix(`${name}.receptance_mixer`, x, memory.attentionLastX)).map(sigmoid);
      const average = readThenWrite(`${name}.memory`, keys, values, memory);
      memory.attentionLastX = x;
      const gated = average.map((read, c) => gates[c] * read);
      return times(`${name}.output`, gated);
    }

    function readThenWrite(name, keys, values, memory) {
      const gain = tensors[`${name}.log_gain`];
      const decay = tensors[`${name}.log_decay`];
      const read = keys.map((key, c) => joined(memory, c, gain[c] + key, values[c]));
      const logNormalizer = memory.logNormalizer.map((log, c) => log - Math.exp(decay[c]));
      const faded = { average: memory.average, logNormalizer };
      memory.average = keys.map((key, c) => joined(faded, c, key, values[c]));
      memory.logNormalizer = keys.map((key, c) => logAddExp(logNormalizer[c], key));
      memory.wrote = { keys, values };
      return read;
    }

    function gatedMLP(name, x, memory) {
      const latents = times(`${name}.key`, mix(`${name}.mlp_mixer`, x, memory.mlpLastX)).map(squaredReLU);
      const gates = times(`${name}.receptance`, mix(`${name}.receptance_mixer`, x, memory.mlpLastX)).map(sigmoid);
      memory.mlpLastX = x;
      return times(`${name}.value`, latents).map((value, c) => gates[c] * value);
    }

    const times = (name, x) => multiply(tensors[`${name}.weight`], x);
    const mix = (name, x, last) => tensors[`${name}.weight`].map((m, c) => m * x[c] + (1 - m) * last[c]);

    /** A vector with mean 0 and variance 1, then scaled and shifted. */
    function layerNorm(name, x) {
      const weight = tensors[`${name}.weight`],
        bias = tensors[`${name}.bias`];
      const mean = sumOf(x) / x.length;
      const variance = sumOf(x.map((value) => (value - mean) ** 2)) / x.length;
      return x.map((value, c) => ((value - mean) / Math.sqrt(variance + 1e-5)) * weight[c] + bias[c]);
    }

    /** The memory before the first token: nothing, whose logarithm is minus infinity. */
    function emptyState() {
      const zeros = () => new Float32Array(sizes.channels);
      return Array.from({ length: sizes.layers }, () => ({
        attentionLastX: zeros(),
        mlpLastX: zeros(),
        average: zeros(),
        logNormalizer: zeros().fill(-Infinity),
        wrote: { keys: zeros(), values: zeros() },
      }));
    }

    const tableRow = (token) => rowOf(tensors["embedding.embedding.weight"], token);
    const normalizeEmbedding = (row) => layerNorm("embedding.normalize_emb", row);
    const pieces = { embed, unembed, block, attention, gatedMLP, layerNorm, tableRow, normalizeEmbedding };
    return { sizes, step, emptyState, ...pieces };
  };

  /** The average over what is remembered in channel c and a value, with this logarithm of its weight. */
  function joined(memory, c, logWeight, value) {
    const share = sigmoid(logWeight - memory.logNormalizer[c]);
    return memory.average[c] + share * (value - memory.average[c]);
  }

  const squaredReLU = (x) => Math.max(x, 0) ** 2;
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const plus = (x, y) => x.map((value, c) => value + y[c]);
  const sumOf = (x) => x.reduce((sum, value) => sum + value, 0);
  const logAddExp = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));

  function rowOf({ columns, numbers, scales }, row) {
    return Float32Array.from(numbers.subarray(row * columns, (row + 1) * columns), (number) => number * scales[row]);
  }

  /** A copy of a state: a step replaces vectors and never changes one, so the vectors can be shared. */
  playground.copyState = (state) => state.map((memory) => ({ ...memory }));

  // -------------------------------------------------------------------------------------------------------------------
  // the weights

  /**
   * Room for all weights. With WebAssembly the kernel works on this very memory; x and y have their place behind it.
   * kernel: the compiled kernel.wat in base64, or null for plain JavaScript.
   */
  playground.makeRoom = function ({ bytes, sizes }, kernel) {
    const scratch = 4 * (Math.max(sizes.hidden, sizes.channels) + Math.max(sizes.vocabulary, sizes.hidden));
    const whole = playground.canRunKernel(kernel) && sizes.channels % 16 === 0 && sizes.hidden % 16 === 0;
    if (!whole) return { buffer: new ArrayBuffer(bytes), multiply: plainMultiply, how: "plain JavaScript" };
    const memory = new WebAssembly.Memory({ initial: Math.ceil((bytes + scratch) / 65536) });
    const run = new WebAssembly.Instance(new WebAssembly.Module(playground.fromBase64(kernel)), { rwkv: { memory } });
    const start = bytes,
      result = bytes + 4 * Math.max(sizes.hidden, sizes.channels);
    const multiply = ({ rows, columns, numbers, scales }, x) => {
      new Float32Array(memory.buffer, start, columns).set(x);
      run.exports.multiply(numbers.byteOffset, scales.byteOffset, start, result, rows, columns);
      return new Float32Array(memory.buffer, result, rows).slice();
    };
    return { buffer: memory.buffer, multiply, how: "WebAssembly" };
  };

  /** Whether this browser has WebAssembly with the 128-bit instructions that the kernel uses. */
  playground.canRunKernel = function (kernel) {
    try {
      return Boolean(kernel) && WebAssembly.validate(playground.fromBase64(kernel));
    } catch {
      return false;
    }
  };

  /** The tensors by name, each a view on its part of the buffer. */
  playground.openWeights = function ({ sizes, tensors }, buffer) {
    const views = {};
    for (const { name, shape, offset, scales } of tensors) {
      const [rows, columns] = shape;
      views[name] =
        shape.length === 1
          ? new Float32Array(buffer, offset, rows)
          : {
              rows,
              columns,
              numbers: new Int8Array(buffer, offset, rows * columns),
              scales: new Float32Array(buffer, scales, rows),
            };
    }
    return { sizes, tensors: views };
  };

  /** A 16-bit float's number. */
  playground.fromHalf = function (bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  };

  playground.fromBase64 = function (text) {
    const raw = atob(text),
      bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  };
})((globalThis.rwkvPlayground ??= {}));
