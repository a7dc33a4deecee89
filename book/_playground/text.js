// Tokens as text. A token may hold a part of a character only: *ç* is two bytes, and many tokenizers cut it in two.
// So a token's text is what it completes, and the bytes of a character that is not whole yet wait for the next token.

(function (playground) {
  "use strict";

  /** Byte-level tokenizers write every byte as one printable character: BYTE_OF in rwkv_explainer/tokens.py. */
  const printable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const BYTE_OF = new Map();
  for (let byte = 0, hidden = 0; byte < 256; byte++)
    BYTE_OF.set(String.fromCodePoint(printable(byte) ? byte : 256 + hidden++), byte);

  /** What a token stands for in UTF-8; its number where the tokenizer has none of that id. */
  playground.tokenBytes = (tokenizer, id) =>
    [...(tokenizer.id_to_token(id) ?? `#${id}`)].flatMap(
      (sign) => BYTE_OF.get(sign) ?? [...new TextEncoder().encode(sign)],
    );

  playground.inHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join(" ");

  /**
   * What bytes say: `text`, as far as its characters are whole, `waiting`, the bytes of one that is not, and `name`,
   * both of them for the eye, with these bytes in hexadecimal.
   */
  playground.decodeBytes = function (bytes) {
    const text = decodeWhole(bytes);
    let count = 3; // a character has four bytes at most
    while (count && decodeWhole(bytes.slice(0, -count)) !== text) count--;
    const waiting = count ? bytes.slice(-count) : [];
    return { text, waiting, name: text + playground.inHex(waiting) };
  };

  const decodeWhole = (bytes) =>
    new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes), { stream: true });
})((globalThis.rwkvPlayground ??= {}));
