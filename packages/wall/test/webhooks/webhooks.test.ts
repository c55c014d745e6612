import { createHash, createHmac, randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { webhookLimits } from '../../../engine/src/wall/runtime/webhooks-sql.ts';
import { current } from '../../src/index.ts';
import { standardSignature } from '../../src/webhooks/standard.ts';
import { createWebhooks, signWebhook, type WebhookMessage, type WebhookOptions, type Webhooks } from '../../src/webhooks/webhooks.ts';
import { type Answered, send } from '../http/client.ts';
import { failure, tenant, walledDatabase } from '../walled-database.ts';
import { frameworks, type WebhookApp } from './webhook-apps.ts';

const wall = await walledDatabase();
const { database } = wall;
const pool = wall.pool({ max: 5 });
const secret = 'a secret of the payments';
const former = 'the secret before that one';
const now = new Date('2026-11-21T12:00:00Z');
const body = JSON.stringify({ amount: 'ä 1,00', note: 'x' });
const asked: string[] = [];
const options: WebhookOptions = {
  pool,
  sender: 'payments',
  secrets: [secret, former],
  mayAct: (name) => {
    asked.push(name);
    return name !== tenant(3);
  },
  bodyBytesMax: 10_000,
  clock: () => now,
};
const handled: { message: WebhookMessage; context: unknown; rows: number }[] = [];
let onHandled: (message: WebhookMessage) => unknown = () => undefined;
const handler = async (message: WebhookMessage): Promise<void> => {
  const { rowCount } = await pool.query('select id from items');
  handled.push({ message, context: current(), rows: rowCount ?? -1 });
  await onHandled(message);
};

beforeEach(async () => {
  handled.length = 0;
  asked.length = 0;
  onHandled = () => undefined;
  await database.query("truncate partywall.messages; update partywall.registry set state = 'active'");
});

type Signed = { id?: string; timestamp?: Date; secrets?: string[]; of?: string };
function signed({ id = randomUUID(), timestamp = now, secrets = [secret], of = body }: Signed = {}): Record<string, string> {
  return { 'content-type': 'application/json', 'x-tenant-id': tenant(1), ...signWebhook({ secrets, id, timestamp, body: of }) };
}
const post = (app: WebhookApp, headers: Record<string, string>, sent = body): Promise<Answered> =>
  send(`${app.url}/hook`, { method: 'POST', headers, body: sent });
const receive = (webhooks: Webhooks, headers: Record<string, string>, sent: string | Buffer = body) =>
  webhooks.receive({ header: (name) => headers[name] ?? null, body: Buffer.from(sent) }, handler);
const codeOf = ({ status, body: text }: { status: number; body: string }): [number, unknown] => [status, text === '' ? undefined : JSON.parse(text).code];

describe.each(Object.entries(frameworks))('a webhook under %s', async (_, start) => {
  const app = await start(createWebhooks(options), handler);
  afterAll(() => app.close());

  test('runs in the context of its tenant, with the exact bytes that were signed', async () => {
    const answer = await post(app, { ...signed({ id: 'm-1' }), 'x-request-id': 'r-1' });
    expect([answer.status, answer.text, answer.headers['x-request-id']]).toEqual([204, '', 'r-1']);
    expect(handled).toHaveLength(1);
    expect(handled[0]).toMatchObject({ context: { tenant: tenant(1), user: 'webhook:payments', requestId: 'r-1' }, rows: 30 });
    expect(handled[0]?.message).toMatchObject({ id: 'm-1', tenant: tenant(1), sentAt: now });
    expect(handled[0]?.message.body).toEqual(Buffer.from(body));
    expect(handled[0]?.message.json()).toEqual(JSON.parse(body));
  });

  test('that is forged is answered 401, whatever tenant it names or leaves out, and nobody is asked about tenants', async () => {
    const forged = signed({ secrets: ['not the secret of anybody'] });
    const { 'x-tenant-id': _left, ...unnamed } = forged;
    const answers = [await post(app, forged), await post(app, unnamed), await post(app, { ...forged, 'x-tenant-id': 'nobody' }), await post(app, {})];
    for (const answer of answers)
      expect([answer.status, answer.json()['code'], answer.json()['detail']]).toEqual([401, 'signature_refused', answers[0]?.json()['detail']]);
    expect([handled, asked]).toEqual([[], []]);
  });

  test('without a tenant is answered 400, and for a tenant of somebody else, or none that there is, 403', async () => {
    const { 'x-tenant-id': _left, ...unnamed } = signed();
    const missing = await post(app, unnamed);
    expect([missing.status, missing.json()['detail']]).toEqual([400, 'X-Tenant-ID header required']);
    const foreign = await post(app, { ...signed(), 'x-tenant-id': tenant(3) });
    const nobody = await post(app, { ...signed(), 'x-tenant-id': randomUUID() });
    expect([foreign.status, foreign.json()['code'], foreign.json()['detail']]).toEqual([403, 'tenant_foreign', nobody.json()['detail']]);
    expect(nobody.status).toBe(403);
    expect(handled).toEqual([]);
  });

  test('of changed bytes is refused, and of too many before it is read', async () => {
    expect((await post(app, signed(), body.replace(':', ': '))).status).toBe(401);
    const large = 'x'.repeat(20_000);
    expect((await post(app, signed({ of: large }), large)).status).toBe(413);
    expect(handled).toEqual([]);
  });

  test('whose handler fails goes to the application, and is taken again', async () => {
    const headers = signed();
    onHandled = () => Promise.reject(new Error('a secret of the handler'));
    const failed = await post(app, headers);
    expect([failed.status, failed.text.includes('secret')]).toEqual([500, false]);
    onHandled = () => undefined;
    expect((await post(app, headers)).status).toBe(204);
    expect(handled).toHaveLength(2);
  });
});

test('a body that was parsed before is an error of the application, not a forged signature', async () => {
  for (const name of ['express', 'hono']) {
    const app = await frameworks[name]?.(createWebhooks(options), handler);
    if (!app) throw new Error(`no ${name}`);
    const answer = await send(`${app.url}/parsed`, { method: 'POST', headers: signed(), body });
    await app.close();
    expect([name, answer.status, answer.json()]).toEqual([name, 500, { own: true }]);
  }
});

describe('a message', () => {
  const webhooks = createWebhooks(options);

  test('may be signed with any current secret, and with several at once', async () => {
    for (const secrets of [[secret], [former], ['not a secret of ours', former]]) expect((await receive(webhooks, signed({ secrets }))).status).toBe(204);
    const rotated = createWebhooks({ ...options, secrets: [secret] });
    expect(codeOf(await receive(rotated, signed({ secrets: [former] })))).toEqual([401, 'signature_refused']);
  });

  test('is the same message before, while and after its secret is rotated', async () => {
    const [before, between, after] = [[former], [secret, former], [secret]].map((secrets) => createWebhooks({ ...options, secrets }));
    if (!before || !between || !after) throw new Error('there are three');
    const [early, middle, tooEarly] = [randomUUID(), randomUUID(), randomUUID()];
    const byFormer = (id: string) => signed({ id, secrets: [former] });
    const byNew = (id: string) => signed({ id, secrets: [secret] });
    expect((await receive(before, byFormer(early))).status).toBe(204);
    expect((await receive(between, byFormer(early))).status).toBe(200);
    expect((await receive(between, byNew(early))).status).toBe(200);
    // While they are deployed one after the other, a process knows the one secret and its neighbour both.
    expect((await receive(between, byFormer(middle))).status).toBe(204);
    expect((await receive(before, byFormer(middle))).status).toBe(200);
    expect((await receive(after, byNew(middle))).status).toBe(200);
    expect(handled).toHaveLength(2);
    // What was done before the new secret was known to anybody is not known once the former is gone: docs/guide/webhooks.md says when to take it out.
    await receive(before, byFormer(tooEarly));
    expect((await receive(after, byNew(tooEarly))).status).toBe(204);
  });

  test.each([
    [-301, 401],
    [-300, 204],
    [300, 204],
    [301, 401],
  ])('that was signed %i seconds from now is answered %i', async (seconds, status) => {
    expect((await receive(webhooks, signed({ timestamp: new Date(now.getTime() + seconds * 1_000) }))).status).toBe(status);
  });

  test.each<[string, Record<string, string>]>([
    ['id', { 'x-webhook-id': 'another' }],
    ['time', { 'x-webhook-timestamp': String(now.getTime() / 1_000 + 1) }],
    ['time with something behind it', { 'x-webhook-timestamp': `${now.getTime() / 1_000}.0` }],
    ['signature', { 'x-webhook-signature': '' }],
  ])('whose %s was changed holds no longer', async (_, changed) => {
    expect((await receive(webhooks, { ...signed(), ...changed })).status).toBe(401);
  });

  test('that comes again is answered and not worked on, in another process and for another tenant too', async () => {
    const headers = signed();
    expect((await receive(webhooks, headers)).status).toBe(204);
    const again = await receive(createWebhooks({ ...options, pool: wall.pool() }), headers);
    expect([again.status, again.body]).toEqual([200, '{"duplicate":true}']);
    expect((await receive(webhooks, { ...headers, 'x-tenant-id': tenant(2) })).status).toBe(200);
    expect(handled).toHaveLength(1);
    const other = createWebhooks({ ...options, sender: 'stock' });
    expect((await receive(other, headers)).status).toBe(204);
  });

  test('that comes twenty times at once is worked on once', async () => {
    const headers = signed();
    const go = Promise.withResolvers<void>();
    onHandled = () => go.promise;
    const answers = Array.from({ length: 20 }, () => receive(webhooks, headers));
    let settled = 0;
    const onSettled = (): void => {
      settled += 1;
      if (settled === 19) go.resolve();
    };
    for (const answer of answers) void answer.then(onSettled);
    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 204)).toHaveLength(1);
    expect(statuses.filter((status) => status === 409)).toHaveLength(19);
    expect(handled).toHaveLength(1);
  });

  test('whose process died is taken again when its lease has ended, and the dead one settles nothing', async () => {
    const headers = signed();
    const stuck = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    onHandled = () => {
      begun.resolve();
      return stuck.promise;
    };
    const first = receive(webhooks, headers);
    await begun.promise;
    onHandled = () => undefined;
    const busy = await receive(webhooks, headers);
    expect([busy.status, busy.headers['retry-after']]).toEqual([409, '300']);
    await database.query("update partywall.messages set until = now() - interval '1 second'");
    expect((await receive(webhooks, headers)).status).toBe(204);
    stuck.reject(new Error('it was not dead'));
    await failure(first);
    expect((await receive(webhooks, headers)).status).toBe(200);
  });

  test('of a suspended tenant is refused and may come again', async () => {
    const headers = signed();
    await wall.setState(tenant(1), 'suspended');
    expect(codeOf(await receive(webhooks, headers))).toEqual([403, 'tenant_suspended']);
    await wall.setState(tenant(1), 'active');
    expect((await receive(webhooks, headers)).status).toBe(204);
    expect(handled).toHaveLength(1);
  });

  test('with a secret for each tenant proves its own tenant alone', async () => {
    const secrets: Record<string, string[]> = { [tenant(1)]: [secret], [tenant(2)]: ['the secret of tenant two'] };
    const each = createWebhooks({ pool, sender: 'each', clock: () => now, secretsOf: (name) => secrets[name] ?? [] });
    expect((await receive(each, signed())).status).toBe(204);
    for (const name of [tenant(2), tenant(4), 'nobody'])
      expect(codeOf(await receive(each, { ...signed(), 'x-tenant-id': name }))).toEqual([401, 'signature_refused']);
    // Nor does it use up a message of the other that has the same id.
    await receive(each, signed({ id: 'm-7' }));
    expect((await receive(each, { ...signed({ id: 'm-7', secrets: ['the secret of tenant two'] }), 'x-tenant-id': tenant(2) })).status).toBe(204);
  });
});

describe('Standard Webhooks', () => {
  const key = `whsec_${Buffer.from('a key of Standard Webhooks').toString('base64')}`;
  const old = `whsec_${Buffer.from('the key before that one').toString('base64')}`;
  const webhooks = createWebhooks({ ...options, secrets: [key, old], signature: standardSignature });
  const headersOf = (of: string, by: string, id = randomUUID()): Record<string, string> => ({
    'x-tenant-id': tenant(1),
    'webhook-id': id,
    'webhook-timestamp': String(now.getTime() / 1_000),
    'webhook-signature': `v1a,AAAA ${new Webhook(by).sign(id, now, of)}`,
  });

  test('are taken with any current secret, as the library signs them', async () => {
    for (const by of [key, old]) expect((await receive(webhooks, headersOf(body, by))).status).toBe(204);
    expect((await receive(webhooks, headersOf(body, `whsec_${Buffer.from('nobody').toString('base64')}`))).status).toBe(401);
  });

  test('of bytes that are no text are refused: the library would sign other ones', async () => {
    expect((await receive(webhooks, headersOf('�', key), Buffer.from([0xff]))).status).toBe(401);
    expect((await receive(webhooks, headersOf('�', key), Buffer.from('�'))).status).toBe(204);
  });
});

describe('options', () => {
  test.each<[string, Partial<WebhookOptions>]>([
    ['no secret', { secrets: [] }],
    ['an empty secret', { secrets: [''] }],
    ['a memory shorter than the tolerance', { keepSeconds: 500 }],
    ['a memory shorter than a handler may take', { keepSeconds: 600, leaseSeconds: 3_600 }],
    ['a tolerance of a day', { toleranceSeconds: 86_400 }],
  ])('with %s are refused', (_, wrong) => {
    expect(() => createWebhooks({ pool, sender: 'x', secrets: [secret], mayAct: () => true, ...wrong })).toThrow(TypeError);
  });
});

describe('the record of messages', async () => {
  const attacker = await wall.client();
  const claim = async (digests: Buffer | Buffer[], lease = 60, keep = 600): Promise<string | undefined> =>
    (await attacker.query<{ claim: string }>('select partywall.claim_message($1, $2, $3) as claim', [[digests].flat(), lease, keep])).rows[0]?.claim;
  const numbered = (n: number): Buffer => Buffer.alloc(webhookLimits.digestBytes, n);

  test('cannot be read or changed by the application but through its functions, and settled only with the token', async () => {
    const headers = signed();
    await receive(createWebhooks(options), headers);
    for (const statement of ['select from partywall.messages', 'delete from partywall.messages', 'truncate partywall.messages'])
      expect((await failure(attacker.query(statement))).code).toBe('42501');
    const { rows } = await database.query<{ digest: Buffer }>('select digest from partywall.messages');
    const { rows: settled } = await attacker.query(
      'select partywall.settle_message($1, gen_random_uuid(), false) as done, partywall.settle_message($1, null, false) as none',
      [rows[0]?.digest],
    );
    expect(settled).toEqual([{ done: false, none: false }]);
    expect((await receive(createWebhooks(options), headers)).status).toBe(200);
  });

  test('lets nobody settle what somebody else claimed', async () => {
    const digest = Buffer.alloc(webhookLimits.digestBytes, 5);
    const token = await claim(digest);
    const settle = async (given: string | null | undefined, done: boolean): Promise<unknown> =>
      (await attacker.query<{ settled: boolean }>('select partywall.settle_message($1, $2, $3) as settled', [digest, given, done])).rows[0]?.settled;
    for (const given of [randomUUID(), null]) for (const done of [true, false]) expect(await settle(given, done)).toBe(false);
    expect(await claim(digest)).toBe('busy');
    expect(await settle(token, true)).toBe(true);
    expect(await claim(digest)).toBe('done');
    expect(await settle(token, false)).toBe(false);
  });

  test('takes bounded times and hashes alone', async () => {
    const digest = Buffer.alloc(webhookLimits.digestBytes, 1);
    for (const [lease, keep] of [
      [0, 600],
      [3_601, 600],
      [60, 604_801],
    ] as const)
      expect((await failure(claim(digest, lease, keep))).code).toBe('22023');
    expect((await failure(claim(Buffer.from('short')))).code).toBe('23514');
    for (const digests of [[], Array.from({ length: webhookLimits.digestsMax + 1 }, (_, n) => numbered(n))])
      expect((await failure(claim(digests))).code).toBe('22023');
  });

  test('takes a message by all of its digests or by none, and forgets what it knew by one when that is past its time', async () => {
    const [first, second, third] = [numbered(20), numbered(21), numbered(22)];
    const token = await claim([first, second, first]);
    expect(token).toMatch(/^[0-9a-f-]{36}$/);
    expect([await claim([third, second]), await claim([first])]).toEqual(['busy', 'busy']);
    const kept = async () => (await database.query<{ n: number }>('select get_byte(digest, 0) as n from partywall.messages order by n')).rows.map(({ n }) => n);
    expect(await kept()).toEqual([20, 21]);
    await attacker.query('select partywall.settle_message($1, $2, true), partywall.settle_message($3, $2, true)', [first, token, second]);
    expect([await claim([third, second]), await claim([first])]).toEqual(['done', 'done']);
    expect(await kept()).toEqual([20, 21]);
    await claim(third);
    // Done, and past its time, but not removed yet: another digest of the message is being worked on.
    await database.query("update partywall.messages set keep_until = now() - interval '1 second' where digest = $1", [second]);
    await database.query(`insert into partywall.messages (digest, until, keep_until) select sha256(n::text::bytea), now(), now() - interval '1 hour'
      from generate_series(1, ${webhookLimits.purgedAtOnce}) n`);
    expect(await claim([third, second])).toBe('busy');
    expect(await claim(second)).toMatch(/^[0-9a-f-]{36}$/);
  });

  test.each(['read committed', 'repeatable read', 'serializable'])(
    'gives a message to one of many where transactions are %s, by whichever of its secrets they know it',
    async (level) => {
      const levelled = wall.pool({ max: 8, options: `-c default_transaction_isolation=${level.replace(' ', '\\ ')}` });
      const knowing = [[former], [secret, former], [secret, former], [secret, former]];
      const processes = knowing.map((secrets) => createWebhooks({ ...options, secrets, pool: levelled }));
      for (let round = 0; round < 10; round += 1) {
        handled.length = 0;
        const headers = signed({ secrets: [former] });
        const statuses = (await Promise.all([...processes, ...processes].map((one) => receive(one, headers)))).map(({ status }) => status);
        expect(
          statuses.filter((status) => status === 204),
          `round ${round}: ${statuses.join(' ')}`,
        ).toHaveLength(1);
        expect(statuses.every((status) => [200, 204, 409].includes(status))).toBe(true);
        expect(handled).toHaveLength(1);
        expect((await receive(createWebhooks({ ...options, secrets: [former] }), headers)).status).toBe(200);
      }
    },
  );

  test('cannot be made to refuse a message by whoever has its id and not the secret', async () => {
    const id = randomUUID();
    const headers = signed({ id });
    const named = JSON.stringify(['payments', id]);
    for (const text of [id, named, `partywall claims ${named}`]) {
      await claim(createHash('sha256').update(text).digest());
      for (const guess of ['', 'payments', 'a secret of somebody else', String(headers['x-webhook-signature'])])
        await claim(createHmac('sha256', guess).update(text).digest());
    }
    expect((await receive(createWebhooks(options), headers)).status).toBe(204);
    expect((await receive(createWebhooks(options), headers)).status).toBe(200);
  });

  test('lets a claim that somebody holds in an open transaction keep nobody waiting', async () => {
    const digest = Buffer.alloc(webhookLimits.digestBytes, 2);
    await attacker.query('begin');
    await claim(digest);
    const other = await wall.client();
    const { rows } = await other.query('select partywall.claim_message($1, 60, 600) as claim', [[digest]]);
    await attacker.query('rollback');
    expect(rows).toEqual([{ claim: 'busy' }]);
  });

  test('forgets messages past their time, a bounded number at once, and no others', async () => {
    await database.query(`insert into partywall.messages (digest, until, keep_until)
      select sha256(n::text::bytea), now(), now() + case when n <= 150 then -1 else 1 end * interval '1 hour' from generate_series(1, 200) n`);
    await claim(Buffer.alloc(webhookLimits.digestBytes, 3));
    const count = async (): Promise<unknown> =>
      (await database.query('select count(*)::int as n, count(*) filter (where keep_until > now())::int as kept from partywall.messages')).rows[0];
    expect(await count()).toEqual({ n: 200 - webhookLimits.purgedAtOnce + 1, kept: 51 });
    await claim(Buffer.alloc(webhookLimits.digestBytes, 4));
    expect(await count()).toEqual({ n: 52, kept: 52 });
  });

  test('takes no message when it is full, and takes them again once messages are past their time, before and after they are gone', async () => {
    // Pages with little in them, so that a table too large is made in a moment.
    await database.query('alter table partywall.messages set (fillfactor = 25, autovacuum_enabled = off)');
    try {
      await database.query(`insert into partywall.messages (digest, until, keep_until)
        select sha256(n::text::bytea), now(), now() + interval '1 hour' from generate_series(1, ${webhookLimits.rowsMax}) n`);
      const digest = (n: number): Buffer => Buffer.alloc(webhookLimits.digestBytes, n);
      expect((await failure(claim(digest(6)))).code).toBe('53400');
      await database.query(`update partywall.messages set keep_until = now() - interval '1 hour'
        where digest in (select sha256(n::text::bytea) from generate_series(1, ${webhookLimits.purgedAtOnce}) n)`);
      expect(await claim(digest(6))).toMatch(/^[0-9a-f-]{36}$/);
      // What was deleted leaves the table as large as it was.
      expect(await claim(digest(7))).toMatch(/^[0-9a-f-]{36}$/);
      const { rows } = await database.query('select count(*)::int as n from partywall.messages');
      expect(rows).toEqual([{ n: webhookLimits.rowsMax - webhookLimits.purgedAtOnce + 2 }]);
    } finally {
      await database.query('truncate partywall.messages; alter table partywall.messages reset (fillfactor, autovacuum_enabled)');
    }
  });
});
