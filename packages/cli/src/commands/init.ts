import fs from 'node:fs/promises';
import path from 'node:path';
import {
  type Catalog,
  type InferredModel,
  inferModel,
  type MergedModel,
  PartywallError,
  parseTableName,
  renderConfig,
  type TableName,
  updateModel,
} from '@partywall/engine';
import type { Command } from 'commander';
import { configName, findConfig, loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { liveCatalog } from '../database.ts';
import { helpEnding } from './help.ts';

interface InitFlags {
  readonly root?: string;
  readonly bootstrap?: string;
  readonly update?: true;
  readonly force?: true;
  readonly dryRun?: true;
}

export function registerInit(program: Command, start: Start): void {
  program
    .command('init')
    .summary('Infer the tenancy model of a database and write the config.')
    .description(
      'Infer the tenancy model of a database and write it, with the reason on each line. What cannot be told is left unclassified; ' +
        'a person decides, and `partywall check` fails until then. --update keeps your lines and adds what is new; the file is laid out afresh, so keep reasons in `why`.',
    )
    .option('--root <table>', 'the tenant root, where it cannot be told')
    .option('--bootstrap <tenant>', 'the one tenant of a database that was single-tenant: owns all rows that lead nowhere')
    .option('--update', 'merge what changed into the config that is there')
    .option('--force', 'write the config anew')
    .option('--dry-run', 'print the config on standard output, write nothing')
    .addHelpText(
      'after',
      helpEnding({ 0: 'written', 1: 'written, and lines are unclassified', 2: 'could not run, or a config is there already' }, [
        'partywall init',
        'partywall init --root public.organizations',
        'partywall init --update',
        'partywall init --dry-run > model.txt',
      ]),
    )
    .action(start<InitFlags>(init));
}

async function init(ctx: CommandContext, flags: InitFlags): Promise<Answer> {
  if (flags.update && flags.force) throw new PartywallError('usage', 'reading the command line: --update keeps the config, --force does not; choose one');
  const file = path.resolve(ctx.cwd, ctx.options.config ?? configName);
  if (flags.update) return update(ctx, flags);
  if (!flags.force && !flags.dryRun && (await findConfig({ ...ctx, options: { ...ctx.options, config: file } })) !== undefined) {
    throw new PartywallError('config_exists', `writing ${file}: it is there already`);
  }
  const catalog = await liveCatalog(databaseUrl(ctx), 'init');
  return written(file, flags, catalog, { inferred: inferAll(catalog, flags), added: [], decided: [], vanished: [] });
}

async function update(ctx: CommandContext, flags: InitFlags): Promise<Answer> {
  const { file, model } = await loadConfig(ctx);
  const catalog = await liveCatalog(databaseUrl(ctx), 'init');
  return written(file, flags, catalog, updateModel(catalog, model, flags.bootstrap === undefined ? {} : { bootstrap: flags.bootstrap }));
}

/** Infers a model from nothing; `up` does the same where there is no config. */
export function inferAll(catalog: Catalog, flags: Pick<InitFlags, 'root' | 'bootstrap'>): InferredModel {
  return inferModel(catalog, {
    ...(flags.root !== undefined && { root: rootOf(flags.root) }),
    ...(flags.bootstrap !== undefined && { bootstrap: flags.bootstrap }),
  });
}

/** Writes beside the target and renames, so that an interruption leaves the old file or the new one. */
export async function writeConfig(file: string, text: string): Promise<void> {
  const partial = `${file}.${process.pid}.partial`;
  try {
    await fs.writeFile(partial, text);
    await fs.rename(partial, file);
  } catch (cause) {
    await fs.rm(partial, { force: true }).catch(() => undefined); // where it could not be written there is nothing to remove
    throw new PartywallError('config_missing', `writing ${file}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
      hint: 'choose a folder you may write to, or pass --config',
    });
  }
}

function rootOf(text: string): TableName {
  const table = parseTableName(text);
  if (!table) throw new PartywallError('usage', `reading --root: not a table name: ${JSON.stringify(text)}`);
  return table;
}

async function written(file: string, flags: InitFlags, catalog: Catalog, merged: MergedModel): Promise<Answer> {
  const { inferred, added, decided, vanished } = merged;
  const text = renderConfig(inferred, { added: new Set(added), vanished: new Set(vanished), database: catalog.database });
  if (!flags.dryRun) await writeConfig(file, text);
  const counts = countScopes(inferred);
  const open = [...inferred.model.tables].filter(([, rule]) => rule.scope === 'unclassified').map(([table]) => table);
  const changes = flags.update ? [`${added.length} tables added, ${decided.length} decided, ${vanished.length} no longer there`] : [];
  const summary = [
    `${flags.dryRun ? 'would write' : 'wrote'} ${file}`,
    `tenant root ${inferred.model.tenant.table}; ${describeCounts(counts)}`,
    ...changes,
    ...(open.length === 0 ? ['next: read it, then `partywall check`'] : ['a person must decide:', ...open.map((table) => `  ${table}`)]),
  ];
  return {
    exit: open.length === 0 ? 0 : 1,
    data: {
      file,
      written: !flags.dryRun,
      tenant: inferred.model.tenant.table,
      ...counts,
      unclassifiedTables: open,
      added,
      decided,
      vanished,
      ...(flags.dryRun && { text }),
    },
    text: flags.dryRun ? text : summary.join('\n'),
  };
}

export type ScopeCounts = Readonly<Record<'scoped' | 'shared' | 'platform' | 'unclassified', number>>;

export function countScopes(inferred: Pick<InferredModel, 'model'>): ScopeCounts {
  const counts = { scoped: 0, shared: 0, platform: 0, unclassified: 0 };
  for (const rule of inferred.model.tables.values()) counts[rule.scope] += 1;
  return counts;
}

export function describeCounts(counts: ScopeCounts): string {
  return `${counts.scoped} scoped, ${counts.shared} shared, ${counts.platform} platform, ${counts.unclassified} unclassified`;
}
