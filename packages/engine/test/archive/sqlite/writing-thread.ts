import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';

/** Writes an agent and its message in one transaction, again and again, until it is told to stop; answers with how often. */
const { file } = workerData as { file: string };
const database = new DatabaseSync(file, { timeout: 30_000 });
let written = 0;
let stopped = false;
parentPort?.on('message', () => {
  stopped = true;
});
function round(): void {
  if (stopped) {
    database.close();
    parentPort?.postMessage(written);
    parentPort?.close();
    return;
  }
  const id = 1_000 + written;
  database.exec(`begin immediate; insert into agents (id, tenant_id, name) values (${id}, 'acme', 'n');
    insert into messages (agent_id, body) values (${id}, '${'x'.repeat(500)}'); commit`);
  written += 1;
  if (written === 1) parentPort?.postMessage('begun');
  setImmediate(round);
}
round();
