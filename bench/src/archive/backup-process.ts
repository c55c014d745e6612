import { applyRetention, backupIds, type OpenArchive, type Operation, openArchive, runBackup, verifyBackup } from '@partywall/engine';
import { modelWith, operationOn, thingsTables } from './database.ts';

/**
 * One backup, or a look through all of the archive, in a process of its own, so that its memory is its own:
 * `node backup-process.ts <url> <folder> [<number of further tables>] [backup|verify|retention]`. Prints the report and what was the most memory the
 * process had, as JSON.
 */
const [url = '', folder = '', things = '0', work = 'backup'] = process.argv.slice(2);
const keyring = `${folder}/keyring`;
const operation = operationOn(url, keyring, modelWith(thingsTables(Number(things))));
const archive = await openArchive({
  store: `${folder}/store`,
  escrow: `${folder}/escrow`,
  keyring,
  workFolder: `${folder}/work`,
  env: process.env,
  clock: () => new Date(),
});
const report = await done(operation, archive);
await archive.close();
await operation.database.pool.end();
// maxRSS is in kilobytes.
console.log(JSON.stringify({ ...report, peakBytes: process.resourceUsage().maxRSS * 1024 }));

async function done(by: Operation, on: OpenArchive): Promise<object> {
  switch (work) {
    case 'verify': {
      const { damage } = await verifyBackup(on, (await backupIds(on)).at(-1) ?? '');
      if (damage.length > 0) throw new Error(damage[0]);
      return {};
    }
    case 'retention': {
      const { problems } = await applyRetention(by, on);
      if (problems.length > 0) throw new Error(problems[0]);
      return {};
    }
    default: {
      const { stored, unchanged } = await runBackup(by, on, { reason: 'bench' });
      return { ...stored, unchanged };
    }
  }
}
