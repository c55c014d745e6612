import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  appendAudit,
  backupSource,
  describeTarget,
  findBackup,
  holdsTenant,
  liveSource,
  modelInSchema,
  openSqlite,
  PartywallError,
  plainSource,
  readTenantFile,
  sqliteSource,
  sqlState,
  type TenantFileManifest,
  type TenantSource,
  tenantFileName,
  unownedRows,
  unownedText,
  writeTenantFile,
} from '@partywall/engine';
import type { Command } from 'commander';
import { withArchive } from '../archive.ts';
import { loadConfig } from '../config-file.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { stateFolder } from '../embedded.ts';
import { connectPlain, plainDatabase } from '../plain-database.ts';
import { backupCommand } from './backup-verb.ts';
import { helpEnding } from './help.ts';

/** Everything that a tenant has: nobody else on the machine reads it. */
const fileMode = 0o600;
const live = 'live';

interface ExportFlags {
  readonly from: string;
  readonly sqlite?: string;
  readonly out?: string;
  readonly exportOnly?: true;
  readonly force?: true;
}

/** Adds `export` and `check-file` to the verbs of backups. */
export function registerBackupExport(program: Command, start: Start): void {
  const backup = backupCommand(program);

  backup
    .command('export')
    .description(
      'Write one tenant into one tar.gz that `psql -f restore.sql` restores: a file for each table, a manifest with the number of its rows. Not encrypted. ' +
        'Reads the database under the control plane (PARTYWALL_SERVICE_URL), or any other (--url, DATABASE_URL or PG* variables; `?schema=` or PGSCHEMA), ' +
        'a backup, or a SQLite file.',
    )
    .argument('<tenant>', 'key of the tenant')
    .option('--from <source>', `${live}, or a backup: its id, latest, or a time`, live)
    .option('--sqlite <file>', 'a SQLite file instead')
    .option('-o, --out <path>', 'file or folder (default: tenant_<key>_<time>.tar.gz here)')
    .option('--export-only', 'the rows alone, without the statements that make the schema where the source has them')
    .option('--force', 'write over a file that is there')
    .addHelpText(
      'after',
      helpEnding({ 0: 'written', 1: 'could not be written to its end; nothing is left behind', 2: 'could not be asked' }, [
        'partywall backup export demo-tenant --export-only',
        'partywall backup export demo-tenant --from latest --out exports/',
        'partywall backup export demo-tenant --sqlite data/admin.db',
      ]),
    )
    .action((tenant: string, ...given: unknown[]) => start<ExportFlags>((ctx, flags) => write(ctx, tenant, flags))(...given));

  backup
    .command('check-file')
    .description('Read a file that `backup export` wrote to its end and compare sizes, hashes and numbers of rows with its manifest. Needs no database.')
    .argument('<file>', 'the tar.gz')
    .addHelpText(
      'after',
      helpEnding({ 0: 'it is what its manifest says', 1: 'never', 2: 'damaged, changed, cut short, or no such file' }, [
        'partywall backup check-file tenant_demo-tenant_20261121_020000.tar.gz',
      ]),
    )
    .action((file: string, ...given: unknown[]) => start<object>((ctx) => check(ctx, file))(...given));
}

interface Written {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly manifest: TenantFileManifest;
}

async function write(ctx: CommandContext, tenant: string, flags: ExportFlags): Promise<Answer> {
  if (flags.sqlite !== undefined) return writeSqlite(ctx, { tenant, flags, file: path.resolve(ctx.cwd, flags.sqlite) });
  if (flags.from !== live) {
    return withArchive(ctx, async (archive) => {
      const found = await findBackup(archive, flags.from, holdsTenant(archive, tenant));
      return answer(await writeFile(ctx, await backupSource(archive, found, tenant), flags));
    });
  }
  return ctx.options.url === undefined && ctx.env['PARTYWALL_SERVICE_URL'] ? writeControlled(ctx, tenant, flags) : writePlain(ctx, tenant, flags);
}

/** The tenant's audit log has each of them, also one that failed on the way. */
function writeControlled(ctx: CommandContext, tenant: string, flags: ExportFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const source = await liveSource(operation, tenant);
    let written: Written | undefined;
    try {
      written = await writeFile(ctx, source, flags);
      return answer(written);
    } finally {
      source.close();
      const details = written ? { format: 'file', complete: true, rows: written.manifest.rows, sha256: written.sha256 } : { format: 'file', complete: false };
      await appendAudit(operation.database.pool, operation, { tenant, action: 'tenant.export', details });
    }
  });
}

async function writePlain(ctx: CommandContext, tenant: string, flags: ExportFlags): Promise<Answer> {
  const database = plainDatabase(ctx);
  if (!database) {
    throw new PartywallError('usage', 'reading the tenant: no database given', {
      hint: 'set PARTYWALL_SERVICE_URL, DATABASE_URL or PGHOST and its like; or pass --url, --from <backup> or --sqlite <file>',
    });
  }
  const { model } = await loadConfig(ctx);
  const client = await connectPlain(database);
  const options = { clock: () => new Date(), target: describeTarget(database.url), schemaNamed: database.schema !== undefined };
  const source = await plainSource(client, database.schema === undefined ? model : modelInSchema(model, database.schema), tenant, options);
  try {
    return answer(await writeFile(ctx, source, flags));
  } finally {
    await source.close();
  }
}

async function writeSqlite(ctx: CommandContext, { tenant, flags, file }: { tenant: string; flags: ExportFlags; file: string }): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const opened = await openSqlite(file, { model, workFolder: workFolder(ctx), clock: () => new Date() });
  try {
    const left = unownedText(unownedRows(opened));
    const written = await writeFile(ctx, sqliteSource(opened, tenant), flags);
    for (const line of left) ctx.talk.line(`not in any tenant's export: ${line}`);
    return answer(written, left);
  } finally {
    await opened.close();
  }
}

async function check(ctx: CommandContext, name: string): Promise<Answer> {
  const file = path.resolve(ctx.cwd, name);
  const read = await readTenantFile(file, { workFolder: workFolder(ctx) });
  await read.close();
  const { tenant, at, kind, source, rows, tables } = read.manifest;
  return {
    exit: 0,
    data: { file, tenant, at, kind, source, rows, tables: counts(read.manifest) },
    text: [`${file} is whole`, `  tenant ${tenant}, as of ${at}, from ${source}`, ...tables.map((table) => `  ${table.name}: ${table.rows} rows`)].join('\n'),
  };
}

/** The file is there whole or not at all. */
async function writeFile(ctx: CommandContext, source: TenantSource, flags: ExportFlags): Promise<Written> {
  const file = await target(ctx, source, flags);
  if (!flags.force && (await kindOf(file)) !== undefined)
    throw new PartywallError('usage', `writing ${file}: it is there already`, { hint: 'choose another name, or pass --force' });
  const partial = `${file}.${process.pid}.partial`;
  const hash = createHash('sha256');
  let bytes = 0;
  let manifest: TenantFileManifest | undefined;
  const document = async function* (): AsyncGenerator<Buffer> {
    manifest = yield* writeTenantFile(source, {
      kind: flags.exportOnly ? 'export' : 'full',
      signal: ctx.signal,
      onProgress: ({ table, rows }) => ctx.talk.progress({ label: `exporting ${table}`, done: rows, unit: 'rows' }),
    });
  };
  const counted = async function* (pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      hash.update(piece);
      bytes += piece.length;
      yield piece;
    }
  };
  try {
    const handle = await fs.open(partial, 'wx', fileMode);
    await pipeline(Readable.from(document()), counted, handle.createWriteStream({ flush: true }), { signal: ctx.signal });
    await fs.rename(partial, file);
  } catch (error) {
    await fs.rm(partial, { force: true });
    throw notWritten(error, file);
  }
  if (!manifest) throw new Error('the file was written without its manifest');
  return { file, bytes, sha256: hash.digest('hex'), manifest };
}

async function target(ctx: CommandContext, { tenant, at }: TenantSource, { out }: ExportFlags): Promise<string> {
  const name = tenantFileName(tenant, at);
  if (out === undefined) return path.join(ctx.cwd, name);
  const given = path.resolve(ctx.cwd, out);
  const isFolder = out.endsWith('/') || (await kindOf(given)) === 'folder';
  if (isFolder) await fs.mkdir(given, { recursive: true });
  return isFolder ? path.join(given, name) : given;
}

async function kindOf(file: string): Promise<'folder' | 'file' | undefined> {
  const stat = await fs.stat(file).catch(() => undefined);
  return stat && (stat.isDirectory() ? 'folder' : 'file');
}

function answer({ file, bytes, sha256, manifest }: Written, left: readonly string[] = []): Answer {
  const { tenant, at, kind, source, rows } = manifest;
  return {
    exit: 0,
    data: { file, tenant, at, kind, source, bytes, sha256, rows, tables: counts(manifest), left },
    text: [file, `  ${rows} rows of tenant ${tenant} in ${manifest.tables.length} tables, from ${source}`, `  ${bytes} bytes, SHA-256 ${sha256}`].join('\n'),
  };
}

function counts({ tables }: TenantFileManifest): { name: string; rows: number }[] {
  return tables.map(({ name, rows }) => ({ name, rows }));
}

function workFolder(ctx: CommandContext): string {
  return path.resolve(ctx.cwd, ctx.env['PARTYWALL_WORK'] ?? path.join(stateFolder, 'work'));
}

function notWritten(error: unknown, file: string): unknown {
  const code = sqlState(error) ?? '';
  if (code === 'ENOSPC') return new PartywallError('store_full', `writing ${file}: no space is left`, { cause: error });
  return /^E[A-Z]+$/.test(code) && error instanceof Error && 'path' in error
    ? new PartywallError('usage', `writing ${file}: ${error.message}`, { cause: error })
    : error;
}
