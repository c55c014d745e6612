import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { demoTenants } from '../src/demo-tenants.ts';
import { parseReply, type Reply, type Send, type WalledCrm, walledCrm } from './walled-crm.ts';

const [alder, brightwater, cobalt] = demoTenants;

describe('/api/customers', () => {
  let crm: WalledCrm;
  let asAlder: Send;
  let asCobalt: Send;
  beforeAll(async () => {
    crm = await walledCrm();
    asAlder = crm.as(alder);
    asCobalt = crm.as(cobalt);
  });

  describe('a list', () => {
    it('pages through every customer of the tenant once, in order, and through nobody else’s', async () => {
      const seen: string[] = [];
      let cursor: string | null = '';
      let pages = 0;
      while (cursor !== null) {
        const { status, body } = await asCobalt('GET', `/api/customers?limit=30${cursor && `&cursor=${cursor}`}`);
        expect(status).toBe(200);
        expect(body.items.length).toBeLessThanOrEqual(30);
        seen.push(...body.items.map(({ id }) => id));
        cursor = body.nextCursor;
        pages += 1;
      }
      const truth = await crm.database.query<{ id: string }>('select id from customers where tenant_id = $1 order by name, id', [cobalt.id]);
      expect(seen).toEqual(truth.rows.map(({ id }) => id));
      expect(pages).toBe(5);
    });

    it('has fifty items unless told otherwise, two hundred at most, and ends with a null cursor', async () => {
      const first = await asAlder('GET', '/api/customers');
      expect(first.body.items).toHaveLength(50);
      expect(first.body.nextCursor).toEqual(expect.any(String));
      expect((await asAlder('GET', '/api/customers?limit=200')).body.items).toHaveLength(200);
      const all = await asCobalt('GET', '/api/customers?limit=140');
      expect(all.body.items).toHaveLength(140);
      expect(all.body.nextCursor).toBeNull();
    });

    it('loses and repeats nothing where many customers have one name', async () => {
      const names = await Promise.all(
        Array.from({ length: 7 }, () => asAlder('POST', '/api/customers', { reference: randomUUID(), name: 'Twin Peaks Timber', countryCode: 'NO' })),
      );
      const seen: string[] = [];
      for (let cursor: string | null = ''; cursor !== null; ) {
        const { body } = await asAlder('GET', `/api/customers?limit=2&search=twin%20peaks${cursor && `&cursor=${cursor}`}`);
        seen.push(...body.items.map(({ id }) => id));
        cursor = body.nextCursor;
      }
      expect(seen).toEqual(names.map(({ body }) => body.id).sort());
    });

    it('searches names without regard to case and takes wildcards literally', async () => {
      const made = await asAlder('POST', '/api/customers', { reference: randomUUID(), name: '100%_Pure\\Ltd', countryCode: 'GB' });
      for (const search of ['100%', '%_pure', 'PURE\\']) {
        const { body } = await asAlder('GET', `/api/customers?search=${encodeURIComponent(search)}`);
        expect(
          body.items.map(({ id }) => id),
          search,
        ).toEqual([made.body.id]);
      }
    });

    it.each(['limit=0', 'limit=201', 'limit=1.5', 'limit=ten', 'limit=1&limit=2', 'search=', 'search=%00', 'offset=3', `search=${'a'.repeat(101)}`])(
      'refuses the query %s',
      async (query) => {
        expect(await asAlder('GET', `/api/customers?${query}`)).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
      },
    );

    it.each([
      'x',
      'bnVsbA',
      Buffer.from('["a","not an id"]').toString('base64url'),
      Buffer.from('["a\\u0000","0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e01"]').toString('base64url'),
    ])('refuses the cursor %s', async (cursor) => {
      expect(await asAlder('GET', `/api/customers?cursor=${cursor}`)).toMatchObject({ status: 400, body: { code: 'invalid_cursor' } });
    });
  });

  describe('one customer', () => {
    it('can be created, read, changed and deleted', async () => {
      const created = await asAlder('POST', '/api/customers', {
        reference: 'made-1',
        name: '  Fjord Works AS ',
        countryCode: 'NO',
        website: 'https://fjord.example',
        employees: 12,
        annualRevenue: 1234567.89,
        ownerId: alder.firstUser.id,
      });
      expect(created).toMatchObject({
        status: 201,
        headers: { location: `/api/customers/${created.body.id}` },
        body: { reference: 'made-1', name: 'Fjord Works AS', annualRevenue: 1234567.89, parentId: null, archived: false },
      });
      expect(await asAlder('GET', `/api/customers/${created.body.id}`)).toMatchObject({ status: 200, body: created.body });
      const changed = await asAlder('PATCH', `/api/customers/${created.body.id}`, { name: 'Fjord Group AS', employees: null, archived: true });
      expect(changed).toMatchObject({ status: 200, body: { name: 'Fjord Group AS', employees: null, archived: true, reference: 'made-1' } });
      expect(Date.parse(String(changed.body['updatedAt']))).toBeGreaterThan(Date.parse(String(created.body['updatedAt'])));
      expect(await asAlder('DELETE', `/api/customers/${created.body.id}`)).toMatchObject({ status: 204, body: {} });
      expect(await asAlder('GET', `/api/customers/${created.body.id}`)).toMatchObject({ status: 404, body: { code: 'not_found' } });
      expect(await asAlder('DELETE', `/api/customers/${created.body.id}`)).toMatchObject({ status: 404 });
    });

    it('belongs to the tenant of the token, and the body cannot say otherwise', async () => {
      const body = { reference: randomUUID(), name: 'Whose', countryCode: 'US' };
      for (const extra of [{ tenant_id: alder.id }, { tenantId: alder.id }]) {
        expect(await asCobalt('POST', '/api/customers', { ...body, ...extra })).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
      }
      const made = await asCobalt('POST', '/api/customers', body);
      const { rows } = await crm.database.query('select tenant_id from customers where id = $1', [made.body.id]);
      expect(rows).toEqual([{ tenant_id: cobalt.id }]);
    });

    it('of another tenant is not there: not to read, change or delete, and the row stays as it was', async () => {
      const select = 'select * from customers where tenant_id = $1 order by id limit 1';
      const [row] = (await crm.database.query(select, [brightwater.id])).rows;
      const url = `/api/customers/${row?.['id']}`;
      const none = await asAlder('GET', `/api/customers/${randomUUID()}`);
      for (const [method, body] of [['GET'], ['PATCH', { name: 'Mine now' }], ['DELETE']] as const) {
        const reply = await asAlder(method, url, body);
        expect(reply.status, method).toBe(404);
        expect({ ...reply.body, requestId: '' }, method).toEqual({ ...none.body, requestId: '' });
      }
      expect((await crm.database.query(select, [brightwater.id])).rows).toEqual([row]);
    });

    it('of another tenant cannot be made a parent, nor its user an owner', async () => {
      const [row] = (await crm.database.query('select id from customers where tenant_id = $1 limit 1', [brightwater.id])).rows;
      const body = { reference: randomUUID(), name: 'Child', countryCode: 'US' };
      for (const link of [{ parentId: row?.['id'] }, { ownerId: brightwater.firstUser.id }, { parentId: randomUUID() }, { countryCode: 'ZZ' }]) {
        expect(await asCobalt('POST', '/api/customers', { ...body, ...link })).toMatchObject({ status: 400, body: { code: 'unknown_reference' } });
      }
    });

    it('has a reference that is unique in its tenant; another tenant may use the same', async () => {
      const body = { reference: 'C-1', name: 'First', countryCode: 'US' };
      expect((await asCobalt('POST', '/api/customers', body)).status).toBe(201);
      expect(await asCobalt('POST', '/api/customers', body)).toMatchObject({
        status: 409,
        body: { code: 'conflict' },
      });
      expect((await asAlder('POST', '/api/customers', body)).status).toBe(201);
    });

    it('cannot be its own parent', async () => {
      const made = await asCobalt('POST', '/api/customers', { reference: randomUUID(), name: 'Loop', countryCode: 'US' });
      expect(await asCobalt('PATCH', `/api/customers/${made.body.id}`, { parentId: made.body.id })).toMatchObject({
        status: 400,
        body: { code: 'invalid_request' },
      });
    });

    it.each(['1', 'null', "' or 1=1 --", '%00', '0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e0'])(
      'is not found by the malformed id %s, which is a bad request',
      async (id) => {
        expect(await asAlder('GET', `/api/customers/${encodeURIComponent(id)}`)).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
      },
    );

    it.each([
      ['no name', { reference: 'r', countryCode: 'US' }],
      ['a blank name', { reference: 'r', name: '   ', countryCode: 'US' }],
      ['a name with NUL', { reference: 'r', name: 'a\0b', countryCode: 'US' }],
      ['a name of another type', { reference: 'r', name: { $ne: null }, countryCode: 'US' }],
      ['a name that is too long', { reference: 'r', name: 'x'.repeat(201), countryCode: 'US' }],
      ['a country in small letters', { reference: 'r', name: 'n', countryCode: 'us' }],
      ['a website that is a script', { reference: 'r', name: 'n', countryCode: 'US', website: 'javascript:alert(1)' }],
      ['half an employee', { reference: 'r', name: 'n', countryCode: 'US', employees: 0.5 }],
      ['more employees than an integer holds', { reference: 'r', name: 'n', countryCode: 'US', employees: 3_000_000_000 }],
      ['a negative revenue', { reference: 'r', name: 'n', countryCode: 'US', annualRevenue: -1 }],
      ['a field of its own', { reference: 'r', name: 'n', countryCode: 'US', id: randomUUID() }],
    ])('is not created with %s, and the reply names the field', async (_, body) => {
      const reply = await asAlder('POST', '/api/customers', body);
      expect(reply).toMatchObject({
        status: 400,
        body: { code: 'invalid_request', errors: [{ field: expect.stringMatching(/^body/), message: expect.any(String) }] },
      });
    });

    it('is not changed by an empty change', async () => {
      const made = await asCobalt('POST', '/api/customers', { reference: randomUUID(), name: 'Still', countryCode: 'US' });
      expect(await asCobalt('PATCH', `/api/customers/${made.body.id}`, {})).toMatchObject({ status: 400 });
    });
  });
});

describe('fifty tenants at once on three database connections', () => {
  const tenants = Array.from({ length: 50 }, (_, index) => ({ id: randomUUID(), slug: `tenant-${index}` }));
  let crm: WalledCrm;
  let origin: string;
  beforeAll(async () => {
    crm = await walledCrm({ connections: 3 });
    await crm.database.query('insert into tenants (id, name, slug) select id, slug, slug from json_to_recordset($1) as t (id uuid, slug text)', [
      JSON.stringify(tenants),
    ]);
    origin = await crm.app.listen({ host: '127.0.0.1', port: 0 });
  });

  /** Over sockets that the tenants share by turns, and with bodies that arrive after the headers: that is where a context gets lost. */
  async function send(tenant: (typeof tenants)[number], path: string, customer?: object): Promise<{ status: number; body: Reply }> {
    const token = await crm.token(tenant, 'member');
    const parts = async function* () {
      for (const part of JSON.stringify(customer).match(/.{1,20}/g) ?? []) {
        yield Buffer.from(part);
        await setImmediate();
      }
    };
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const reply = await fetch(`${origin}${path}`, customer ? { method: 'POST', headers, body: Readable.from(parts()), duplex: 'half' } : { headers });
    return { status: reply.status, body: parseReply(await reply.text()) };
  }

  it('each creates, lists and reads its own rows, whatever the others do meanwhile', async () => {
    const results = await Promise.all(
      tenants.map(async (tenant) => {
        const mine = await Promise.all(
          ['a', 'b', 'c'].map((reference) => send(tenant, '/api/customers', { reference, name: `${reference} of ${tenant.slug}`, countryCode: 'DE' })),
        );
        const [list, one] = await Promise.all([send(tenant, '/api/customers'), send(tenant, `/api/customers/${mine[0]?.body.id}`)]);
        return { slug: tenant.slug, statuses: mine.map(({ status }) => status), names: list.body.items.map(({ name }) => name), one: one.body.name };
      }),
    );
    for (const { slug, ...result } of results) {
      expect(result).toEqual({ statuses: [201, 201, 201], names: ['a', 'b', 'c'].map((reference) => `${reference} of ${slug}`), one: `a of ${slug}` });
    }
    const { rows } = await crm.database.query(
      `select count(*)::int as rows, count(*) filter (where c.name like '% of ' || t.slug)::int as own
       from customers c join tenants t on t.id = c.tenant_id where t.slug like 'tenant-%'`,
    );
    expect(rows).toEqual([{ rows: 150, own: 150 }]);
  });
});
