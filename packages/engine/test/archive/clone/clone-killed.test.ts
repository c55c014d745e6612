import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { serialize } from 'node:v8';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { randomNumbers } from '../../../../../test/support/random-numbers.ts';
import { cloneTenant, liveSource } from '../../../src/index.ts';
import type { CloningProcess } from './cloning-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
/** PARTYWALL_KILLS=50 for more points than a run of all tests has time for. */
const kills = Number(process.env['PARTYWALL_KILLS'] ?? 8);
/** Each kill starts a process, which on a busy machine takes seconds. */
const timeoutMs = 180_000 + kills * 20_000;
/** A whole clone takes about as many. */
const statementsMax = 180;
/** Every run takes more, also one that finds all done: two at least are killed, whatever is drawn. */
const certain = { kills: 2, statements: 50 };

const { database, model, urls, control, operation, tenant: make } = await controlDatabase();

test(
  `a clone whose process is killed at any statement is there whole or not at all (seed ${seed})`,
  async () => {
    const tenant = await make('Source');
    await database.query("insert into customers (tenant_id, name) select $1, 'c' || n from generate_series(1, 500) n", [tenant]);
    await database.query("insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', tenant_id from customers", []);
    const counted = async (): Promise<unknown> => {
      const { rows } = await database.query(`select (select count(*)::int from tenants) as tenants, (select count(*)::int from customers) as customers,
  (select count(*)::int from notes) as notes, (select count(*)::int from partywall.registry) as registered, (select count(*)::int from partywall_control.directory) as listed`);
      return rows[0];
    };
    const none = { tenants: 1, customers: 500, notes: 500, registered: 1, listed: 1 };
    const whole = { tenants: 2, customers: 1_000, notes: 1_000, registered: 2, listed: 2 };
    const random = randomNumbers(seed);
    let killed = 0;
    for (let run = 0; run < kills; run += 1) {
      const given: CloningProcess = {
        service: urls.service,
        model: serialize(model).toString('base64'),
        keyring: control.keyring,
        tenant,
        kill: { statement: 5 + Math.floor(random() * (run < certain.kills ? certain.statements : statementsMax)), sent: random() < 0.5 },
      };
      const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'cloning-process.ts'), JSON.stringify(given)]);
      child.stderr.resume();
      const [, signal] = await once(child, 'exit');
      if (signal === 'SIGKILL') killed += 1;
      const found = await counted();
      expect([none, whole]).toContainEqual(found);
    }
    expect(killed).toBeGreaterThan(1);
    const source = await liveSource(operation(), tenant);
    const report = await cloneTenant(operation(), source, { name: 'Clone' }).finally(() => source.close());
    expect(report.tenant).not.toBeNull();
    expect(await counted()).toEqual(whole);
  },
  timeoutMs,
);
