import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import type pg from 'pg';
import { connect, describeTarget } from '../../db/connect.ts';
import { discardEmbedded, startEmbedded } from '../../db/embedded.ts';
import type { Operation } from '../../db/operation.ts';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';

/**
 * Where a drill restores to: a database that it makes and drops, on an embedded server of its own or beside the database that somebody names. Names tell
 * which source it is a drill of, so that what a killed drill left is found by the next one, and nobody else's is touched.
 */
export interface Scratch {
  /** Connection string as a superuser. */
  readonly url: string;
  readonly description: string;
  /** The server is the drill's own: roles on it belong to nobody else. */
  readonly own: boolean;
  /** Drops it. Can be called again. */
  drop(): Promise<void>;
}

export interface ScratchPlace {
  /** Tells this source from every other. */
  readonly source: string;
  /** Undefined: an embedded server in the work folder. */
  readonly into: string | undefined;
  readonly workFolder: string;
}

const databasePrefix = 'partywall_drill_';
const folderPrefix = 'drill-';
const sourceCharacters = 12;

const identitySql = `select (select c.system_identifier from pg_catalog.pg_control_system() c)::text || '/' || (select d.oid from pg_catalog.pg_database d where d.datname = current_database()) as identity`;

/** The same for every connection to one database, and for no other. */
export async function databaseIdentity(client: pg.ClientBase | pg.Pool): Promise<string> {
  const { rows } = await client.query<{ identity: string }>(identitySql);
  return rows[0]?.identity ?? '';
}

/**
 * Looks at where the scratch database will be.
 *
 * @throws PartywallError restore_refused: it is the database that is backed up; permission_missing; and what `connect` throws
 */
export async function scratchPlace({ database }: Operation, into: string | undefined, workFolder: string): Promise<ScratchPlace> {
  const identity = await databaseIdentity(database.pool);
  const source = createHash('sha256').update(identity).digest('hex').slice(0, sourceCharacters);
  if (into === undefined) return { source, into, workFolder };
  await onServer(into, async (client) => {
    if ((await databaseIdentity(client)) === identity) {
      throw new PartywallError('restore_refused', `drilling into ${describeTarget(into)}: that is the database that is backed up`, {
        hint: 'name a database of a staging server, or none: the drill then starts a server of its own',
      });
    }
    const { rows } = await client.query<{ superuser: boolean }>('select rolsuper as superuser from pg_catalog.pg_roles where rolname = current_user');
    if (!rows[0]?.superuser) {
      throw new PartywallError('permission_missing', `drilling into ${describeTarget(into)}: the connected role is no superuser`);
    }
  });
  return { source, into, workFolder };
}

/** @throws PartywallError embedded_unavailable, and what `connect` throws */
export async function makeScratch({ source, into, workFolder }: ScratchPlace, drill: string): Promise<Scratch> {
  const short = drill.replaceAll('-', '').slice(0, sourceCharacters);
  if (into === undefined) {
    const folder = path.join(workFolder, `${folderPrefix}${source}-${short}`);
    await fs.mkdir(workFolder, { recursive: true });
    const drop = (): Promise<void> => discardEmbedded(folder);
    try {
      const server = await startEmbedded({ dataDir: folder });
      return { url: server.url, description: 'an embedded server', own: true, drop };
    } catch (error) {
      await drop();
      throw error;
    }
  }
  const name = `${databasePrefix}${source}_${short}`;
  await onServer(into, async (client) => {
    await client.query(`create database ${ident(name)} template template0 encoding 'UTF8'`);
    // Rows of tenants are no business of whoever else uses that server.
    await client.query(`revoke all on database ${ident(name)} from public`);
  });
  const url = new URL(into);
  url.pathname = `/${encodeURIComponent(name)}`;
  return { url: url.toString(), description: describeTarget(url.toString()), own: false, drop: () => onServer(into, (client) => dropDatabase(client, name)) };
}

/** Removes what killed drills of the same source left here. For whoever knows that none of them runs. Returns what it removed. */
export async function sweepScratch({ source, into, workFolder }: ScratchPlace): Promise<string[]> {
  const removed: string[] = [];
  const entries = await fs.readdir(workFolder).catch(() => []);
  const folders = new Set(entries.filter((entry) => entry.startsWith(`${folderPrefix}${source}-`)).map((entry) => path.parse(entry).name));
  for (const folder of folders) {
    await discardEmbedded(path.join(workFolder, folder));
    removed.push(`server in ${folder}`);
  }
  if (into === undefined) return removed;
  await onServer(into, async (client) => {
    const { rows } = await client.query<{ name: string }>('select d.datname as name from pg_catalog.pg_database d where starts_with(d.datname, $1)', [
      `${databasePrefix}${source}_`,
    ]);
    for (const { name } of rows) {
      await dropDatabase(client, name);
      removed.push(`database ${name}`);
    }
    removed.push(...(await dropRoles(client, source)));
  });
  return removed;
}

const roleNote = (source: string): string => `made by a drill of ${source}`;

/** Marks roles as the drill's, so that they go with it. */
export async function noteRoles(client: pg.ClientBase, { source }: ScratchPlace, roles: readonly string[]): Promise<void> {
  for (const role of roles) await client.query(`comment on role ${ident(role)} is ${literal(roleNote(source))}`);
}

/** Drops the roles that drills of this source made; one that somebody has used for more since stays. */
async function dropRoles(client: pg.ClientBase, source: string): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    "select r.rolname as name from pg_catalog.pg_roles r where pg_catalog.shobj_description(r.oid, 'pg_authid') = $1",
    [roleNote(source)],
  );
  const dropped: string[] = [];
  for (const { name } of rows) {
    const gone = await client.query(`drop role if exists ${ident(name)}`).then(
      () => true,
      () => false,
    );
    if (gone) dropped.push(`role ${name}`);
  }
  return dropped;
}

/** Drops what this drill made on a server that is not its own. */
export async function dropStagedRoles({ source, into }: ScratchPlace): Promise<void> {
  if (into !== undefined) await onServer(into, (client) => dropRoles(client, source));
}

async function dropDatabase(client: pg.ClientBase, name: string): Promise<void> {
  await client.query(`drop database if exists ${ident(name)} with (force)`);
}

async function onServer<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = await connect(url, { purpose: 'drill' });
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
