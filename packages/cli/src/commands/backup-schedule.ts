import { type BackupDecision, backupSettings, lookAtSchedule, runScheduledBackup } from '@partywall/engine';
import type { Command } from 'commander';
import { withArchive } from '../archive.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { backupCommand } from './backup-verb.ts';
import { helpEnding } from './help.ts';

interface ScheduleFlags {
  readonly run?: true;
}

export function registerBackupSchedule(program: Command, start: Start): void {
  backupCommand(program)
    .command('schedule')
    .summary('Show what is to be backed up when, and why.')
    .description(
      'Shows what is due now and when the next backup is made: daily at 02:00 UTC, and between as often as the tiers of the tenants ask. A server looks every five minutes; ' +
        'where none runs, --run every five minutes does the same.',
    )
    .option('--run', 'back up what is due, verify it and record it')
    .addHelpText(
      'after',
      helpEnding({ 0: 'shown; with --run, nothing was due or it is backed up', 1: 'what is due could not be backed up', 2: 'could not be asked' }, [
        'partywall backup schedule',
        'partywall backup schedule --run',
      ]),
    )
    .action(start<ScheduleFlags>(schedule));
}

function schedule(ctx: CommandContext, { run }: ScheduleFlags): Promise<Answer> {
  const settings = backupSettings(ctx.env);
  return withControl(ctx, async (operation) => {
    if (!run) {
      const decision = await lookAtSchedule(operation, settings, { leaveTrace: false });
      return { exit: 0, data: decision, text: textOf(decision) };
    }
    const scheduled = await withArchive(ctx, (archive) => runScheduledBackup(operation, archive, { settings }));
    const { decision, outcome } = scheduled;
    const done = outcome ? [`backup ${outcome.backup} is verified: a recovery point of ${outcome.tenants} tenants`] : [];
    return { exit: 0, data: scheduled, text: [textOf(decision), ...done].join('\n') };
  });
}

function textOf({ run, next, reasons }: BackupDecision): string {
  const what = run === undefined ? [] : [`due now: ${run.tenants === undefined ? 'everything' : `${run.tenants.length} tenants`} (${run.reason})`];
  return [...what, ...reasons.map((reason) => `  ${reason}`), `next look: ${next.toISOString()} at the latest`].join('\n');
}
