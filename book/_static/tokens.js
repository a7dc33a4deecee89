// A text cut into its tokens (`show_tokens` in rwkv_explainer/tokens.py): on the page the reader can change it. The
// tokenizer, a tenth of a megabyte compressed, comes when it is first needed.
(function () {
  "use strict";

  /** Byte-level tokenizers write every byte as one printable character: BYTE_OF in tokens.py. */
  const printable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const BYTE_OF = new Map();
  for (let byte = 0, hidden = 0; byte < 256; byte++)
    BYTE_OF.set(String.fromCodePoint(printable(byte) ? byte : 256 + hidden++), byte);
  const SEEN = { " ": "·", "\n": "↵", "\t": "⇥", "\r": "␍" };

  const inHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join(" ");
  const inBytes = (sign) => inHex(new TextEncoder().encode(sign));

  /** A token as `token_name` writes it: `written` is how the tokenizer's vocabulary has it. */
  function tokenName(written) {
    const bytes = [...written].flatMap((sign) => BYTE_OF.get(sign) ?? [...new TextEncoder().encode(sign)]);
    try {
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
      return text.replace(/[ \n\t\r]/g, (sign) => SEEN[sign]).replace(/[\p{C}\p{Z}]/gu, inBytes);
    } catch {
      return inHex(bytes);
    }
  }

  const counted = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;

  let coming = null;
  /** The tokenizer and its vocabulary by id, loaded once for all boxes of the page. */
  function loadTokenizer() {
    coming ??= new Promise((done, failed) => {
      const root = document.documentElement.dataset.content_root ?? "./";
      const script = Object.assign(document.createElement("script"), { src: `${root}playground/tokenizer.js` });
      script.onload = () => {
        const { makeTokenizer, tokenizerData } = globalThis.rwkvPlayground;
        const written = [];
        for (const [token, id] of Object.entries(tokenizerData.model.vocab)) written[id] = token;
        for (const { id, content } of tokenizerData.added_tokens ?? []) written[id] ??= content;
        done({ tokenizer: makeTokenizer(tokenizerData), written });
      };
      script.onerror = () => {
        coming = null; // to be asked for again
        failed(new Error("The tokenizer could not be loaded: this copy of the book may have come without it."));
      };
      document.head.append(script);
    });
    return coming;
  }

  function offer(row) {
    const first = row.firstElementChild?.cloneNode(true);
    const hues = [...row.children].slice(0, 3).map((box) => box.style.background);
    if (!first) return;
    const id = `tokens-${[...document.querySelectorAll(".rwkv-tokens")].indexOf(row)}`;
    const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: "Your own text:" });
    const input = Object.assign(document.createElement("input"), { id, value: row.dataset.text, type: "text" });
    input.autocomplete = "off";
    input.spellcheck = false;
    const told = Object.assign(document.createElement("output"), { className: "rwkv-tokens-told" });
    told.htmlFor = id;
    const place = Object.assign(document.createElement("div"), { className: "rwkv-tokens-own" });
    place.append(label, input, told);
    row.after(place);

    function draw(ids, written) {
      const boxes = ids.map((id, n) => {
        const box = first.cloneNode(true);
        box.style.background = hues[n % hues.length];
        box.querySelector("code").textContent = tokenName(written[id]);
        box.querySelector("small").textContent = id;
        return box;
      });
      row.replaceChildren(...boxes);
      const length = [...input.value].length;
      told.textContent = `${counted(length, "character")}, ${counted(ids.length, "token")}`;
      row.setAttribute("aria-label", `${told.textContent}: ${ids.map((id) => tokenName(written[id])).join(", ")}.`);
    }

    input.addEventListener("input", async () => {
      try {
        const { tokenizer, written } = await loadTokenizer();
        const known = tokenizer.encode(row.dataset.text).ids.join(" ") === row.dataset.ids;
        if (!known) throw new Error("The model of this page has a tokenizer that is not in the book.");
        draw(tokenizer.encode(input.value).ids, written);
      } catch (error) {
        told.textContent = error.message;
      }
    });
  }

  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".rwkv-tokens[data-text]").forEach(offer));
})();
