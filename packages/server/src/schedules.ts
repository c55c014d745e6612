import {
  anchorAudit,
  applyRetention,
  type ControlDatabase,
  type Durable,
  drillDue,
  evaluateAlerts,
  finishDueMoves,
  forgetErased,
  type OpenArchive,
  type Operation,
  PartywallError,
  type Placements,
  pruneAudit,
  pruneUsage,
  purgeAlerts,
  purgeRetained,
  type Schedule,
  superviseRollout,
  surveyUsage,
  syncLedger,
  tickBackups,
  withOpened,
} from '@partywall/engine';
import type { ArchiveOptions } from './routes/backups.ts';

/** What a server may have or not. */
interface Scheduled {
  readonly archive?: ArchiveOptions | undefined;
  readonly placements?: Placements | undefined;
}

/**
 * What the control plane does by itself, in UTC. Of all servers of a database one does each; what fails is tried again at its next time. Each is also a
 * command, for whoever mounts the server without `serve`.
 */
export function schedules(database: ControlDatabase, { archive, placements }: Scheduled = {}): Schedule[] {
  const operation: Operation = { database, actor: { kind: 'system', id: 'schedule' } };
  const every = (name: string, cron: string, work: (operation: Operation) => Promise<unknown>): Schedule => ({
    name,
    cron,
    run: async () => {
      await work(operation);
    },
  });
  return [
    every('alerts.evaluate', '* * * * *', evaluateAlerts),
    every('rollout.guard', '* * * * *', superviseRollout),
    every('usage.survey', '7 * * * *', surveyUsage),
    every('audit.anchor', '17 * * * *', anchorAudit),
    // At night, apart from each other.
    every('usage.prune', '10 3 * * *', pruneUsage),
    every('alerts.purge', '20 3 * * *', purgeAlerts),
    every('audit.prune', '30 3 * * *', pruneAudit),
    {
      name: 'tenants.purge',
      cron: '40 3 * * *',
      run: async (durable) => {
        await purgeRetained(operation, durable);
      },
    },
    ...(archive ? archiveSchedules(operation, archive) : []),
    ...(placements ? [{ name: 'moves.finish', cron: '15 4 * * *', run: (durable: Durable) => endMoves(operation, durable, placements) }] : []),
  ];
}

/** After the erasures of the night. What could not be done is in the log, and due again tomorrow. */
async function endMoves(operation: Operation, durable: Durable, placements: Placements): Promise<void> {
  const finished = await finishDueMoves(operation, placements);
  const forgotten = await forgetErased(operation, durable, placements);
  const failed = [...finished.failed, ...forgotten.failed];
  if (failed.length === 0) return;
  const [due, visited] = [finished.due + forgotten.due, finished.visited + forgotten.visited];
  throw new PartywallError('move_refused', `removing what tenants have left where they do not live: ${failed.length} of ${due} failed, ${visited} visited`, {
    details: failed.map(({ tenant, problem }) => `${tenant}: ${problem}`),
  });
}

/** Often, because it decides by itself what is due. */
function archiveSchedules(operation: Operation, archive: ArchiveOptions): Schedule[] {
  return [
    {
      name: 'backup.tick',
      cron: '*/5 * * * *',
      run: async (durable) => {
        await tickBackups(operation, durable, archive);
      },
    },
    {
      // Not on the minutes of the backups. What happened between the last time and a disaster is what a restore cannot know.
      name: 'ledger.sync',
      cron: '3-59/5 * * * *',
      run: async () => {
        await withOpened(archive.open, (opened) => syncLedger(operation, opened));
      },
    },
    {
      name: 'backup.retention',
      cron: '50 4 * * *',
      run: async () => {
        await withOpened(archive.open, (opened) => applyRetention(operation, opened, { settings: archive.settings }));
      },
    },
    {
      // Each night somebody's tier may say that it is time.
      name: 'backup.drill',
      cron: '20 5 * * *',
      run: () => withOpened(archive.open, (opened) => drill(operation, opened, archive)),
    },
  ];
}

/** One that failed is in the log too, for who reads no reports. */
async function drill(operation: Operation, opened: OpenArchive, { staging }: ArchiveOptions): Promise<void> {
  const report = await drillDue(operation, opened, { into: staging?.url, appUrl: staging?.appUrl });
  if (report?.outcome !== 'failed') return;
  const problems = report.steps.flatMap((step) => step.problems);
  throw new PartywallError('archive_damaged', `drilling backup ${report.backup}: ${problems[0] ?? 'it failed'}`, { details: problems });
}
