import { randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import {
  type AuditAnchor,
  type AuditReport,
  anchorLine,
  type ExportReport,
  exportAudit,
  PartywallError,
  publicKeys,
  readVerifier,
  verifierOfKeys,
  verifyAudit,
  verifyAuditExport,
} from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { keyringFolder, withControl } from '../control.ts';
import { helpEnding } from './help.ts';

interface VerifyFlags {
  readonly tenant?: string;
  readonly platform?: true;
  readonly anchors?: string;
  readonly file?: string;
  readonly keys?: string;
}

interface ExportFlags {
  readonly output: string;
  readonly tenant?: string;
  readonly platform?: true;
  readonly from?: string;
  readonly to?: string;
}

/** Anchors that one file may hold: one for each chain, of many days. */
const anchorsMax = 1_000_000;

/** `audit verify` and `audit export`, which work with files. */
export function registerAuditFiles(audit: Command, start: Start): void {
  audit
    .command('verify')
    .description(
      'Read every record of every chain and name, for each chain that is broken, the first record that was changed, removed, replaced or added. ' +
        'With --anchors also what was cut off or written anew since they were signed. With --file an export, without its database.',
    )
    .addOption(new Option('--tenant <key>', "only this tenant's chain").conflicts(['platform', 'file']))
    .addOption(new Option('--platform', "only the platform's chain").conflicts('file'))
    .option('--anchors <file>', 'anchors that `partywall audit anchor` printed')
    .option('--file <file>', 'verify this export; takes no database, only the keyring')
    .addOption(
      new Option('--keys <file>', 'with --file: public keys that `partywall audit keys` printed, in place of the keyring').conflicts(['tenant', 'platform']),
    )
    .addHelpText(
      'after',
      helpEnding({ 0: 'sound', 1: 'broken: the chains and records are named', 2: 'could not be verified' }, [
        'partywall audit verify --anchors anchors-2026-12-01.jsonl',
        'partywall audit verify --file audit.jsonl --keys audit-keys.pem',
      ]),
    )
    .action(start<VerifyFlags>(verify));

  audit
    .command('keys')
    .description('Print the public keys of the keyring, as PEM: for whoever verifies an export elsewhere.')
    .addHelpText('after', helpEnding({ 0: 'printed', 2: 'the keyring cannot be read' }, ['partywall audit keys > audit-keys.pem']))
    .action(start(printKeys));

  audit
    .command('export')
    .description('Write the audit log, or a part of it without gaps, to a file of lines of JSON that verifies by itself.')
    .requiredOption('--output <file>', 'file to write; one that is there is replaced when the export is complete')
    .addOption(new Option('--tenant <key>', "only this tenant's chain").conflicts('platform'))
    .option('--platform', "only the platform's chain")
    .option('--from <time>', 'from this time on: a day (its start, UTC), or a time with its zone', parseTime)
    .option('--to <time>', 'before this time', parseTime)
    .addHelpText('after', helpEnding({ 0: 'written', 2: 'could not be written' }, ['partywall audit export --tenant 42 --output audit.jsonl']))
    .action(start<ExportFlags>(writeExport));
}

async function verify(ctx: CommandContext, { tenant, platform, anchors: file, file: exported, keys }: VerifyFlags): Promise<Answer> {
  const anchors = file === undefined ? [] : await readAnchors(path.resolve(ctx.cwd, file));
  if (exported !== undefined) {
    const verifier = keys === undefined ? await readVerifier(keyringFolder(ctx)) : verifierOfKeys(await readKeys(path.resolve(ctx.cwd, keys)));
    const report = await verifyAuditExport(linesOf(path.resolve(ctx.cwd, exported)), { verify: verifier, anchors });
    return answerOf(report, report.file);
  }
  return withControl(ctx, async (operation) => {
    const wanted = platform ? null : tenant;
    // The anchors of other chains say nothing about this one.
    const ours = wanted === undefined ? anchors : anchors.filter((anchor) => anchor.tenant === (wanted ?? ''));
    return answerOf(await verifyAudit(operation, { tenant: wanted, anchors: ours }), []);
  });
}

async function printKeys(ctx: CommandContext): Promise<Answer> {
  const keys = [...(await publicKeys(keyringFolder(ctx)))].map(([id, pem]) => ({ id, pem }));
  return { exit: 0, data: { keys }, text: keys.map(({ pem }) => pem).join('') };
}

function answerOf(report: AuditReport | ExportReport, file: readonly string[]): Answer {
  const { sound, chains, records, anchors, faults, more } = report;
  const counted = `${records} records in ${chains.visited} of ${chains.of} chains, ${anchors} anchors`;
  const text = [
    ...file.map((line) => `broken: ${line}`),
    ...faults.map(({ tenantId, message }) => `broken: ${tenantId ?? 'platform'}: ${message}`),
    ...(more > 0 ? [`and ${more} more chains`] : []),
    `${sound ? 'sound' : 'not sound'}: ${counted}`,
  ].join('\n');
  return { exit: sound ? 0 : 1, data: report, text };
}

async function writeExport(ctx: CommandContext, { output, tenant, platform, from, to }: ExportFlags): Promise<Answer> {
  const file = path.resolve(ctx.cwd, output);
  // Beside it, so that the rename is one step: a file of that name is always a whole export.
  const draft = `${file}.${randomUUID()}.partial`;
  const written = await withControl(ctx, async (operation) => {
    const handle = await openDraft(draft);
    let bytes = 0;
    try {
      for await (const lines of exportAudit(operation, { tenant: platform ? null : tenant, from, to })) bytes += (await handle.write(lines)).bytesWritten;
      await handle.sync();
    } catch (error) {
      await fs.rm(draft, { force: true });
      throw error;
    } finally {
      await handle.close();
    }
    await fs.rename(draft, file);
    return bytes;
  });
  return { exit: 0, data: { file, bytes: written }, text: `wrote ${file}, ${written} bytes` };
}

/** For its owner alone: the log tells who did what. */
async function openDraft(draft: string): Promise<fs.FileHandle> {
  try {
    return await fs.open(draft, 'wx', 0o600);
  } catch (cause) {
    throw new PartywallError('usage', `writing ${draft}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

async function readAnchors(file: string): Promise<AuditAnchor[]> {
  const anchors: AuditAnchor[] = [];
  for await (const line of linesOf(file)) {
    const parsed = line === '' ? undefined : anchorLine.safeParse(parseJson(line));
    if (parsed?.success === false || anchors.length >= anchorsMax) {
      throw new PartywallError('input_invalid', `reading ${file}: line ${anchors.length + 1} is no anchor, or one too many`, {
        hint: '`partywall audit anchor` prints one on each line',
      });
    }
    if (parsed) anchors.push(parsed.data);
  }
  return anchors;
}

async function readKeys(file: string): Promise<string> {
  const handle = await openText(file);
  return handle.readFile('utf8').finally(() => handle.close());
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const handle = await openText(file);
  yield* handle.readLines();
}

async function openText(file: string): Promise<fs.FileHandle> {
  try {
    const handle = await fs.open(file);
    if ((await handle.stat()).isFile()) return handle;
    await handle.close();
  } catch (cause) {
    throw new PartywallError('usage', `reading ${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  throw new PartywallError('usage', `reading ${file}: it is no file`);
}

/** A day, or a time with its zone, as ISO 8601 in UTC. */
export function parseTime(text: string): string {
  const date = new Date(text);
  if (!/^\d{4}-\d{2}-\d{2}(T.+(Z|[+-]\d{2}:\d{2}))?$/.test(text) || Number.isNaN(date.getTime())) {
    throw new InvalidArgumentError('write 2027-01-31, or a time with its zone as in 2027-01-31T12:00:00Z');
  }
  return date.toISOString();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
