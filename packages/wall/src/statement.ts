import { splitStatements, type Tokens } from './lexer.ts';

/**
 * What a text is to the wall, decided from the text alone and remembered by it.
 *
 * - `empty`: no statement; `plain`: no data is read or written (SET, SHOW, SAVEPOINT, SET TRANSACTION ...), so the tenant need not
 *   be entered, and must not be before SET TRANSACTION;
 * - `begin`, `commit`, `rollback`, `rollback_to`: control of an explicit transaction;
 * - `data`: everything that can read or write; `copy`: the same, by its own protocol;
 * - `alone`: cannot share a transaction with `enter`, so it runs in the system context.
 */
export type StatementKind = 'empty' | 'plain' | 'begin' | 'commit' | 'rollback' | 'rollback_to' | 'data' | 'copy' | 'alone';

export interface Statement {
  readonly kind: StatementKind;
  /** First word, for messages. */
  readonly verb: string;
  /** The text holds several statements; `kind` is then `plain`, `data` or `alone`. */
  readonly many: boolean;
  /** COMMIT or ROLLBACK that begins the next transaction at once. */
  readonly chain: boolean;
  /** Why it is sent in no context, and what to do instead. */
  readonly refusal: string | null;
  /** What it leaves in the session after its transaction, so that the connection cannot be handed to the next tenant. */
  readonly leftover: string | null;
}

const cachedTextsMax = 2_000;
const cachedTextCharsMax = 4_096;
const cache = new Map<string, Statement>();

export function classify(text: string): Statement {
  const known = cache.get(text);
  if (known) return known;
  const statement = classifyAll(splitStatements(text));
  if (text.length <= cachedTextCharsMax) {
    if (cache.size >= cachedTextsMax) cache.clear();
    cache.set(text, statement);
  }
  return statement;
}

const nothing: Statement = { kind: 'empty', verb: '', many: false, chain: false, refusal: null, leftover: null };

function classifyAll(statements: readonly Tokens[]): Statement {
  const [first, ...others] = statements.map(classifyOne);
  if (!first) return nothing;
  if (others.length === 0) return first;
  const all = [first, ...others];
  const control = all.find((one) => one.kind === 'begin' || one.kind === 'commit' || one.kind === 'rollback' || one.kind === 'rollback_to');
  const settings = all.find((one) => one.verb === 'set transaction');
  const refusal =
    all.find((one) => one.refusal !== null)?.refusal ??
    (control || settings
      ? `"${(control ?? settings)?.verb}" stands among other statements in one string, and the tenant would be left behind in the middle of it; send it by itself`
      : null);
  const kind = all.some((one) => one.kind === 'alone') ? 'alone' : all.every((one) => one.kind === 'plain') ? 'plain' : 'data';
  return { kind, verb: first.verb, many: true, chain: false, refusal, leftover: all.find((one) => one.leftover !== null)?.leftover ?? null };
}

function classifyOne(tokens: Tokens): Statement {
  const words = tokens.map((token) => (token.kind === 'word' ? token.text : ''));
  const [verb = '', second = ''] = words;
  const base = { ...nothing, verb, refusal: refusedCall(tokens), leftover: leftoverOf(tokens, words) };
  const as = (kind: StatementKind, more: Partial<Statement> = {}): Statement => ({ ...base, kind, ...more });
  switch (verb) {
    case 'begin':
    case 'start':
      return as('begin');
    case 'commit':
    case 'end':
    case 'rollback':
    case 'abort': {
      if (second === 'prepared') return as('alone');
      if (verb === 'rollback' && words[second === 'work' || second === 'transaction' ? 2 : 1] === 'to') return as('rollback_to');
      const chain = words.includes('chain') && !words.includes('no');
      return as(verb === 'commit' || verb === 'end' ? 'commit' : 'rollback', { chain });
    }
    case 'savepoint':
    case 'release':
    case 'show':
      return as('plain');
    case 'set':
      return as('plain', settingOf(tokens, words));
    case 'reset':
      return as('plain', resetOf(tokens, words));
    case 'discard':
      return second === 'all' ? as('plain', { refusal: droppedPlans('DISCARD ALL') }) : as('plain');
    case 'deallocate':
      return words.includes('all') ? as('plain', { refusal: droppedPlans('DEALLOCATE ALL') }) : as('plain');
    case 'listen':
    case 'unlisten':
      return as('plain', {
        refusal: `${verb.toUpperCase()} belongs to one session, and a pooled connection is handed to the next tenant with it; notifications are not walled either: use a client of your own for them`,
      });
    case 'prepare':
      if (second === 'transaction') {
        return as('plain', { refusal: 'PREPARE TRANSACTION would keep the tenant’s locks after the connection has moved on; commit instead' });
      }
      return as('data', { leftover: 'a prepared statement of SQL' });
    case 'declare':
      return as('data', { refusal: base.refusal ?? heldCursor(words) });
    case 'copy':
      return as('copy');
    case 'load':
      return as('plain', { leftover: 'a loaded library' });
    default:
      return as(runsAlone(verb, second, words) ? 'alone' : 'data');
  }
}

/** SET, with the scopes that make the same setting harmless or dangerous. */
function settingOf(tokens: Tokens, words: readonly string[]): Partial<Statement> {
  const scoped = words[1] === 'local' || words[1] === 'session';
  const local = words[1] === 'local';
  const at = scoped ? 2 : 1;
  if (words[at] === 'transaction') return { verb: 'set transaction' };
  if (words[1] === 'session' && words[2] === 'characteristics') return { leftover: 'SET SESSION CHARACTERISTICS' };
  if (words[1] === 'constraints') return {};
  const name = settingName(tokens, at);
  // "set session authorization" and "set session session authorization" are the same.
  const authorization = words[1] === 'session' && (words[2] === 'authorization' || (words[2] === 'session' && words[3] === 'authorization'));
  const refusal = authorization ? refusedSetting('session_authorization') : refusedSetting(name);
  return { refusal, leftover: local ? null : `SET ${name}` };
}

function resetOf(tokens: Tokens, words: readonly string[]): Partial<Statement> {
  if (words[1] === 'all') return { refusal: 'RESET ALL also resets what the wall has set; reset the settings you have set by name' };
  if (words[1] === 'session' && words[2] === 'authorization') return { refusal: refusedSetting('session_authorization') };
  const name = settingName(tokens, 1);
  return { refusal: refusedSetting(name), leftover: `RESET ${name}` };
}

/** A setting's name as written, with its dots; quoted parts count as names too. */
function settingName(tokens: Tokens, at: number): string {
  let name = tokens[at]?.text ?? '';
  for (let dot = at + 1; tokens[dot]?.text === '.'; dot += 2) name += `.${tokens[dot + 1]?.text ?? ''}`;
  return name.toLowerCase();
}

function refusedSetting(name: string): string | null {
  if (name.startsWith('partywall.')) return `${name} is the wall’s own; run(context, ...) enters a tenant`;
  if (name === 'role' || name === 'session_authorization') {
    return `${name} decides which policies hold, and it is the role of the connection that the wall was checked for; use a pool of its own for another role`;
  }
  if (name === 'standard_conforming_strings') return `${name} changes what a string is, by which the wall tells statements apart`;
  return null;
}

function droppedPlans(statement: string): string {
  return `${statement} drops the prepared statements that the pool goes on using; release(true) closes a connection instead`;
}

function heldCursor(words: readonly string[]): string | null {
  const options = words.slice(0, words.indexOf('for'));
  const held = options.some((word, at) => word === 'with' && options[at + 1] === 'hold');
  return held ? 'a cursor WITH HOLD outlives its transaction with one tenant’s rows in it; read it inside the transaction, without HOLD' : null;
}

/** What PostgreSQL refuses inside a transaction block, which a statement that follows `enter` is in. */
function runsAlone(verb: string, second: string, words: readonly string[]): boolean {
  if (verb === 'vacuum' || verb === 'cluster' || verb === 'reindex') return true;
  if (verb !== 'create' && verb !== 'drop' && verb !== 'alter') return false;
  return ['database', 'tablespace', 'subscription', 'system'].includes(second) || words.includes('concurrently');
}

const sessionCalls = new Set([
  'pg_advisory_lock',
  'pg_advisory_lock_shared',
  'pg_try_advisory_lock',
  'pg_try_advisory_lock_shared',
  'dblink_connect',
  'dblink_connect_u',
  // These run SQL that is a value, and so can call any of the others.
  'query_to_xml',
  'query_to_xml_and_xmlschema',
  'ts_stat',
]);

/**
 * What outlives the transaction: temporary objects, session locks, session settings. A DO block can build its statements from anything, so each counts;
 * and whatever is created may be temporary without a word, by the search path.
 */
function leftoverOf(tokens: Tokens, words: readonly string[]): string | null {
  if (words[0] === 'do') return 'what a DO block has done';
  if (createsObject(words) || tokens.some((token) => token.text.startsWith('pg_temp'))) return 'an object that may be temporary';
  for (const [at, token] of tokens.entries()) {
    if (token.kind === 'string') continue;
    // U&"..." spells a name by numbers: it may be any.
    if (token.kind === 'name' && /^u&"/i.test(token.text)) return 'what a name in Unicode escapes has called';
    if (sessionCalls.has(token.text) && tokens[at + 1]?.text === '(') return `${token.text}()`;
    if (token.text === 'set_config' && tokens[at + 1]?.text === '(' && !localSetting(tokens, at + 1)) return 'set_config() for the session';
  }
  return null;
}

/** CREATE, also by EXPLAIN ANALYZE, and SELECT INTO, unless it is temporary and dropped at the commit. */
function createsObject(words: readonly string[]): boolean {
  if (words[0] === 'create' || (words[0] === 'explain' && words.includes('create'))) return !(isTemporary(words) && dropsOnCommit(words));
  return words.some((word, at) => word === 'into' && words[at - 1] !== 'insert' && words[at - 1] !== 'merge');
}

function isTemporary(words: readonly string[]): boolean {
  return words.slice(0, 4).some((word) => word === 'temp' || word === 'temporary');
}

function dropsOnCommit(words: readonly string[]): boolean {
  return words.some((word, at) => word === 'on' && words[at + 1] === 'commit' && words[at + 2] === 'drop');
}

/** The third argument of the call whose parenthesis opens at `open` is the literal `true`; a parameter cannot be known. */
function localSetting(tokens: Tokens, open: number): boolean {
  const last = argumentsOf(tokens, open)[2] ?? [];
  const [only, ...others] = last;
  return others.length === 0 && (only?.text === 'true' || (only?.kind === 'string' && /^(?:t|true|on|1|yes)$/i.test(only.text)));
}

function argumentsOf(tokens: Tokens, open: number): Tokens[] {
  const found: Tokens[] = [];
  let argument: Tokens = [];
  let depth = 1;
  for (const token of tokens.slice(open + 1)) {
    if (token.kind === 'other' && token.text === '(') depth += 1;
    if (token.kind === 'other' && token.text === ')') depth -= 1;
    if (depth === 0) return [...found, argument];
    if (depth === 1 && token.kind === 'other' && token.text === ',') {
      found.push(argument);
      argument = [];
    } else {
      argument = [...argument, token];
    }
  }
  return [...found, argument];
}

/** `set_config` of a setting that SET may not touch either. */
function refusedCall(tokens: Tokens): string | null {
  for (const [at, token] of tokens.entries()) {
    if (token.kind === 'string' || token.text !== 'set_config' || tokens[at + 1]?.text !== '(') continue;
    const name = argumentsOf(tokens, at + 1)[0]?.find((part) => part.kind === 'string')?.text ?? '';
    const refusal = refusedSetting(name.toLowerCase());
    if (refusal) return refusal;
  }
  return null;
}
