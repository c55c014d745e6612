import {
  isTroubled,
  type JobRun,
  type JobVisitRecord,
  listJobRuns,
  listJobs,
  listJobVisits,
  type Operation,
  PartywallError,
  sqlState,
} from '@partywall/engine';
import type { Command } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withService } from '../control.ts';
import { helpEnding } from './help.ts';

interface ShowFlags {
  readonly run?: string;
}

const statuses = { 0: 'shown', 1: 'a last run left tenants out, or raised an alert', 2: 'could not be asked' };

export function registerJobs(program: Command, start: Start): void {
  const jobs = program
    .command('jobs')
    .summary('Show jobs over all tenants: who was visited, who was not, and what is zero that never was.')
    .description('Runs of the application’s jobs over all tenants, as forEachTenant wrote them down.');
  jobs
    .command('list')
    .summary('Show the last run of each job.')
    .addHelpText('after', helpEnding(statuses, ['partywall jobs list', 'partywall jobs list --json']))
    .action(start<Record<string, never>>(list));
  jobs
    .command('show')
    .summary('Show the runs of a job, and the tenants of the last one.')
    .argument('<job>', 'its name')
    .option('--run <key>', 'the tenants of this run')
    .addHelpText('after', helpEnding(statuses, ['partywall jobs show "monthly reports"', 'partywall jobs show "monthly reports" --run 2026-11']))
    .action((job: string, ...given: unknown[]) => start<ShowFlags>((ctx, { run }) => show(ctx, job, run))(...given));
}

function list(ctx: CommandContext): Promise<Answer> {
  return withJobs(ctx, async (operation) => {
    const items = await listJobs(operation);
    const text = items.length === 0 ? 'no job has run' : items.map((run) => `${run.job}: ${runLine(run)}`).join('\n');
    return { exit: items.some(isTroubled) ? 1 : 0, data: { items }, text: oneLineEach(text) };
  });
}

/** @throws PartywallError usage where there is no such job or run */
function show(ctx: CommandContext, job: string, runKey: string | undefined): Promise<Answer> {
  return withJobs(ctx, async (operation) => {
    const runs = await listJobRuns(operation, { job, runKey });
    const [run] = runs;
    if (!run) {
      const what = runKey === undefined ? `job ${JSON.stringify(job)}` : `run ${JSON.stringify(runKey)} of job ${JSON.stringify(job)}`;
      throw new PartywallError('usage', `showing ${what}: it has not run`, { hint: '`partywall jobs list` names the jobs' });
    }
    const visits = await listJobVisits(operation, { job, runKey: run.runKey });
    const text = [...runs.map(runLine), ...visits.filter(({ outcome }) => outcome !== 'succeeded').map(visitLine)].join('\n');
    return { exit: isTroubled(run) ? 1 : 0, data: { runs, visits }, text: oneLineEach(text) };
  });
}

function runLine({ runKey, status, planned, notVisited, succeeded, failed, skipped, rowsRead, rowsWritten, startedAt, alerts }: JobRun): string {
  const counts = `visited ${planned - notVisited} of ${planned}: ${succeeded} succeeded, ${failed} failed, ${skipped} skipped; ${rowsRead} rows read, ${rowsWritten} written`;
  return [`${startedAt}  ${runKey}  ${status}, ${counts}`, ...alerts.map((alert) => `  ALERT: ${alert}`)].join('\n');
}

function visitLine({ tenant, outcome, reason, attempts }: JobVisitRecord): string {
  const what = outcome === 'pending' ? 'not visited' : outcome;
  return `  ${tenant}  ${what}${reason === null ? '' : `: ${reason}`}${attempts > 1 ? ` after ${attempts} attempts` : ''}`;
}

/** Names of jobs and keys are the application's: they reach a terminal without control characters. */
function oneLineEach(text: string): string {
  return text
    .split('\n')
    .map((line) => line.replaceAll(/\p{C}+/gu, ' '))
    .join('\n');
}

/** @throws PartywallError phase_refused where the wall is older than the records of jobs, and what `withService` and `work` throw */
async function withJobs(ctx: CommandContext, work: (operation: Operation) => Promise<Answer>): Promise<Answer> {
  try {
    return await withService(ctx, work);
  } catch (cause) {
    if (sqlState(cause) !== '42P01') throw cause;
    throw new PartywallError('phase_refused', 'looking for jobs: the wall of this database is older than their records', {
      cause,
      hint: 'run `partywall apply` again: it brings schema partywall up to date',
    });
  }
}
