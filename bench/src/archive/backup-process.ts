import { openArchive, runBackup } from '@partywall/engine';
import { modelWith, operationOn, thingsTables } from './database.ts';

/**
 * One backup in a process of its own, so that its memory is its own: `node backup-process.ts <url> <folder> [<number of further tables>]`. Prints the report and what was the
 * most memory the process had, as JSON.
 */
const [url = '', folder = '', things = '0'] = process.argv.slice(2);
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
const { stored, unchanged } = await runBackup(operation, archive, { reason: 'bench' });
await archive.close();
await operation.database.pool.end();
// maxRSS is in kilobytes.
console.log(JSON.stringify({ ...stored, unchanged, peakBytes: process.resourceUsage().maxRSS * 1024 }));
