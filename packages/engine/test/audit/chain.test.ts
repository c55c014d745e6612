import { appendAudit, appendDenial, type Operation, transaction, verifyAudit } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;
const operation = fixture.operation();

async function recordsOf(tenant: string): Promise<{ seq: string; action: string; details: Record<string, unknown>; reason: string | null }[]> {
  const { rows } = await database.query<{ seq: string; action: string; details: Record<string, unknown>; reason: string | null }>(
    'select seq, action, details, reason from partywall_control.audit_records where tenant_id = $1 order by seq',
    [tenant],
  );
  return rows;
}

test('fifty writers at once leave one chain without a gap', async () => {
  const numbers = await Promise.all(
    Array.from({ length: 50 }, (_, n) => appendAudit(control.pool, operation, { tenant: 'busy', action: 'test.write', details: { n } })),
  );
  expect(numbers.map(Number).sort((left, right) => left - right)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
  expect(await verifyAudit(operation, { tenant: 'busy' })).toMatchObject({ sound: true, records: 50, chains: { visited: 1, of: 1 } });
});

test('a transaction that rolls back leaves neither a record nor a hole', async () => {
  await appendAudit(control.pool, operation, { tenant: 'rolled', action: 'first' });
  const undone = transaction(control.pool, async (client) => {
    await appendAudit(client, operation, { tenant: 'rolled', action: 'undone' });
    throw new Error('the mutation failed');
  });
  await expect(undone).rejects.toThrow('the mutation failed');
  expect(await appendAudit(control.pool, operation, { tenant: 'rolled', action: 'second' })).toBe('2');
  expect((await recordsOf('rolled')).map(({ action }) => action)).toEqual(['first', 'second']);
  expect(await verifyAudit(operation, { tenant: 'rolled' })).toMatchObject({ sound: true });
});

test('a refused attempt is recorded although its own transaction rolls back', async () => {
  const refused = transaction(control.pool, async () => {
    await appendDenial(operation, { tenant: 'denied', action: 'access.cross_tenant' });
    throw new Error('refused');
  });
  await expect(refused).rejects.toThrow('refused');
  expect(await recordsOf('denied')).toHaveLength(1);
});

test('what a request can put into a record never fails it and never breaks the chain', async () => {
  const circle: Record<string, unknown> = {};
  circle['self'] = circle;
  const deep = JSON.parse(`${'['.repeat(20_000)}${']'.repeat(20_000)}`) as unknown;
  const hostile: { name: string; actor?: Operation['actor']; details?: Record<string, unknown>; reason?: string }[] = [
    { name: 'NUL', reason: 'a\0b', details: { 'na\0me': 'va\0lue', list: ['\0'] } },
    { name: 'lone surrogates', reason: '\ud800', details: { text: 'x\udfff' }, actor: { kind: 'user', id: '\udc00', name: '\0\ud800' } },
    { name: 'numbers in every form', details: { big: 1e308, small: 5e-324, minus: -0, nan: Number.NaN, many: 12345678901234567890n, half: 0.1 + 0.2 } },
    { name: 'a long text', reason: '𝔘'.repeat(100_000), actor: { kind: 'user', id: 'i'.repeat(10_000), address: 'a'.repeat(10_000) } },
    { name: 'prototype names', details: JSON.parse('{"__proto__": {"x": 1}, "constructor": 2}') as Record<string, unknown> },
    { name: 'SQL and quotes', reason: `'); drop table partywall_control.audit_records; --`, details: { '"': '\\u0000 \\ \' " \u2028' } },
    { name: 'a circle', details: circle },
    { name: 'depth', details: { deep } },
    {
      name: 'a toJSON that throws',
      details: {
        toJSON: () => {
          throw new Error('no');
        },
      },
    },
    { name: 'megabytes', details: { text: 'x'.repeat(5_000_000) } },
    { name: 'a date and nothing', details: { at: new Date(0), none: undefined, null: null } },
  ];
  for (const { name, actor, details, reason } of hostile) {
    await appendAudit(control.pool, fixture.operation(actor ? { actor } : {}), { tenant: 'hostile', action: 'test.hostile', target: name, details, reason });
  }
  expect(await verifyAudit(operation, { tenant: 'hostile' })).toMatchObject({ sound: true, records: hostile.length });
  const details = (await recordsOf('hostile')).map((record) => record.details);
  expect(details[0]).toEqual({ 'na\uFFFDme': 'va\uFFFDlue', list: ['\uFFFD'] });
  expect(details[6]).toEqual({ unreadable: true, names: ['self'] });
  expect(details[7]).toEqual({ unreadable: true, names: ['deep'] });
  expect(details[9]).toEqual({ truncated: true, bytes: 5_000_011, names: ['text'] });
  expect(details[10]).toEqual({ at: '1970-01-01T00:00:00.000Z', null: null });
});

test('the hash does not depend on the settings of who reads it', async () => {
  await appendAudit(control.pool, operation, { tenant: 'settings', action: 'test.settings', details: { at: '2026-01-01', bytes: '\\x00' } });
  const read = async (): Promise<unknown> => {
    const { rows } = await database.query(`select partywall_control.audit_text(r) from partywall_control.audit_records r where tenant_id = 'settings'`);
    return rows;
  };
  const before = await read();
  await database.query("set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set extra_float_digits = -15; set bytea_output = 'escape'");
  const after = await read();
  await database.query('reset all');
  expect(after).toEqual(before);
});

test('the connection of the service can add to a chain and cannot change, remove, forge or cut anything', async () => {
  await appendAudit(control.pool, operation, { tenant: 'closed', action: 'test.closed' });
  for (const statement of [
    `update partywall_control.audit_records set reason = 'x' where tenant_id = 'closed'`,
    `delete from partywall_control.audit_records where tenant_id = 'closed'`,
    'truncate partywall_control.audit_records',
    `insert into partywall_control.audit_records select * from partywall_control.audit_records where tenant_id = 'closed'`,
    `update partywall_control.audit_heads set seq = 0 where tenant_id = 'closed'`,
    `delete from partywall_control.audit_heads`,
    `delete from partywall_control.audit_anchors`,
    `update partywall_control.audit_checkpoints set seq = 0`,
    `alter table partywall_control.audit_records disable trigger all`,
  ]) {
    await expect(control.pool.query(statement), statement).rejects.toThrow(/permission denied|must be owner/);
  }
  const { rows } = await control.pool.query<{ hash: Buffer }>(`select hash from partywall_control.audit_records where tenant_id = 'closed'`);
  const prune = control.pool.query(`select partywall_control.prune_audit('closed', 1, $1, 1, now(), 'k', '')`, [rows[0]?.hash]);
  await expect(prune).rejects.toThrow('these audit records are kept');
  expect(await recordsOf('closed')).toHaveLength(1);
});

test('what the caller of the database says about number, time and hash of a record is ignored', async () => {
  await control.pool.query('select partywall_control.append_audit($1)', [
    JSON.stringify({
      tenant_id: 'forged',
      seq: 99,
      at: '1999-01-01',
      hash: '\\x00',
      previous: '\\x00',
      actor_kind: 'system',
      actor_id: 's',
      action: 'a',
      outcome: 'done',
    }),
  ]);
  expect(await recordsOf('forged')).toMatchObject([{ seq: '1' }]);
  expect(await verifyAudit(operation, { tenant: 'forged' })).toMatchObject({ sound: true });
});
