import { describe, expect, test } from 'vitest';
import { Admissions } from '../src/admissions.ts';
import { BootGate } from '../src/boot-gate.ts';
import { run } from '../src/index.ts';
import { poolState, WalledClient } from '../src/walled-client.ts';
import { tenant, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();

function connected(admissions: Admissions): WalledClient {
  return new WalledClient({ connectionString: wall.database.urlAs(wall.app), [poolState]: { gate: new BootGate(), admissions } });
}

describe('admissions', () => {
  test('are remembered with the number that the database gave', async () => {
    const admissions = new Admissions({ preparedStatements: true });
    const client = connected(admissions);
    await client.connect();
    expect(admissions.of(tenant(1)).seen).toBeNull();
    await run({ tenant: tenant(1) }, () => client.query('select 1'));
    expect(admissions.of(tenant(1)).seen).toBe('0');
    await wall.setState(tenant(2), 'suspended');
    await run({ tenant: tenant(1) }, () => client.query('select 1'));
    const { rows } = await wall.database.query<{ last_value: string }>('select last_value from partywall.state_change');
    expect(admissions.of(tenant(1)).seen).toBe(rows[0]?.last_value);
    await client.end();
  });

  test('are forgotten when a connection is made: its server may count for itself', async () => {
    const admissions = new Admissions({ preparedStatements: true });
    admissions.answered(admissions.of(tenant(1)), '4711');
    expect(admissions.of(tenant(1)).seen).toBe('4711');
    const client = connected(admissions);
    await client.connect();
    expect(admissions.of(tenant(1)).seen).toBeNull();
    await client.end();
  });

  test('take a bounded amount of memory', () => {
    const admissions = new Admissions({ preparedStatements: true });
    for (let n = 0; n < 25_000; n += 1) admissions.answered(admissions.of(`t${n}`), '1');
    const remembered = Array.from({ length: 25_000 }, (_, n) => `t${n}`).filter((id) => admissions.of(id).seen !== null);
    expect(remembered.length).toBeLessThanOrEqual(10_000);
  });
});
