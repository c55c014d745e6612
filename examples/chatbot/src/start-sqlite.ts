import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { demoTenants } from './demo-tenants.ts';
import { openHome } from './home.ts';
import { loadSqlite } from './load.ts';
import { host, listen, portFromEnvironment } from './port.ts';
import { runUntilStopped } from './run-until-stopped.ts';
import { createSqliteApp } from './sqlite-chat.ts';

const lockTimeoutMs = 5_000;

await runUntilStopped(async (stops, signal) => {
  const port = await portFromEnvironment();
  const home = await openHome(path.resolve('.partywall'));
  const isThere = await fs.access(home.sqlite).then(
    () => true,
    () => false,
  );
  if (!isThere) {
    // Whole or not at all, whenever it is stopped.
    await fs.rm(`${home.sqlite}.new`, { force: true });
    await loadSqlite(`${home.sqlite}.new`);
    await fs.rename(`${home.sqlite}.new`, home.sqlite);
  }
  console.log(`data      ${isThere ? 'there already, nothing was changed' : `${demoTenants.length} tenants loaded`}`);
  const database = new DatabaseSync(home.sqlite, { timeout: lockTimeoutMs });
  stops.push(async () => database.close());
  const tokens = new Map(demoTenants.map(({ id }) => [id, randomBytes(32).toString('base64url')]));
  const app = createSqliteApp(database, tokens);
  stops.push(() => app.close());
  await listen(app, port);
  console.log(`\nThe chatbot platform is on http://${host}:${port}, on SQLite; Ctrl-C stops it.\n`);
  for (const { id, name } of demoTenants.slice(0, 2)) {
    console.log(`# ${name}`);
    console.log(`curl -H 'Authorization: Bearer ${tokens.get(id)}' 'http://${host}:${port}/api/agents'`);
  }
  console.log('# Its tenants in the archive, while it runs: in another terminal, in examples/chatbot');
  console.log(
    `PARTYWALL_ARCHIVE='${home.archive}' PARTYWALL_ESCROW='${home.escrow}' PARTYWALL_KEYRING='${home.keyring}' npx partywall backup run --sqlite '${home.sqlite}'`,
  );
  if (!signal.aborted) await once(signal, 'abort');
  console.log('stopping');
});
