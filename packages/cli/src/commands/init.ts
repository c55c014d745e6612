import fs from 'node:fs/promises';
import path from 'node:path';
import {
  type Catalog,
  type InferredModel,
  inferModel,
  type MergedModel,
  modelFingerprint,
  PartywallError,
  parseTableName,
  patchConfig,
  renderConfig,
  type TableName,
  type TenancyModel,
  updateModel,
} from '@partywall/engine';
import type { Command } from 'commander';
import { configName, findConfig, loadConfig, modelOfText } from '../config-file.ts';
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
        'a person decides, and `partywall check` fails until then. --update adds what is new, marks what is gone and leaves every other character as it is.',
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
  const merged: MergedModel = { inferred: inferAll(catalog, flags), added: [], decided: [], vanished: [] };
  return written(file, flags, merged, textOf(merged, catalog.database));
}

async function update(ctx: CommandContext, flags: InitFlags): Promise<Answer> {
  const { file, model } = await loadConfig(ctx);
  const catalog = await liveCatalog(databaseUrl(ctx), 'init');
  const merged = updateModel(catalog, model, flags.bootstrap === undefined ? {} : { bootstrap: flags.bootstrap });
  return written(file, flags, merged, (await patched(file, model, merged, catalog.database)) ?? textOf(merged, catalog.database));
}

/** The config with only its changed lines touched; undefined where its source is built in a way that cannot be edited so. */
async function patched(file: string, model: TenancyModel, merged: MergedModel, database: string): Promise<string | undefined> {
  const text = patchConfig(await fs.readFile(file, 'utf8'), model, merged, database);
  if (text === undefined) return undefined;
  const read = await modelOfText(text, file).catch(() => undefined); // an edit that no longer parses is no edit: the file is laid out afresh
  return read && modelFingerprint(read) === modelFingerprint(merged.inferred.model) ? text : undefined;
}

function textOf({ inferred, added, vanished }: MergedModel, database: string): string {
  return renderConfig(inferred, { added: new Set(added), vanished: new Set(vanished), database });
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

async function written(file: string, flags: InitFlags, merged: MergedModel, text: string): Promise<Answer> {
  const { inferred, added, decided, vanished } = merged;
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
