import { splitStatements, type Token } from './lexer.ts';

/** Of a longer text the beginning tells the statements apart, and reading it all would cost more than the statement. */
const readCharsMax = 10_000;
const normalizedCharsMax = 2_000;

const operator = /^[-+*/<>=~!@#%^&|`:]+$/;

/**
 * The statement without its values: literals, numbers and parameters become `?`, lists of them `?, ...`, comments go. What two calls of the same
 * place in an application send gives the same text, and none of a tenant's data is in it. Cut after 2,000 characters.
 */
export function normalizeStatement(text: string): string {
  const statements = splitStatements(text.slice(0, readCharsMax)).map(render);
  const normalized = statements
    .join('; ')
    .replaceAll(/\?(?:, \?)+/g, '?, ...')
    .replaceAll(/(\(\?(?:, \.\.\.)?\))(?:, \(\?(?:, \.\.\.)?\))+/g, '$1, ...');
  return normalized.length > normalizedCharsMax ? `${normalized.slice(0, normalizedCharsMax - 3).replace(/[\ud800-\udbff]$/, '')}...` : normalized;
}

function render(tokens: readonly Token[]): string {
  let rendered = '';
  let before = '';
  for (const [at, token] of tokens.entries()) {
    const piece = pieceOf(token, tokens[at - 1]);
    if (piece === '') continue;
    const joined = before === '' || /^[,).[\]:]$/.test(piece) || /[.([:]$/.test(before);
    const call = piece === '(' && /\w$/.test(before) && !spaced.has(before);
    rendered += joined || call || (operator.test(piece) && operator.test(before)) ? piece : ` ${piece}`;
    before = piece;
  }
  return rendered;
}

/** Words before a parenthesis that call nothing. */
const spaced = new Set([
  'in',
  'values',
  'and',
  'or',
  'not',
  'where',
  'on',
  'from',
  'select',
  'exists',
  'as',
  'using',
  'any',
  'all',
  'when',
  'then',
  'over',
  'by',
  'filter',
]);

function pieceOf(token: Token, previous: Token | undefined): string {
  switch (token.kind) {
    case 'string':
      return '?';
    case 'name':
      return `"${token.text.replaceAll('"', '""')}"`;
    case 'word':
      return token.text;
    case 'other':
      // `$1` comes as `$` and `1`.
      if (/^\d/.test(token.text)) return previous?.text === '$' ? '' : '?';
      return token.text === '$' ? '?' : token.text;
  }
}
