import fs from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type CustomerKeys, exportForCustomer, PartywallError, sqlState, type TenantFileManifest, type TenantSource } from '@partywall/engine';
import type { Answer, CommandContext } from '../context.ts';

/** Everything that a tenant has: nobody else on the machine reads it. */
const fileMode = 0o600;

export interface FileFlags {
  readonly toFile?: string;
  readonly recipient?: readonly string[];
  readonly plain?: true;
  readonly force?: true;
}

/** Writes one tenant into one file for its customer, whole or not at all. @throws PartywallError usage, input_invalid, store_full, and what the source throws */
export async function writeForCustomer(ctx: CommandContext, source: TenantSource, { toFile = '', recipient, plain, force }: FileFlags): Promise<Answer> {
  const file = path.resolve(ctx.cwd, toFile);
  if ((recipient === undefined) === (plain === undefined))
    throw new PartywallError('usage', `writing ${file}: pass --recipient with the customer's public key, or --plain for a file that anybody can read`);
  if (!force && (await fs.stat(file).catch(() => undefined)))
    throw new PartywallError('usage', `writing ${file}: it is there already`, { hint: 'choose another name, or pass --force' });
  const keys: CustomerKeys = recipient ? { recipients: recipient } : { plain: true };
  const partial = `${file}.${process.pid}.partial`;
  let manifest: TenantFileManifest | undefined;
  const document = async function* (): AsyncGenerator<Buffer> {
    manifest = yield* exportForCustomer(source, keys, {
      kind: 'full',
      signal: ctx.signal,
      onProgress: ({ table, rows }) => ctx.talk.progress({ label: `exporting ${table}`, done: rows, unit: 'rows' }),
    });
  };
  try {
    const handle = await fs.open(partial, 'wx', fileMode);
    await pipeline(Readable.from(document()), handle.createWriteStream({ flush: true }), { signal: ctx.signal });
    await fs.rename(partial, file);
  } catch (error) {
    await fs.rm(partial, { force: true });
    throw notWritten(error, file);
  }
  const { tenant, at, rows = 0, tables = [] } = manifest ?? {};
  const how = recipient ? `encrypted to ${recipient.length === 1 ? 'one key' : `${recipient.length} keys`}; age -d opens it` : 'not encrypted';
  return {
    exit: 0,
    data: { file, tenant, at, encrypted: recipient !== undefined, rows, tables: tables.map(({ name, rows: count }) => ({ name, rows: count })) },
    text: `${file}\n  ${rows} rows of tenant ${tenant} as of ${at}, ${how}`,
  };
}

function notWritten(error: unknown, file: string): unknown {
  const code = sqlState(error) ?? '';
  if (code === 'ENOSPC') return new PartywallError('store_full', `writing ${file}: no space is left`, { cause: error });
  return /^E[A-Z]+$/.test(code) && error instanceof Error && 'path' in error
    ? new PartywallError('usage', `writing ${file}: ${error.message}`, { cause: error })
    : error;
}
