import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type AuditAnchor, type AuditReport, anchorAudit, appendAudit, listAnchors, verifyAudit } from '@partywall/engine';
import { beforeEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;
const operation = fixture.operation();

/** Each test tampers, as the superuser, with a chain of six records of its own. */
let chain = '';
let count = 0;
beforeEach(async () => {
  count += 1;
  chain = `chain-${count}`;
  for (let n = 1; n <= 6; n += 1) await appendAudit(control.pool, operation, { tenant: chain, action: 'test.step', details: { n } });
});

async function tamper(...statements: string[]): Promise<AuditReport> {
  for (const statement of statements) await database.query(statement.replaceAll('CHAIN', chain));
  return verifyAudit(operation, { tenant: chain });
}

/** Writes a record, or all from one on, as somebody would who knows how: hashes anew, head too. */
const rewriteFrom = (seq: number): string => `do $$ declare r partywall_control.audit_records; before bytea; begin
  for r in select * from partywall_control.audit_records where tenant_id = 'CHAIN' and seq >= ${seq} order by seq loop
    r.previous := coalesce(before, r.previous);
    before := sha256(r.previous || convert_to(partywall_control.audit_text(r), 'UTF8'));
    update partywall_control.audit_records set previous = r.previous, hash = before where tenant_id = 'CHAIN' and seq = r.seq;
  end loop;
  update partywall_control.audit_heads set hash = before where tenant_id = 'CHAIN';
end $$`;
const cutFrom = (seq: number): string[] => [
  `delete from partywall_control.audit_records where tenant_id = 'CHAIN' and seq >= ${seq}`,
  `update partywall_control.audit_heads h set seq = ${seq - 1}, hash = (select hash from partywall_control.audit_records r where r.tenant_id = 'CHAIN' and r.seq = ${seq - 1})
   where tenant_id = 'CHAIN'`,
];

const cases: readonly [name: string, statements: readonly string[], fault: { seq: number; kind: string; message: string | RegExp }][] = [
  [
    'a changed record, whichever column',
    [`update partywall_control.audit_records set actor_id = 'somebody else' where tenant_id = 'CHAIN' and seq = 4`],
    { seq: 4, kind: 'changed', message: 'record 4 was changed: its hash is not that of what it says' },
  ],
  [
    'a changed time, by a microsecond',
    [`update partywall_control.audit_records set at = at + interval '1 microsecond' where tenant_id = 'CHAIN' and seq = 2`],
    { seq: 2, kind: 'changed', message: /^record 2 was changed/ },
  ],
  [
    'a changed record whose hash was made anew',
    [
      `update partywall_control.audit_records set details = '{}' where tenant_id = 'CHAIN' and seq = 3`,
      `update partywall_control.audit_records r set hash = sha256(previous || convert_to(partywall_control.audit_text(r), 'UTF8')) where tenant_id = 'CHAIN' and seq = 3`,
    ],
    { seq: 4, kind: 'replaced', message: 'record 4 does not follow record 3: one of the two was replaced' },
  ],
  [
    'records removed from the middle',
    [`delete from partywall_control.audit_records where tenant_id = 'CHAIN' and seq in (3, 4)`],
    { seq: 3, kind: 'missing', message: 'records 3 to 4 are missing' },
  ],
  [
    'a record removed from the middle, the rest numbered anew',
    [
      `delete from partywall_control.audit_records where tenant_id = 'CHAIN' and seq = 3`,
      `update partywall_control.audit_records set seq = seq - 1 where tenant_id = 'CHAIN' and seq > 3`,
      `update partywall_control.audit_heads set seq = 5 where tenant_id = 'CHAIN'`,
    ],
    { seq: 3, kind: 'changed', message: /^record 3 was changed/ },
  ],
  [
    'the first records removed',
    [`delete from partywall_control.audit_records where tenant_id = 'CHAIN' and seq < 3`],
    { seq: 1, kind: 'missing', message: 'records 1 to 2 are missing' },
  ],
  [
    'the last record removed',
    [`delete from partywall_control.audit_records where tenant_id = 'CHAIN' and seq = 6`],
    { seq: 6, kind: 'missing', message: 'record 6 is missing at the end' },
  ],
  [
    'all records removed',
    [`delete from partywall_control.audit_records where tenant_id = 'CHAIN'`],
    { seq: 1, kind: 'missing', message: 'records 1 to 6 are missing at the end' },
  ],
  [
    'the head removed',
    [`delete from partywall_control.audit_heads where tenant_id = 'CHAIN'`],
    { seq: 7, kind: 'missing', message: 'the head of the chain is gone, and what came after record 6 with it' },
  ],
  [
    'the hash of the head changed',
    [`update partywall_control.audit_heads set hash = sha256('x') where tenant_id = 'CHAIN'`],
    { seq: 6, kind: 'changed', message: 'record 6 is not the one that the head of the chain names' },
  ],
  [
    'two records that changed places',
    [
      `update partywall_control.audit_records set seq = 99 where tenant_id = 'CHAIN' and seq = 2`,
      `update partywall_control.audit_records set seq = 2 where tenant_id = 'CHAIN' and seq = 3`,
      `update partywall_control.audit_records set seq = 3 where tenant_id = 'CHAIN' and seq = 99`,
    ],
    { seq: 2, kind: 'changed', message: /^record 2 was changed/ },
  ],
  [
    'a record added past the end',
    [
      `insert into partywall_control.audit_records select (r).* from (select jsonb_populate_record(r, '{"seq": 7}') as r from partywall_control.audit_records r
       where tenant_id = 'CHAIN' and seq = 6) copy`,
      `update partywall_control.audit_records r set previous = (select hash from partywall_control.audit_heads where tenant_id = 'CHAIN') where tenant_id = 'CHAIN' and seq = 7`,
      `update partywall_control.audit_records r set hash = sha256(previous || convert_to(partywall_control.audit_text(r), 'UTF8')) where tenant_id = 'CHAIN' and seq = 7`,
    ],
    { seq: 7, kind: 'inserted', message: 'record 7 lies beyond the head of the chain' },
  ],
  [
    'a record of another chain in the place of one',
    [
      `insert into partywall_control.audit_records select (r).* from (select jsonb_populate_record(r, '{"tenant_id": "CHAIN", "seq": 98}') as r
       from partywall_control.audit_records r where tenant_id = 'chain-1' and seq = 6) copy`,
      `delete from partywall_control.audit_records where tenant_id = 'CHAIN' and seq = 6`,
      `update partywall_control.audit_records set seq = 6 where tenant_id = 'CHAIN' and seq = 98`,
    ],
    { seq: 6, kind: 'changed', message: /^record 6 was changed/ },
  ],
];

describe('verification names the first record that is wrong, and why', () => {
  test.each(cases)('%s', async (_name, statements, { message, ...fault }) => {
    expect(await verifyAudit(operation, { tenant: chain })).toMatchObject({ sound: true });
    const report = await tamper(...statements);
    expect(report).toMatchObject({ sound: false, faults: [{ tenantId: chain, ...fault }] });
    expect(report.faults[0]?.message).toMatch(message);
  });
});

test('one report accounts for every chain and names each broken one', async () => {
  const before = await verifyAudit(operation);
  await database.query(`delete from partywall_control.audit_records where tenant_id = $1 and seq = 2`, [chain]);
  const after = await verifyAudit(operation);
  expect(after.chains).toEqual({ visited: before.chains.of, of: before.chains.of });
  expect(after.faults.length).toBe(before.faults.length + 1);
  expect(after.faults.map(({ tenantId }) => tenantId)).toContain(chain);
});

test('records that are written while it reads are no faults', async () => {
  let writing = true;
  const writers = Array.from({ length: 4 }, async () => {
    while (writing) await appendAudit(control.pool, operation, { tenant: chain, action: 'test.busy' });
  });
  for (let n = 0; n < 10; n += 1) expect(await verifyAudit(operation, { tenant: chain })).toMatchObject({ sound: true });
  writing = false;
  await Promise.all(writers);
});

test('a chain of which nothing tells is none', async () => {
  expect(await verifyAudit(operation, { tenant: 'never' })).toMatchObject({ sound: true, records: 0 });
});

describe('an anchor', () => {
  async function anchored(): Promise<AuditAnchor[]> {
    await anchorAudit(operation);
    const anchors: AuditAnchor[] = [];
    for await (const anchor of listAnchors(operation)) if (anchor.tenant === chain) anchors.push(anchor);
    return anchors;
  }

  test('stands for every chain that has grown, and the anchoring is a record that it covers', async () => {
    const { chains, signed } = await anchorAudit(operation);
    expect(chains.visited).toBe(chains.of);
    expect(signed).toBeGreaterThanOrEqual(2);
    expect(await anchorAudit(operation)).toMatchObject({ signed: 1 });
    const { rows } = await database.query(
      `select h.seq = a.seq as covered from partywall_control.audit_heads h join partywall_control.audit_anchors a using (tenant_id) where tenant_id = ''`,
    );
    expect(rows).toEqual([{ covered: true }]);
  });

  test('shows a chain that was cut together with its head', async () => {
    await anchored();
    expect((await tamper(...cutFrom(5))).faults).toMatchObject([
      { seq: 5, kind: 'missing', message: /^records 5 to 6 are missing at the end: the anchor of \S+ reaches further$/ },
    ]);
  });

  test('shows a chain that was written anew from a record on, with every hash right', async () => {
    await anchored();
    const report = await tamper(`update partywall_control.audit_records set reason = 'never happened' where tenant_id = 'CHAIN' and seq = 2`, rewriteFrom(2));
    expect(report.faults).toMatchObject([{ seq: 6, kind: 'rewritten', message: /^record 6 is not the one that was anchored at / }]);
  });

  test('that was kept elsewhere shows it when those in the database are gone too, even all of the chain', async () => {
    const anchors = await anchored();
    const gone = `delete from partywall_control.audit_anchors where tenant_id = 'CHAIN'`;
    expect(await tamper(gone, ...cutFrom(5))).toMatchObject({ sound: true });
    expect((await verifyAudit(operation, { tenant: chain, anchors })).faults).toMatchObject([{ seq: 5, kind: 'missing' }]);
    await tamper(
      `delete from partywall_control.audit_records where tenant_id = 'CHAIN'`,
      `delete from partywall_control.audit_heads where tenant_id = 'CHAIN'`,
    );
    expect((await verifyAudit(operation, { anchors })).faults.find(({ tenantId }) => tenantId === chain)).toMatchObject({ seq: 1, kind: 'missing' });
  });

  test('that was forged, or signed by an unknown key, is a fault of its own', async () => {
    const [anchor] = await anchored();
    if (!anchor) throw new Error('the chain has no anchor');
    const forged = await verifyAudit(operation, { tenant: chain, anchors: [{ ...anchor, seq: 3 }] });
    expect(forged.faults).toMatchObject([{ kind: 'signature', message: 'the anchor at record 3 has a signature that is not of what it says' }]);
    await tamper(`update partywall_control.audit_anchors set hash = sha256('x') where tenant_id = 'CHAIN'`);
    expect((await verifyAudit(operation, { tenant: chain })).faults).toMatchObject([{ kind: 'signature' }]);
    await rm(path.join(control.keyring, 'signing-1.pem'));
    const { faults } = await verifyAudit(operation, { tenant: chain });
    expect(faults).toMatchObject([{ kind: 'signature', message: /is signed by key signing-1:[0-9a-f]{16}, which the keyring does not hold$/ }]);
  });
});
