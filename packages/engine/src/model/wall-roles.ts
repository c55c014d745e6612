import { createHash } from 'node:crypto';
import type { Catalog, Relation } from '../catalog/catalog.ts';
import type { WallRoles } from './model.ts';
import type { TableName } from './table-name.ts';

/** PostgreSQL cuts names at this many bytes; two names that are cut must not become one. */
const nameBytesMax = 63;

/** The role that owns most tables stays their owner; the other three are named after the database. */
export function wallRoles(catalog: Catalog, listed: readonly Relation[], root: TableName): WallRoles {
  const counts = new Map<string, number>();
  for (const { owner, table } of listed) counts.set(owner, (counts.get(owner) ?? 0) + (table === root ? 1.5 : 1));
  const [most] = [...counts].sort((left, right) => right[1] - left[1] || (left[0] < right[0] ? -1 : 1));
  const owner = most?.[0] ?? catalog.currentUser;
  const named = (purpose: string): string => {
    const name = fitted(catalog.database, `_${purpose}`);
    // An application that owns its tables often has the very name; the walled login must be another role.
    return name === owner ? fitted(catalog.database, `_walled_${purpose}`) : name;
  };
  return { owner, app: named('app'), system: named('system'), service: named('service') };
}

function fitted(database: string, suffix: string): string {
  if (Buffer.byteLength(database + suffix) <= nameBytesMax) return `${database}${suffix}`;
  const hash = createHash('sha256').update(database).digest('hex').slice(0, 8);
  const room = nameBytesMax - Buffer.byteLength(suffix) - hash.length - 1;
  // A cut inside a multi-byte character leaves a replacement character; drop it.
  const readable = Buffer.from(database)
    .subarray(0, room)
    .toString('utf8')
    .replace(/\uFFFD+$/u, '');
  return `${readable}_${hash}${suffix}`;
}
