/**
 * Splits SQL text into statements and tokens by the rules of PostgreSQL's own scanner (`scan.l`, `psqlscan.l`): nested comments,
 * E'' strings and their continuation on the next line, dollar quotes, quoted identifiers, `begin atomic` bodies. It assumes
 * `standard_conforming_strings = on`, which the boot gate checks and no statement may change.
 *
 * It never fails: text that PostgreSQL would reject gives some tokens, and PostgreSQL gets to reject it.
 */
export interface Token {
  /** `word`: an unquoted identifier or keyword, in lower case. `name`: a quoted one. `string`: the content of a literal. */
  readonly kind: 'word' | 'name' | 'string' | 'other';
  readonly text: string;
}

export type Tokens = readonly Token[];

const wordStart = /[a-z_\u0080-\uffff]/i;
const wordRest = /[\w$\u0080-\uffff]*/y;
const dollarTag = /\$(?:[a-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/iy;
/** Only ASCII: PostgreSQL reads a no-break space as a letter. */
const blank = /[ \t\n\r\f\v]+/y;
const lineComment = /--[^\n\r]*/y;
/** What may stand between two parts of one literal: blanks and line comments with at least one line break. */
const continuation = /(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'/y;
const number = /\d[\w.]*/y;

/** The statements of the text; empty ones are left out. */
export function splitStatements(text: string): Tokens[] {
  const statements: Tokens[] = [];
  let statement: Token[] = [];
  let parentheses = 0;
  let body = 0;
  for (const token of scan(text)) {
    if (token.kind === 'other') {
      if (token.text === ';' && parentheses === 0 && body === 0) {
        if (statement.length > 0) statements.push(statement);
        statement = [];
        continue;
      }
      if (token.text === '(') parentheses += 1;
      else if (token.text === ')' && parentheses > 0) parentheses -= 1;
    } else if (token.kind === 'word') {
      body = bodyDepth(body, token.text, statement);
    }
    statement.push(token);
  }
  if (statement.length > 0) statements.push(statement);
  return statements;
}

/** Depth of `begin atomic ... end`, where `case ... end` nests; as a label (`as end`) or part of a name (`t.end`) the words count for nothing. */
function bodyDepth(depth: number, word: string, before: Tokens): number {
  const previous = before.at(-1);
  if (previous?.text === 'as' || previous?.text === '.') return depth;
  if (depth === 0) return word === 'atomic' && previous?.kind === 'word' && previous.text === 'begin' && before[0]?.text === 'create' ? 1 : 0;
  if (word === 'case') return depth + 1;
  return word === 'end' ? depth - 1 : depth;
}

function scan(text: string): Token[] {
  const tokens: Token[] = [];
  const read = (pattern: RegExp, at: number): number => {
    pattern.lastIndex = at;
    return pattern.test(text) ? pattern.lastIndex : at;
  };
  let at = 0;
  while (at < text.length) {
    const char = text.charAt(at);
    const next = text.charAt(at + 1);
    let end = read(blank, at);
    const tagged = char === '$' ? read(dollarTag, at) : at;
    if (end > at) {
      at = end;
    } else if (char === '-' && next === '-') {
      at = read(lineComment, at);
    } else if (char === '/' && next === '*') {
      at = endOfComment(text, at);
    } else if (char === "'") {
      end = endOfQuoted(text, at);
      tokens.push({ kind: 'string', text: text.slice(at + 1, end - 1).replaceAll("''", "'") });
      at = end;
    } else if ((char === 'e' || char === 'E') && next === "'") {
      end = endOfEscaped(text, at + 1);
      tokens.push({ kind: 'string', text: unescaped(text.slice(at + 2, end - 1)) });
      at = end;
    } else if ((char === 'u' || char === 'U') && next === '&' && /['"]/.test(text.charAt(at + 2))) {
      // Escapes of U& forms are not undone: such a name is unlike any that is looked for, and such a string is marked as unreadable.
      end = endOfQuoted(text, at + 2);
      tokens.push({ kind: text.charAt(at + 2) === '"' ? 'name' : 'string', text: text.slice(at, end) });
      at = end;
    } else if (char === '"') {
      end = endOfQuoted(text, at);
      tokens.push({ kind: 'name', text: text.slice(at + 1, end - 1).replaceAll('""', '"') });
      at = end;
    } else if (wordStart.test(char)) {
      end = read(wordRest, at);
      tokens.push({ kind: 'word', text: lowerAscii(text.slice(at, end)) });
      at = end;
    } else if (tagged > at) {
      const tag = text.slice(at, tagged);
      const close = text.indexOf(tag, tagged);
      tokens.push({ kind: 'string', text: text.slice(tagged, close === -1 ? text.length : close) });
      at = close === -1 ? text.length : close + tag.length;
    } else if (char >= '0' && char <= '9') {
      end = read(number, at);
      tokens.push({ kind: 'other', text: text.slice(at, end) });
      at = end;
    } else {
      tokens.push({ kind: 'other', text: char });
      at += 1;
    }
  }
  return tokens;
}

function endOfComment(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    const pair = text.slice(at, at + 2);
    if (pair === '/*') depth += 1;
    else if (pair === '*/') depth -= 1;
    else continue;
    at += 1;
    if (depth === 0) return at + 1;
  }
  return text.length;
}

/** After the closing quote of a string or identifier in which a doubled quote stands for one. */
function endOfQuoted(text: string, start: number): number {
  const quote = text.charAt(start);
  let at = start + 1;
  for (;;) {
    const close = text.indexOf(quote, at);
    if (close === -1) return text.length + 1;
    if (text.charAt(close + 1) !== quote) return close + 1;
    at = close + 2;
  }
}

/** The same for E'' strings, in which a backslash escapes, also in a part that follows on another line. */
function endOfEscaped(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const char = text.charAt(at);
    if (char === '\\') {
      at += 1;
    } else if (char === "'") {
      if (text.charAt(at + 1) === "'") {
        at += 1;
      } else {
        continuation.lastIndex = at + 1;
        if (!continuation.test(text)) return at + 1;
        at = continuation.lastIndex - 1;
      }
    }
  }
  return text.length + 1;
}

/** Enough to recognise a name that was written with escapes. */
function unescaped(content: string): string {
  return content.replace(/\\(?:x([0-9a-f]{1,2})|u([0-9a-f]{4})|([0-7]{1,3})|(.))/gis, (_, hex?: string, long?: string, octal?: string, char?: string) =>
    char === undefined ? String.fromCharCode(octal ? Number.parseInt(octal, 8) : Number.parseInt(hex ?? long ?? '', 16)) : char,
  );
}

/** PostgreSQL folds the ASCII letters of an unquoted identifier, and the others only in single-byte encodings. */
function lowerAscii(word: string): string {
  return word.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
