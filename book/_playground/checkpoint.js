// A checkpoint of the reader's own: an RWKV-4 in a file on the disk, opened by the page and sent nowhere.
// First only the file's header is read, and refused in words if it is no such model: `load_weights` in
// rwkv_explainer/checkpoints.py asks for the same. Then the tensors come in slices, and each row of a matrix is rounded
// to int8 on its way in, as `quantize_rows` does it, so that the file never lies in memory as a whole.

(function (playground) {
  "use strict";

  const SLICE = 1 << 23; // bytes that are read at a time
  const LARGEST_HEADER = 1 << 26; // bytes; a model's is some thousand
  const LARGEST_ROOM = 2 ** 32 - 2 ** 16; // bytes that WebAssembly can address, but for a page
  const ZIP_END = 22; // bytes of the record that ends a zip file, which a comment of up to 65,535 may follow

  class Refused extends Error {}

  /** How many bytes, as one says it. */
  playground.megabytes = (bytes) =>
    bytes < 1e6
      ? `${Math.ceil(bytes / 1e3)} kB`
      : bytes < 1e9
        ? `${Math.round(bytes / 1e6)} MB`
        : `${(bytes / 1e9).toFixed(1)} GB`;

  const bytesOf = async (file, start, end) => new Uint8Array(await file.slice(start, end).arrayBuffer());
  const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const textOf = (bytes) => new TextDecoder().decode(bytes);
  const product = (shape) => shape.reduce((a, b) => a * b, 1);

  // -------------------------------------------------------------------------------------------------------------------
  // dtypes: what they are called, bytes of a number, and a buffer's numbers in a type that holds all of them exactly

  const DTYPES = {
    F64: { name: "float64", size: 8, widen: (buffer) => new Float64Array(buffer) },
    F32: { name: "float32", size: 4, widen: (buffer) => new Float32Array(buffer) },
    F16: { name: "float16", size: 2, widen: widenHalf },
    BF16: { name: "bfloat16", size: 2, widen: widenBfloat },
  };
  const STORAGES = { DoubleStorage: "F64", FloatStorage: "F32", HalfStorage: "F16", BFloat16Storage: "BF16" };

  let everyHalf = null; // all 65,536 of them, looked up: a model has some hundred million
  function widenHalf(buffer) {
    everyHalf ??= Float32Array.from({ length: 65536 }, (_, bits) => playground.fromHalf(bits));
    const bits = new Uint16Array(buffer);
    const numbers = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) numbers[i] = everyHalf[bits[i]];
    return numbers;
  }

  /** A bfloat16 is the upper half of a float32. */
  function widenBfloat(buffer) {
    const bits = new Uint16Array(buffer);
    const wide = new Uint32Array(bits.length);
    for (let i = 0; i < bits.length; i++) wide[i] = bits[i] << 16;
    return new Float32Array(wide.buffer);
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what a file's header says: for each tensor's name its dtype, its shape, and at which byte it starts

  async function readHeader(file) {
    const head = await bytesOf(file, 0, 64);
    const begins = textOf(head);
    if (begins.startsWith("PK\x03\x04")) return torchTensors(file);
    if (head[8] === 0x7b) return safetensors(file); // the brace after the header's length
    if (begins.startsWith("version https://git-lfs"))
      throw new Refused("expected tensors, got a pointer of Git LFS to them: run `git lfs pull`");
    if (head[0] === 0x80)
      throw new Refused(
        "expected PyTorch's zip format, got the one from before PyTorch 1.6: open it with torch.load and save it again",
      );
    throw new Refused("expected a .pth of PyTorch or a .safetensors, got neither: choose the file with the weights");
  }

  const cutOff = (have, want) =>
    new Refused(
      `expected ${want}, got a file that ends after ${have.toLocaleString("en")} bytes: it is cut off, get it again`,
    );

  async function safetensors(file) {
    const length = Number(viewOf(await bytesOf(file, 0, 8)).getBigUint64(0, true));
    if (length > LARGEST_HEADER) throw new Refused("expected a .safetensors, got a header that is too long for one");
    if (8 + length > file.size) throw cutOff(file.size, "a whole header");
    let header;
    try {
      header = JSON.parse(textOf(await bytesOf(file, 8, 8 + length)));
    } catch {
      throw new Refused("expected a .safetensors, got a header that is not JSON: it is damaged, get it again");
    }
    const found = new Map();
    for (const [name, { dtype, shape, data_offsets }] of Object.entries(header))
      if (name !== "__metadata__") found.set(name, { dtype, shape, start: 8 + length + data_offsets[0] });
    return found;
  }

  /** PyTorch's format: a zip file that packs nothing; in it a pickle that says what there is, and the numbers. */
  async function torchTensors(file) {
    const entries = await zipEntries(file);
    const pickle = [...entries.keys()].find((name) => name.endsWith("/data.pkl"));
    if (!pickle) throw new Refused("expected a PyTorch file, got a zip file with no data.pkl in it");
    const folder = pickle.slice(0, -"data.pkl".length);
    const read = async (name) => {
      const { start, size } = await entries.get(name)();
      return bytesOf(file, start, start + size);
    };
    if (entries.has(`${folder}byteorder`) && textOf(await read(`${folder}byteorder`)) !== "little")
      throw new Refused("expected little-endian numbers, got big-endian ones: save it again on another machine");
    const said = unpickle(await read(pickle));
    if (!(said instanceof Map)) throw new Refused("expected a dict of tensors by name, got something else");
    if (said.has("_strategy"))
      throw new Refused(
        "expected a model as it was published, got one that the package rwkv has converted for a strategy, which " +
          "changes numbers: give the file that it was made of",
      );
    const found = new Map();
    for (const [name, tensor] of said) {
      if (typeof name !== "string" || !tensor?.storage)
        throw new Refused(
          `expected a dict of tensors by name, got ${name} with something else: if it is the file of a training run, ` +
            "save its model.state_dict() alone",
        );
      const dtype = STORAGES[tensor.storage] ?? tensor.storage;
      const entry = entries.get(`${folder}data/${tensor.key}`);
      if (!entry)
        throw new Refused(`expected the numbers of ${name}, got none in the file: it is damaged, get it again`);
      const { start, size } = await entry();
      const bytes = DTYPES[dtype]?.size ?? 1;
      if ((tensor.offset + product(tensor.shape)) * bytes > size)
        throw new Refused(`expected all numbers of ${name}, got too few: the file is damaged, get it again`);
      if (!isContiguous(tensor)) throw new Refused(`${name}: expected its rows in order: save tensor.contiguous()`);
      found.set(name, { dtype, shape: tensor.shape, start: start + tensor.offset * bytes });
    }
    return found;
  }

  function isContiguous({ shape, stride }) {
    let step = 1;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (shape[axis] !== 1 && stride[axis] !== step) return false;
      step *= shape[axis];
    }
    return true;
  }

  /** For each file in a zip file, what finds its bytes. The list of all of them stands at the end. */
  async function zipEntries(file) {
    const from = Math.max(0, file.size - ZIP_END - 65535);
    const tail = viewOf(await bytesOf(file, from, file.size));
    let end = tail.byteLength - ZIP_END;
    while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
    if (end < 0) throw cutOff(file.size, "the list at a zip file's end");
    const [size, start] = [tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
    if (start === 0xffffffff)
      throw new Refused("expected a .pth below 4 GB, got a larger one: save it as .safetensors");
    const list = await bytesOf(file, start, start + size);
    const view = viewOf(list);
    const entries = new Map();
    for (let at = 0; at + 46 <= list.length;) {
      const number = (offset) => view.getUint16(at + offset, true);
      const [packed, length, header] = [number(10), view.getUint32(at + 20, true), view.getUint32(at + 42, true)];
      const name = textOf(list.subarray(at + 46, at + 46 + number(28)));
      entries.set(name, async () => {
        if (packed) throw new Refused("expected a zip file that packs nothing, as torch.save writes, got a packed one");
        const own = viewOf(await bytesOf(file, header, header + 30));
        return { start: header + 30 + own.getUint16(26, true) + own.getUint16(28, true), size: length };
      });
      at += 46 + number(28) + number(30) + number(32);
    }
    return entries;
  }

  /**
   * What a pickle of tensors says. A pickle is a program; this knows the few instructions that such a file has, and
   * runs nothing: names of Python's functions stay names, and any that has no place in a dict of tensors is refused.
   */
  function unpickle(bytes) {
    const view = viewOf(bytes);
    const stack = [];
    const marks = [];
    const memo = new Map();
    let at = 0;
    const pop = () => stack.pop();
    const fromMark = () => stack.splice(marks.pop());
    const take = (n) => bytes.subarray(at, (at += n));
    const line = () => {
      const text = textOf(bytes.subarray(at, bytes.indexOf(10, at)));
      at += text.length + 1;
      return text;
    };
    const setItems = (items) => {
      for (let i = 0; i < items.length; i += 2) stack.at(-1).set(items[i], items[i + 1]);
    };
    const DO = {
      "\x80": () => (at += 1), // the protocol's number
      "}": () => stack.push(new Map()),
      ")": () => stack.push([]),
      "]": () => stack.push([]),
      "(": () => marks.push(stack.length),
      N: () => stack.push(null),
      "\x88": () => stack.push(true),
      "\x89": () => stack.push(false),
      K: () => stack.push(bytes[at++]),
      M: () => stack.push(viewOf(take(2)).getUint16(0, true)),
      J: () => stack.push(viewOf(take(4)).getInt32(0, true)),
      "\x8a": () => stack.push(take(bytes[at++]).reduceRight((sum, byte) => 256 * sum + byte, 0)),
      G: () => stack.push(viewOf(take(8)).getFloat64(0, false)),
      X: () => stack.push(textOf(take(viewOf(take(4)).getUint32(0, true)))),
      q: () => memo.set(bytes[at++], stack.at(-1)),
      r: () => memo.set(viewOf(take(4)).getUint32(0, true), stack.at(-1)),
      h: () => stack.push(memo.get(bytes[at++])),
      j: () => stack.push(memo.get(viewOf(take(4)).getUint32(0, true))),
      t: () => stack.push(fromMark()),
      "\x85": () => stack.push(stack.splice(-1)),
      "\x86": () => stack.push(stack.splice(-2)),
      "\x87": () => stack.push(stack.splice(-3)),
      s: () => setItems(stack.splice(-2)),
      u: () => setItems(fromMark()),
      a: () => stack.at(-2).push(pop()),
      e: () => {
        const items = fromMark();
        stack.at(-1).push(...items);
      },
      c: () => stack.push(named(`${line()} ${line()}`)),
      R: () => {
        const given = pop();
        stack.push(pop().means(given));
      },
      Q: () => {
        const [, storage, key] = pop(); // "storage", its type, the name of its numbers in the zip file, ...
        stack.push({ storage: storage.storage, key });
      },
      b: pop, // what else is known of a dict: `_metadata` of a state_dict
    };
    while (at < view.byteLength) {
      const instruction = String.fromCharCode(bytes[at++]);
      if (instruction === ".") return pop();
      if (!Object.hasOwn(DO, instruction))
        throw new Refused(
          "expected tensors and nothing else, got a pickle with other things: it was not run; save model.state_dict()",
        );
      DO[instruction]();
    }
    throw cutOff(view.byteLength, "a whole pickle");
  }

  /** What one of Python's names means in a file of tensors. */
  function named(name) {
    const storage = /^torch (\w+Storage)$/.exec(name)?.[1];
    if (storage) return { storage };
    const means = {
      "collections OrderedDict": () => new Map(),
      "torch._utils _rebuild_tensor_v2": ([storage, offset, shape, stride]) => ({ ...storage, offset, shape, stride }),
      "torch._utils _rebuild_parameter": ([tensor]) => tensor,
    };
    if (!Object.hasOwn(means, name))
      throw new Refused(
        `expected tensors and nothing else, got a file that names ${name.replace(" ", ".")}, which could run code where ` +
          "it is loaded; it was not run. If it is yours, save model.state_dict() alone, or a .safetensors",
      );
    return { means: means[name] };
  }

  // -------------------------------------------------------------------------------------------------------------------
  // is it an RWKV-4?

  /**
   * What a checkpoint holds, by its header alone: sizes, where each tensor goes, how many bytes of memory it will take.
   * table: the names of an RWKV-4's tensors in either layout, and what other architectures' look like.
   */
  playground.inspectCheckpoint = async function (file, { keys, others }) {
    try {
      const found = await readHeader(file);
      for (const name of found.keys())
        for (const [pattern, architecture] of others)
          if (new RegExp(pattern).test(name))
            throw new Refused(`expected an RWKV-4, got ${architecture}: it has ${name}. This page runs RWKV-4 alone`);
      const layout = ["upstream", "hf"].find((names) => found.has(keys[0][names]));
      if (!layout)
        throw new Refused(
          `expected an RWKV-4 with ${keys[0].upstream} or ${keys[0].hf}, got ${few([...found.keys()])}: ` +
            advice(file.name, [keys[0].upstream], [...found.keys()], keys),
        );
      return plan(file, layout, found, keys);
    } catch (error) {
      const why =
        error instanceof Refused
          ? error.message
          : `expected a model's file, got one that cannot be read (${error.message}): it may be damaged, get it again`;
      throw new Error(`${file.name}: ${why}.`);
    }
  };

  /** The first few of many names. */
  const few = (names) =>
    (names.sort().slice(0, 4).join(", ") || "none") + (names.length > 4 ? ` and ${names.length - 4} more` : "");

  /** What is probably the matter with a file that has other tensors than expected, and what to do. */
  function advice(fileName, missing, leftOver, keys) {
    const [, part, parts] = /-0*(\d+)-of-0*(\d+)\./.exec(fileName) ?? [];
    if (part && parts !== "1")
      return (
        `it is part ${part} of ${parts}: load all parts, join their tensors in one dict, and save that with ` +
        "safetensors.torch.save_file"
      );
    if (leftOver.some((name) => name.toLowerCase().includes("lora")))
      return "it has an adapter (LoRA) that is not merged: merge it into the matrices first";
    for (const table of [keys[0].upstream, keys[0].hf]) {
      const prefix = leftOver.find((name) => name.endsWith(`.${table}`))?.slice(0, -table.length);
      if (prefix && leftOver.every((name) => name.startsWith(prefix)))
        return `its names begin with ${prefix}, which a wrapper such as PyTorch's puts there: take it off`;
    }
    if (missing.length === 1 && missing[0] === "head.weight")
      return "is its head tied to its embedding? Then save a copy of the embedding as head.weight; else get it again";
    if (missing.length === 1 && missing[0] === keys[0].upstream) return "it may be the file of another architecture";
    return "the file is not whole, or of a variant";
  }

  /** Every tensor's place in the file and in memory, once it is clear that all are there. */
  function plan(file, layout, found, keys) {
    const table = found.get(keys[0][layout]).shape;
    if (table.length !== 2) throw new Refused(`${keys[0][layout]}: expected a matrix, got the shape (${table})`);
    const [vocabulary, channels] = table;
    const blocks = new Set([...found.keys()].map((name) => /\bblocks\.(\d+)\.(?!ln0|pre_ln)/.exec(name)?.[1]));
    blocks.delete(undefined);
    const layers = blocks.size;
    const inside = keys.find(({ shape }) => shape[0] === "intermediate_size")[layout].replace("{i}", 0);
    const hidden = found.get(inside)?.shape[0] ?? 4 * channels;
    const axes = { 1: 1, vocab_size: vocabulary, channels, intermediate_size: hidden };
    const wanted = keys.flatMap((key) =>
      Array.from({ length: key.name.includes("{i}") ? layers : 1 }, (_, i) => ({
        stored: key[layout].replace("{i}", i),
        name: key.name.replace("{i}", i),
        shape: key.shape.map((axis) => axes[axis]),
      })),
    );
    const missing = wanted.map(({ stored }) => stored).filter((name) => !found.has(name));
    const leftOver = [...found.keys()].filter((name) => !wanted.some(({ stored }) => stored === name));
    if (missing.length || leftOver.length)
      throw new Refused(
        `expected the ${wanted.length} tensors of an RWKV-4 with ${layers} blocks; missing: ${few(missing)}; left ` +
          `over: ${few(leftOver)}: ${advice(file.name, missing, leftOver, keys)}`,
      );
    let bytes = 0;
    const put = (size) => (bytes += Math.ceil(size / 16) * 16) - Math.ceil(size / 16) * 16; // starts at multiples of 16
    const tensors = wanted.map(({ stored, name, shape }) => {
      const { dtype, shape: came, start } = found.get(stored);
      if (came.join() !== shape.join()) throw new Refused(`${stored}: expected the shape (${shape}), got (${came})`);
      if (!DTYPES[dtype])
        throw new Refused(`${stored}: expected float32, float16 or bfloat16, got ${dtype}: save it as floats`);
      if (start + product(shape) * DTYPES[dtype].size > file.size) throw cutOff(file.size, `all numbers of ${stored}`);
      const own = shape.filter((size) => size !== 1); // mixing weights are stored as (1, 1, channels)
      const place = { name, stored, shape: own, dtype, start };
      if (own.length === 1) return { ...place, offset: put(4 * own[0]) };
      return { ...place, offset: put(own[0] * own[1]), scales: put(4 * own[0]) };
    });
    if (bytes > LARGEST_ROOM)
      throw new Refused(
        `expected a model that takes less than 4 GB, got one that takes ${playground.megabytes(bytes)}`,
      );
    const sizes = { vocabulary, channels, layers, hidden };
    const dtypes = [...new Set(tensors.map(({ dtype }) => DTYPES[dtype].name))];
    return {
      file,
      sizes,
      tensors,
      bytes,
      dtypes,
      parameters: wanted.reduce((sum, { shape }) => sum + product(shape), 0),
    };
  }

  /** Bytes that one more token takes: what each layer remembers and wrote, the streams, the probabilities. */
  playground.bytesOfToken = ({ layers, channels, vocabulary }) => 4 * (7 * layers * channels + channels + vocabulary);

  // -------------------------------------------------------------------------------------------------------------------
  // the weights, slice by slice

  /**
   * Read a planned checkpoint into memory. progress(share) is awaited after each slice, and may throw to stop.
   * Gives the room, as `makeRoom` does, and the opened weights.
   */
  playground.readCheckpoint = async function ({ file, sizes, tensors, bytes }, kernel, progress) {
    let room;
    try {
      room = playground.makeRoom({ bytes, sizes }, kernel);
    } catch {
      throw new Error(
        `${file.name}: this browser does not give a page the ${playground.megabytes(bytes)} that it takes.`,
      );
    }
    const weights = playground.openWeights({ sizes, tensors }, room.buffer);
    const whole = tensors.reduce((sum, { shape, dtype }) => sum + product(shape) * DTYPES[dtype].size, 0);
    let done = 0;
    for (const { name, stored, shape, dtype, start } of tensors) {
      const { size, widen } = DTYPES[dtype];
      const into = weights.tensors[name];
      const [rows, columns] = shape.length === 2 ? shape : [1, shape[0]];
      const atOnce = Math.max(1, Math.floor(SLICE / (columns * size)));
      for (let row = 0; row < rows; row += atOnce) {
        const count = Math.min(atOnce, rows - row);
        const [from, length] = [start + row * columns * size, count * columns * size];
        const numbers = widen(await file.slice(from, from + length).arrayBuffer());
        const finite = shape.length === 2 ? quantizeRows(numbers, into, row, count) : copyVector(numbers, into);
        if (!finite)
          throw new Error(
            `${file.name}: ${stored}: expected finite numbers, got NaN or infinity. It is damaged: get it again.`,
          );
        done += length;
        await progress?.(done / whole);
      }
    }
    return { room, weights };
  };

  function copyVector(numbers, into) {
    into.set(numbers);
    return into.every(Number.isFinite);
  }

  /** Some rows of a matrix as int8 numbers and a scale each, whose largest number becomes 127; whether all were finite. */
  function quantizeRows(numbers, { columns, numbers: rounded, scales }, first, count) {
    const toWhole = 1.5 * 2 ** 52; // a double that large has no digits after the point: adding rounds, halves to even
    let finite = true;
    for (let row = 0; row < count; row++) {
      const from = row * columns;
      let most = 0;
      for (let c = 0; c < columns; c++) {
        const size = Math.abs(numbers[from + c]);
        finite &&= size < Infinity; // not true of NaN either
        if (size > most) most = size;
      }
      const scale = Math.fround(Math.fround(most) / 127);
      const step = Math.max(scale, Math.fround(1e-30));
      const to = (first + row) * columns;
      for (let c = 0; c < columns; c++) rounded[to + c] = numbers[from + c] / step + toWhole - toWhole;
      scales[first + row] = scale;
    }
    return finite;
  }

  /** The standard deviation of the embedding table's entries: what a causal trace measures its noise in. */
  playground.embeddingStd = function ({ rows, columns, numbers, scales }) {
    let [sum, squares] = [0, 0];
    for (let row = 0, at = 0; row < rows; row++)
      for (let c = 0; c < columns; c++) {
        const value = numbers[at++] * scales[row];
        sum += value;
        squares += value * value;
      }
    const count = rows * columns;
    return Math.sqrt((squares - (sum * sum) / count) / (count - 1));
  };

  // -------------------------------------------------------------------------------------------------------------------
  // its tokenizer

  /** What a tokenizer.json says, if it is a byte-level BPE and the model has a row for each of its tokens. */
  playground.readTokenizer = async function (file, vocabulary) {
    let said;
    try {
      said = JSON.parse(await file.text());
    } catch {
      throw new Error(
        `${file.name}: expected a tokenizer.json, got a file that is not JSON. Choose the one beside the model.`,
      );
    }
    const parts = (part) =>
      part ? [part, ...(part.pretokenizers ?? part.decoders ?? [])].map(({ type }) => type) : [];
    const kind = said?.model?.type;
    if (kind !== "BPE" || !parts(said.decoder).includes("ByteLevel"))
      throw new Error(
        `${file.name}: expected a byte-level BPE of the tokenizers library, such as 20B_tokenizer.json, got ` +
          `${kind === "BPE" ? "a BPE of another kind" : (kind ?? "something else")}. Choose the tokenizer that the model was trained with.`,
      );
    const ids = [...Object.values(said.model.vocab), ...(said.added_tokens ?? []).map(({ id }) => id)];
    const tokens = 1 + ids.reduce((a, b) => Math.max(a, b), 0);
    if (tokens > vocabulary || tokens < 0.9 * vocabulary)
      throw new Error(
        `${file.name}: expected about as many tokens as the model has rows, ${vocabulary.toLocaleString("en")}, got ` +
          `${tokens.toLocaleString("en")}. It is another model's tokenizer: choose the one that this model was trained with.`,
      );
    return said;
  };
})((globalThis.rwkvPlayground ??= {}));
