import { WallError, wallErrorFrom } from '../errors.ts';

/** How deep a client's wrappers are looked into. */
const wrappersMax = 8;

/** Where clients keep what they wrap: `cause` by most, `driverError` by TypeORM, the last two by Prisma. */
const wrappedIn = ['cause', 'driverError', 'originalError', 'meta', 'driverAdapterError'] as const;

/**
 * The wall's error inside an error of a client library, or undefined where it is about something else. A library that keeps only a
 * code and a message leads to an error made from these.
 *
 * @example
 * const refused = wallErrorOf(error);
 * if (refused) reply.status(refused.status).send({ error: refused.code });
 */
export function wallErrorOf(error: unknown): WallError | undefined {
  const wrappers = wrappersOf(error);
  const whole = wrappers.find((wrapper) => wrapper instanceof WallError);
  if (whole instanceof WallError) return whole;
  for (const wrapper of wrappers) {
    const found = toldBy(wrapper);
    if (found) return found;
  }
  return undefined;
}

/** The error, and what it wraps, from the outside in. */
function wrappersOf(error: unknown): object[] {
  const found: object[] = [];
  let next: object[] = isObject(error) ? [error] : [];
  for (let depth = 0; depth < wrappersMax && next.length > 0; depth += 1) {
    found.push(...next);
    next = next.flatMap((wrapper) => wrappedIn.map((name): unknown => Reflect.get(wrapper, name)).filter(isObject)).filter((one) => !found.includes(one));
  }
  return found;
}

/**
 * A state of class PW that a wrapper copied from the error it dropped; or, of Prisma's errors, which say their version, the wall's own code.
 * Anybody else's `code` may be the same word: `quota_exceeded` is many an API's.
 */
function toldBy(wrapper: object): WallError | undefined {
  const message = textOf(wrapper, 'originalMessage') ?? textOf(wrapper, 'message') ?? '';
  const byPrisma = textOf(wrapper, 'clientVersion') !== undefined;
  for (const name of ['code', 'originalCode']) {
    const code = textOf(wrapper, name);
    if (code === undefined || !(byPrisma || stateOfTheWall.test(code))) continue;
    const made = wallErrorFrom(code, { message, cause: wrapper });
    if (made) return made;
  }
  return undefined;
}

const stateOfTheWall = /^PW\d{3}$/;

function textOf(wrapper: object, name: string): string | undefined {
  const value: unknown = Reflect.get(wrapper, name);
  return typeof value === 'string' ? value : undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
