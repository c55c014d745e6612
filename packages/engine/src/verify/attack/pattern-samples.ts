import { randomInt } from 'node:crypto';

/**
 * Texts that a pattern of a check may accept, made from the pattern: `code ~ '^[A-Z]{3}-\d{4}$'` gives `AAA-0000`. They are candidates alone, the
 * server judges them; a pattern with something that is not known here (look-ahead, back references) gives none.
 */
export function patternSamples(check: string, unique: boolean): string[] {
  const lengths = /length/.test(check) ? [...check.matchAll(/(?<![\w'.])\d+/g)].map(([text]) => Number(text)).filter((n) => n > 0 && n <= lengthMax) : [];
  return [...check.matchAll(/(?<![!~])(~~?)\*? (\(?similar_to_escape\()?'((?:[^']|'')*)'/g)].flatMap(([, operator, similar, quoted = '']) => {
    const text = quoted.replaceAll("''", "'");
    const pattern = parse(operator === '~~' ? fromLike(text) : similar === undefined ? text : fromSimilar(text));
    if (!pattern) return [];
    const sample = (times: number): string => pattern({ times, draw: unique ? randomInt : () => 0 });
    const fitted = lengths.flatMap((length) => repeatsFor(length, sample)).map(sample);
    // What is repeated more often is likelier to be new, and what is repeated less to be right.
    const repeated = (unique ? [8, 12, 3, 20, 1] : [1, 0, 3, 8, 20]).map(sample);
    return [...new Set([...fitted, ...repeated])].filter((value) => value.length <= lengthMax);
  });
}

const lengthMax = 1_000;
/** Parts within parts. */
const depthMax = 20;

interface Choice {
  /** How often a part is repeated that may be repeated, within its own bounds. */
  readonly times: number;
  /** Draws one of `n`. */
  readonly draw: (n: number) => number;
}

type Part = (choice: Choice) => string;

/** How often to repeat what may be repeated for a text of this length: each repetition adds as much. */
function repeatsFor(length: number, sample: (times: number) => string): number[] {
  const base = sample(1).length;
  const step = sample(2).length - base;
  const more = step === 0 ? 0 : (length - base) / step;
  return Number.isInteger(more) && more > 0 ? [1 + more] : [];
}

function fromLike(text: string): string {
  return text.replaceAll(/\\(.)|([%_])|([^\w\s])/gs, (_all, escaped?: string, wild?: string, other?: string) =>
    wild === undefined ? `\\${escaped ?? other ?? ''}` : wild === '%' ? '[a-z]*' : '[a-z]',
  );
}

function fromSimilar(text: string): string {
  return text.replaceAll(/\\.|[%_.]/gs, (found) => ({ '%': '[a-z]*', _: '[a-z]', '.': '\\.' })[found] ?? found);
}

/** A pattern of PostgreSQL's advanced regular expressions; undefined where it has a part that is not known here. */
function parse(pattern: string): Part | undefined {
  const reader = { text: pattern.replace(/^(\*\*\*:|\(\?[a-z]+\))/, ''), at: 0 };
  try {
    const whole = alternatives(reader, 0);
    return reader.at === reader.text.length ? whole : undefined;
  } catch (error) {
    if (error instanceof UnknownPart) return undefined;
    throw error;
  }
}

class UnknownPart extends Error {}

interface Reader {
  readonly text: string;
  at: number;
}

function alternatives(reader: Reader, depth: number): Part {
  if (depth > depthMax) throw new UnknownPart();
  const options = [sequence(reader, depth)];
  while (reader.text[reader.at] === '|') {
    reader.at += 1;
    options.push(sequence(reader, depth));
  }
  return (choice) => (options[choice.draw(options.length)] ?? (() => ''))(choice);
}

function sequence(reader: Reader, depth: number): Part {
  const parts: Part[] = [];
  while (reader.at < reader.text.length && !'|)'.includes(reader.text[reader.at] ?? '')) parts.push(repeated(reader, one(reader, depth)));
  return (choice) => parts.map((part) => part(choice)).join('');
}

function repeated(reader: Reader, part: Part): Part {
  const found = /^(?:([*+?])|\{(\d+)(?:(,)(\d*))?\})\??/.exec(reader.text.slice(reader.at));
  if (!found) return part;
  reader.at += found[0].length;
  const [, sign, from, comma, to] = found;
  const least = sign === undefined ? Number(from) : sign === '+' ? 1 : 0;
  const most = sign === '?' ? 1 : sign !== undefined ? lengthMax : comma === undefined ? least : to ? Number(to) : lengthMax;
  if (least > lengthMax) throw new UnknownPart();
  return (choice) => {
    const count = Math.min(Math.max(choice.times, least), most, lengthMax);
    let made = '';
    for (let n = 0; n < count && made.length <= lengthMax; n += 1) made += part(choice);
    return made;
  };
}

const digits = '0123456789';
const lower = 'abcdefghijklmnopqrstuvwxyz';
const upper = lower.toUpperCase();
const printable = `a${lower}A${upper}0${digits} -_.,:;/@#+*=!?'"()[]{}<>|&%$~^\``;
/** By the letter of an escape, and by the name of a class in brackets. */
const sets: Readonly<Record<string, string>> = {
  ...{ d: digits, w: `${lower}${upper}${digits}_`, s: ' ' },
  ...{
    alpha: `${lower}${upper}`,
    digit: digits,
    alnum: `${lower}${upper}${digits}`,
    upper,
    lower,
    space: ' ',
    blank: ' ',
    xdigit: `${digits}abcdef`,
    punct: '-_.,',
  },
};

function one(reader: Reader, depth: number): Part {
  const letter = reader.text[reader.at] ?? '';
  reader.at += 1;
  if (letter === '^' || letter === '$') return () => '';
  if (letter === '.') return anyOf(printable);
  if (letter === '[') return brackets(reader);
  if (letter === '\\') return escaped(reader);
  if (letter !== '(') {
    if ('*+?{'.includes(letter)) throw new UnknownPart();
    return () => letter;
  }
  if (reader.text[reader.at] === '?') {
    if (reader.text[reader.at + 1] !== ':') throw new UnknownPart();
    reader.at += 2;
  }
  const inside = alternatives(reader, depth + 1);
  if (reader.text[reader.at] !== ')') throw new UnknownPart();
  reader.at += 1;
  return inside;
}

function escaped(reader: Reader): Part {
  const letter = reader.text[reader.at] ?? '';
  reader.at += 1;
  const members = sets[letter];
  if (members !== undefined && letter.length === 1) return anyOf(members);
  const but = sets[letter.toLowerCase()];
  if (/[DWS]/.test(letter) && but !== undefined) return anyOf(without(but));
  if (/[AZmMyY]/.test(letter)) return () => '';
  if (/\w/.test(letter) || letter === '') throw new UnknownPart();
  return () => letter;
}

function brackets(reader: Reader): Part {
  // A closing bracket that comes first is a member.
  const found = /^(\^?)(\]?(?:\[:\w+:\]|\\.|[^\]\\])*)\]/s.exec(reader.text.slice(reader.at));
  if (!found) throw new UnknownPart();
  reader.at += found[0].length;
  const [, not, list = ''] = found;
  const members = [...list.matchAll(/\[:(\w+):\]|\\([dws])|(\\?.)-(\\?[^\]])|\\?(.)/gs)].map(([, named, escaped, from, to, single = '']) => {
    if (from !== undefined && to !== undefined) return between(from.slice(-1), to.slice(-1));
    const set = sets[named ?? escaped ?? ''];
    if (named !== undefined && set === undefined) throw new UnknownPart();
    return set ?? single;
  });
  return anyOf(not === '^' ? without(members.join('')) : members.join(''));
}

function between(from: string, to: string): string {
  const [first, last] = [from.charCodeAt(0), to.charCodeAt(0)];
  return String.fromCharCode(...Array.from({ length: Math.min(Math.max(last - first + 1, 0), 128) }, (_, at) => first + at));
}

function without(members: string): string {
  return [...printable].filter((letter) => !members.includes(letter)).join('');
}

function anyOf(members: string): Part {
  if (members === '') throw new UnknownPart();
  return ({ draw }) => members[draw(members.length)] ?? '';
}
