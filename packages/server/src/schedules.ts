import {
  anchorAudit,
  applyRetention,
  type ControlDatabase,
  evaluateAlerts,
  type Operation,
  pruneAudit,
  pruneUsage,
  purgeAlerts,
  purgeRetained,
  type Schedule,
  surveyUsage,
  syncLedger,
  tickBackups,
  withOpened,
} from '@partywall/engine';
import type { ArchiveOptions } from './routes/backups.ts';

/**
 * What the control plane does by itself, in UTC. Of all servers of a database one does each; what fails is tried again at its next time. Each is also a
 * command, for whoever mounts the server without `serve`.
 */
export function schedules(database: ControlDatabase, archive?: ArchiveOptions): Schedule[] {
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
  ];
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
  ];
}
