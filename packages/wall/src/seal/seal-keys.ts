import { createHmac } from 'node:crypto';

/** A key that the application shares with the database: whoever has it can enter every tenant. */
export interface SealKey {
  /** Number under which the database has it. */
  readonly id: number;
  readonly secret: Buffer;
}

const secretBytes = 32;
/** Of one configuration; the databases of a pool need one or, while keys change, two. */
const keysMax = 8;
const idMax = 2 ** 31 - 1;

/**
 * Reads keys as `partywall seal rotate` prints them: `<id>:<32 bytes as base64url>`, several separated by commas, best first.
 *
 * @throws TypeError without the text in its message
 */
export function parseSealKeys(text: string): readonly SealKey[] {
  const keys = text.split(',').map((part) => {
    const [, id = '', secret = ''] = /^\s*(\d{1,10}):([A-Za-z0-9_-]{43})=?\s*$/.exec(part) ?? [];
    const key = { id: Number(id), secret: Buffer.from(secret, 'base64url') };
    if (key.id < 1 || key.id > idMax || key.secret.length !== secretBytes) {
      throw new TypeError('reading the keys of the seal: each is <number>:<32 bytes as base64url>, as `partywall seal rotate` prints it');
    }
    return key;
  });
  if (keys.length > keysMax) throw new TypeError(`reading the keys of the seal: ${keys.length} are more than ${keysMax}`);
  if (new Set(keys.map(({ id }) => id)).size < keys.length) throw new TypeError('reading the keys of the seal: two have the same number');
  return keys;
}

export interface Sealed {
  readonly tenant: string;
  readonly unit: string | null;
  /** Seconds since 1970. */
  readonly expires: number;
}

/**
 * HMAC-SHA256 of what `partywall.enter_sealed` is told, a line each: what it is, its end, the unit with its length in characters before it or nothing,
 * and the tenant, which may hold line ends itself.
 */
export function sealOf({ secret }: SealKey, { tenant, unit, expires }: Sealed): Buffer {
  const unitLine = unit === null ? '' : `${Array.from(unit).length}:${unit}`;
  return createHmac('sha256', secret).update(`partywall seal v1\n${expires}\n${unitLine}\n${tenant}`).digest();
}
