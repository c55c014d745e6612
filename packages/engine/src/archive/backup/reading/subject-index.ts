/** Finds the number of the subject whose key a row begins with. */
export interface SubjectIndex {
  /**
   * The number of the subject; 0, the platform, where no tenant has that key. `keyEnd` is where the key ended, at the tab or the newline.
   */
  find(bytes: Buffer, start: number): number;
  keyEnd: number;
}

const tab = 0x09;
const newline = 0x0a;
/** Slots for each key: one in four is taken, so that a probe hardly ever walks. */
const slotsPerKey = 4;

/**
 * An open hash table over bytes. A `Map` of strings would make a string of each row's key, three times as slow.
 *
 * @param keys texts as COPY writes them; number 0 is nobody's
 */
export function subjectIndex(keys: readonly string[]): SubjectIndex {
  const texts = keys.map((key) => Buffer.from(key));
  const bytesOfKeys = Buffer.concat(texts);
  const ends = new Uint32Array(keys.length);
  const starts = new Uint32Array(keys.length);
  let at = 0;
  for (const [number, text] of texts.entries()) {
    starts[number] = at;
    at += text.length;
    ends[number] = at;
  }
  const size = 2 ** Math.ceil(Math.log2(Math.max(2, keys.length * slotsPerKey)));
  const mask = size - 1;
  const slots = new Uint32Array(size);
  for (const [number, text] of texts.entries()) {
    if (number === 0) continue;
    let hash = 0;
    for (const byte of text) hash = mix(hash, byte);
    let slot = spread(hash) & mask;
    while (slots[slot] !== 0) slot = (slot + 1) & mask;
    slots[slot] = number;
  }
  const index: SubjectIndex = {
    keyEnd: 0,
    find: (bytes, start) => {
      let hash = 0;
      let end = start;
      let byte = bytes[end] ?? tab;
      while (byte !== tab && byte !== newline) {
        hash = mix(hash, byte);
        end += 1;
        byte = bytes[end] ?? tab;
      }
      index.keyEnd = end;
      for (let slot = spread(hash) & mask; ; slot = (slot + 1) & mask) {
        const number = slots[slot] ?? 0;
        if (number === 0) return 0;
        let from = starts[number] ?? 0;
        if ((ends[number] ?? 0) - from !== end - start) continue;
        let mine = start;
        while (mine < end && bytes[mine] === bytesOfKeys[from]) {
          mine += 1;
          from += 1;
        }
        if (mine === end) return number;
      }
    },
  };
  return index;
}

function mix(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, 0x01000193);
}

function spread(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** A value as COPY's text format writes it. */
export function copyText(value: string): string {
  return value.replace(/[\\\b\f\n\r\t\v]/g, (character) => escapes[character] ?? character);
}

const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\b': '\\b', '\f': '\\f', '\n': '\\n', '\r': '\\r', '\t': '\\t', '\v': '\\v' };
