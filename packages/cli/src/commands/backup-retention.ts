import { applyRetention, backupSettings, type RetentionReport } from '@partywall/engine';
import type { Command } from 'commander';
import { withArchive } from '../archive.ts';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { backupCommand } from './backup-verb.ts';
import { helpEnding } from './help.ts';

interface RetentionFlags {
  readonly dryRun?: true;
  readonly yes?: true;
}

export function registerBackupRetention(program: Command, start: Start): void {
  backupCommand(program)
    .command('retention')
    .summary('Remove backups that no period asks for.')
    .description(
      'Says of each backup whether it is kept, until when and why, and removes what is not: whole backups, single tenants out of backups that others need, and after a ' +
        'day what nothing reaches any more. Three verified backups of everything and of each tenant always stay. Prints the plan and asks first.',
    )
    .option('--dry-run', 'only say what would happen')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      helpEnding({ 0: 'done, or planned', 1: 'something could not be read, so nothing was removed, or is locked', 2: 'could not be asked' }, [
        'partywall backup retention --dry-run',
        'partywall backup retention --yes',
      ]),
    )
    .action(start<RetentionFlags>(retention));
}

function retention(ctx: CommandContext, flags: RetentionFlags): Promise<Answer> {
  const settings = backupSettings(ctx.env);
  return withControl(ctx, (operation) =>
    withArchive(ctx, async (archive) => {
      const answer = (report: RetentionReport): Answer => ({ exit: report.problems.length > 0 ? 1 : 0, data: report, text: textOf(report) });
      if (flags.dryRun || !flags.yes) {
        const plan = await applyRetention(operation, archive, { dryRun: true, settings });
        if (flags.dryRun) return answer(plan);
        ctx.talk.line(textOf(plan));
        await confirmed(ctx, flags, `remove ${plan.removed} backups, and tenants out of others ${plan.retired} times`);
      }
      return answer(await applyRetention(operation, archive, { settings }));
    }),
  );
}

function textOf({ dryRun, countedFrom, backups, removed, retired, swept, problems }: RetentionReport): string {
  const did = dryRun ? 'would be ' : '';
  return [
    ...backups.map(({ id, keep, reasons, retired: gone }) => {
      const out = keep && gone > 0 ? `; ${gone} subjects ${did}let go` : '';
      return `${keep ? 'keep  ' : 'remove'}  ${id}  ${reasons.join('; ')}${out}`;
    }),
    countedFrom === null ? 'no backup is verified, so nothing is removed' : `periods are counted from ${countedFrom}, the newest verified backup`,
    `${backups.length} backups: ${removed} ${did}removed; tenants ${did}let go out of others ${retired} times`,
    ...(swept
      ? [`objects that nothing reaches: ${swept.deleted} deleted (${swept.bytes} bytes), ${swept.waiting} to be deleted later, ${swept.locked} locked`]
      : []),
    ...problems.map((problem) => `problem: ${problem}`),
  ].join('\n');
}
