import type { Scope } from '../context.ts';

/**
 * Statements that a library sends by itself when it connects, when nobody's work is being done yet: `select version()` and the like. They
 * run without a context and outside any tenant, where only shared tables can be read. A text is allowed as a whole, apart from spaces
 * around words and a semicolon at its end, and where it has a literal, a quoted name or a comment, letter by letter; inside a context it is a
 * statement like any other.
 */
export class AllowedStatements {
  readonly #texts: ReadonlySet<string>;

  constructor(texts: readonly string[] = []) {
    this.#texts = new Set(texts.map(normalized));
  }

  /** The scope in which a text may be sent without a context; undefined where it may not. */
  scopeFor(text: string | undefined): Scope | undefined {
    return text !== undefined && this.#texts.size > 0 && this.#texts.has(normalized(text)) ? connecting : undefined;
  }
}

const connecting: Scope = { kind: 'system', purpose: 'connecting' };

/** A line break is more than a space where it ends a comment, and a space is a letter in a literal. */
const spacesMatter = /['"$]|--|\/\*/;

function normalized(text: string): string {
  return spacesMatter.test(text) ? text : text.trim().replace(/\s*;$/, '').replaceAll(/\s+/g, ' ');
}
