import {
  type BackupErasureCheck,
  type BackupErasurePreview,
  type Certificate,
  checkBackupErasure,
  type ErasureList,
  type ErasurePreview,
  eraseTenant,
  type Operation,
  PartywallError,
  previewBackupErasure,
  previewErasure,
  readCertificate,
  readErasureList,
  verifyCertificate,
} from '@partywall/engine';
import type { Command } from 'commander';
import { hasArchive, withArchive, withArchiveIfAny } from '../archive.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { awaitErasure, withEraser } from '../erasing.ts';
import { helpEnding } from './help.ts';
import { printable } from './tenants.ts';

export interface EraseFlags {
  readonly force?: true;
  readonly confirm?: string;
  readonly dryRun?: true;
  readonly reason?: string;
}

interface Flags extends EraseFlags {
  readonly certificate?: true;
  readonly segments?: true;
}

export function registerErase(program: Command, start: Start): void {
  program
    .command('erase')
    .summary('Erase a tenant for good: its rows, and its backups by destroying their keys.')
    .description(
      "Erase a tenant whose retention has ended, from the database and from every backup. Prints what goes, takes the tenant's name, destroys the keys of its backups, " +
        'proves that nothing of it opens and that everybody else still restores, and leaves a signed certificate that names every segment. It cannot be undone. What an ' +
        'interruption cuts off goes on when it is run again, or by a server that is up.',
    )
    .argument('<tenant>', 'key of the tenant')
    .option('--dry-run', 'only say what would go')
    .option('--confirm <name>', 'the name of the tenant; on a terminal it is asked for')
    .option('--force', 'although the retention has not ended; never under a legal hold')
    .option('--reason <text>', 'why, for the audit log and the certificate')
    .option('--certificate', 'instead: print the certificate of an erased tenant, and try again what it says')
    .option('--segments', 'instead: print what a certificate names, object by object')
    .addHelpText(
      'after',
      helpEnding(
        {
          0: 'erased, planned, or the certificate holds',
          1: 'refused; or the certificate does not hold; or a key-encryption key has still to be taken away',
          2: 'not confirmed, or could not run',
        },
        [
          'partywall erase <tenant> --dry-run',
          "partywall erase <tenant> --force --confirm 'New Company' --reason 'asked to'",
          'partywall erase <tenant> --certificate',
          'partywall erase <tenant> --segments --json',
        ],
      ),
    )
    .action((tenant: string, ...given: unknown[]) =>
      start<Flags>((ctx, flags) => withControl(ctx, (operation) => run(ctx, operation, tenant, flags)))(...given),
    );
}

function run(ctx: CommandContext, operation: Operation, tenant: string, flags: Flags): Promise<Answer> {
  if (flags.segments) return segments(ctx, operation, tenant);
  if (flags.certificate) return certificate(ctx, operation, tenant);
  return erase(ctx, operation, tenant, flags);
}

/** Erases for good, once the name was given. @throws PartywallError confirmation_required, and what `eraseTenant` throws */
export async function erase(ctx: CommandContext, operation: Operation, tenant: string, { force, confirm, dryRun, reason }: EraseFlags): Promise<Answer> {
  const preview = await previewErasure(operation, { tenant, force });
  const backups = await withArchiveIfAny(ctx, (archive) => previewBackupErasure(archive, tenant, operation.signal));
  const plan = planned(preview, backups);
  if (dryRun) return plan;
  // What is refused anyway is not asked for.
  if (preview.refusal === null) await confirmName(ctx, preview.tenant.name, { confirm, plan: plan.text });
  return withEraser(ctx, operation, async (durable) => {
    await awaitErasure(ctx, operation, await eraseTenant(operation, durable, { tenant, force, reason }));
    const { exit, data, text } = await certificate(ctx, operation, tenant);
    return { exit, data, text: `erased: ${printable(preview.tenant.name)} (${tenant})\n${text}` };
  });
}

async function confirmName(
  ctx: CommandContext,
  name: string,
  { confirm, plan }: { readonly confirm: string | undefined; readonly plan: string },
): Promise<void> {
  if (confirm === name) return;
  ctx.talk.line(plan);
  const typed = confirm === undefined && ctx.talk.interactive ? await ctx.talk.ask(`type the name of the tenant to erase it for good: `, ctx.signal) : confirm;
  if (typed === name) return;
  const given = typed === undefined ? 'not confirmed' : `${JSON.stringify(typed)} is not its name`;
  throw new PartywallError('confirmation_required', `about to erase ${JSON.stringify(name)} for good: ${given}, nothing was changed`, {
    hint: "pass the tenant's name as --confirm",
  });
}

function planned({ tenant, tables, plan, refusal }: ErasurePreview, backups: BackupErasurePreview | undefined): Answer {
  const width = Math.max(...tables.map(({ table }) => table.length));
  const lines = [
    `${printable(tenant.name)} (${tenant.id}), ${tenant.status}: these rows go for good, in this order`,
    ...tables.map(({ table, rows }) => `  ${table.padEnd(width)}  ${rows}`),
    ...plan.copies.map((view) => `  ${view} holds copies until it is refreshed`),
    ...(backups ? backupLines(backups) : ['no archive is given (PARTYWALL_ARCHIVE): that is refused where the database was ever backed up']),
    ...(refusal !== null ? [`it would be refused: ${refusal}`] : []),
  ];
  return { exit: 0, data: { dryRun: true, tenant, tables, copies: plan.copies, refusal, backups: backups ?? null }, text: lines.join('\n') };
}

function backupLines({ archive, backups, hasKey, keks, others, held, lockedUntil, unread }: BackupErasurePreview): string[] {
  if (!hasKey) return [`${archive} holds nothing of it: it was never backed up`];
  return [
    `these backups in ${archive} become unreadable for it: ${held.segments} segments in ${held.objects} objects, ${held.bytes} bytes`,
    ...backups.map(({ id, at, rows, segments: count }) => `  ${id}  ${at}  ${rows} rows in ${count} segments`),
    ...(unread > 0 ? [`  ${unread} more cannot be read, so that it is not known whether they hold it`] : []),
    `  key-encryption keys ${keks.join(', ')} are destroyed; the keys of ${others} others are wrapped under a new one`,
    ...(lockedUntil ? [`  objects are locked until ${lockedUntil}; they stay until then, and cannot be read`] : []),
  ];
}

/** Prints a certificate and tries what it says: signature, chain, and with an archive every segment. @throws PartywallError certificate_unknown */
export async function certificate(ctx: CommandContext, operation: Operation, tenant: string): Promise<Answer> {
  const found = await readCertificate(operation, tenant);
  const check = await verifyCertificate(operation, found);
  const { backups: erased } = found.body;
  const backups = erased && (await withArchiveIfAny(ctx, (archive) => checkBackupErasure(archive, erased)));
  const holds = check.valid && (backups?.valid ?? true);
  const rows = found.body.tables.reduce((sum, { before }) => sum + before, 0);
  const { list: _list, ...tried } = backups ?? {};
  return {
    exit: holds ? 0 : 1,
    data: { ...found, ...check, backups: backups ? tried : null },
    text: [
      found.text,
      `signature  ${found.signature}`,
      `key        ${found.body.keyId}`,
      ...certifiedLines(found, backups),
      check.valid
        ? `valid: certificate ${found.body.number}, ${rows} rows of ${found.body.tables.length} tables, ${found.body.completedAt}`
        : `NOT VALID: ${check.problem}`,
    ].join('\n'),
  };
}

function certifiedLines({ body: { backups: erased } }: Certificate, check: BackupErasureCheck | undefined): string[] {
  if (!erased) return [];
  const { held, others, keks, lockedUntil, unread } = erased;
  return [
    `backups    ${held.segments} segments of ${held.backups} backups in ${held.objects} objects cannot be read any more`,
    `others     ${others.visited} of ${others.of} looked at: ${others.opened} open, ${others.without} have nothing in the newest backup, ${others.damaged} are damaged`,
    ...(unread > 0 ? [`unread     ${unread} backups could not be read, and are not named; what they hold of it has no key either`] : []),
    ...(lockedUntil ? [`locked     objects stay until ${lockedUntil}, unreadable`] : []),
    ...(check ? tried(check) : keks.pending.length > 0 ? [pendingLine(keks.pending)] : []),
  ];
}

function tried({ segments: count, problems, pending }: BackupErasureCheck): string[] {
  return [
    `tried now  ${count} segments: ${problems.length === 0 ? 'none has a key' : 'NOT AS CERTIFIED'}`,
    ...problems.map((problem) => `  ${problem}`),
    ...(pending.length > 0 ? [pendingLine(pending)] : []),
  ];
}

function pendingLine(pending: readonly number[]): string {
  return `pending    key-encryption keys ${pending.join(', ')} have to be taken away by hand; until then a copy of the keybook from before the erasure opens`;
}

async function segments(ctx: CommandContext, operation: Operation, tenant: string): Promise<Answer> {
  const { body } = await readCertificate(operation, tenant);
  const named = body.backups?.list;
  if (!named) return { exit: 0, data: { list: null }, text: 'the certificate names no segments: nothing of the tenant was backed up' };
  if (!hasArchive(ctx)) throw new PartywallError('usage', `reading ${named.object}: it is in the archive, and PARTYWALL_ARCHIVE is not set`);
  const list = await withArchive(ctx, (archive) => readErasureList(archive.store, named));
  return { exit: 0, data: { ...named, list }, text: listText(list) };
}

function listText({ backups, objects, unread }: ErasureList): string {
  return [
    ...backups.map(({ id, at, rows, segments: count }) => `${id}  ${at}  ${rows} rows in ${count} segments`),
    ...objects.flatMap(({ object, bytes, sha256, segments: each }) => [
      `${object}  ${bytes} bytes  ${sha256 ?? 'reached by no backup'}`,
      ...each.map(({ table, part, offset, bytes: length, key }) => `  ${table} part ${part}  ${offset}+${length}  key ${key}`),
    ]),
    ...unread.map((line) => `unread: ${line}`),
  ].join('\n');
}
