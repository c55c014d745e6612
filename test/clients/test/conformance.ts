import { EventEmitter, once } from 'node:events';
import { Readable } from 'node:stream';
import { run, system, systemUses, TenantContextError, TenantSuspendedError, wallErrorOf } from '@partywall/wall';
import { describe, expect, test } from 'vitest';
import type { Client, ClientUnderTest } from '../src/client.ts';
import { customerId, customerName, tenantId } from '../src/schema.ts';
import { clientsDatabase, customersPerTenant, failure, tenantCount } from './database.ts';
import { tapWire } from './wire.ts';

/** Tenants that call in one tick: the first ones. */
const crowd = 50;

/** What every client must do over the walled pool, with a seal and without; called once in each client's test file. */
export function conformance(under: ClientUnderTest): void {
  for (const sealed of [false, true]) describe(sealed ? 'in a sealed database' : 'in a database without a seal', () => cases(under, sealed));
}

async function cases(under: ClientUnderTest, sealed: boolean): Promise<void> {
  const wall = await clientsDatabase({ sealed });
  const wire = await tapWire(wall.urls.app);
  const { client, pool } = await wall.walled(under, { connectionString: wire.through(wall.urls.app) });
  /** Tenants of the tests that write, each with its own and a neighbour, so that no test sees what another wrote. */
  let next = crowd;
  const inTenant = <Result>(work: (own: { tenant: string; number: number; customer: string }) => Promise<Result>): Promise<Result> => {
    next += 2;
    const own = { tenant: tenantId(next), number: next, customer: customerId(next, 1) };
    return run({ tenant: own.tenant }, () => work(own));
  };
  const namesOf = (tenant: number): string[] => Array.from({ length: customersPerTenant }, (_, at) => customerName(tenant, at + 1));
  const everybody = Array.from({ length: crowd }, (_, at) => at + 1);
  const inDatabase = async (tenant: string): Promise<string[]> => {
    const { rows } = await wall.database.query<{ name: string }>('select name from customers where tenant_id = $1 order by name', [tenant]);
    return rows.map((row) => row.name);
  };

  describe('one tenant', () => {
    test('reads its own rows, and those that are everybody’s', async () => {
      await inTenant(async ({ number, customer }) => {
        expect(await client.customers()).toEqual(namesOf(number));
        expect(await client.customer(customer)).toBe(customerName(number, 1));
        expect(await client.customer(customerId(number + 1, 1))).toBe(null);
        expect(await client.countries()).toEqual(['Norway', 'Portugal']);
        expect(await client.invoices()).toEqual([{ number: 1, customer: customerName(number, 1), lines: ['line 1', 'line 2'] }]);
      });
    });

    test('inserts, changes and deletes its own rows, and no others', async () => {
      const { tenant, number } = await inTenant(async (own) => {
        const added = await client.addCustomer({ tenant: own.tenant, email: 'new@example.com', name: 'added' });
        expect(await client.renameCustomer(added, 'renamed')).toBe(1);
        expect(await client.removeCustomer(customerId(own.number, 2))).toBe(1);
        expect(await client.renameCustomer(customerId(own.number + 1, 1), 'stolen')).toBe(0);
        expect(await client.removeCustomer(customerId(own.number + 1, 1))).toBe(0);
        return own;
      });
      expect(await inDatabase(tenant)).toEqual([customerName(number, 1), customerName(number, 3), 'renamed']);
      expect(await inDatabase(tenantId(number + 1))).toEqual(namesOf(number + 1));
    });

    test('cannot write for another', async () => {
      await inTenant(async ({ number }) => {
        const other = tenantId(number + 1);
        const refused = await failure(client.addCustomer({ tenant: other, email: 'x@example.com', name: 'x' }));
        expect(wallErrorOf(refused)).toMatchObject({ code: 'cross_tenant', status: 403 });
        await failure(client.addInvoice(customerId(number + 1, 1), 666, [{ text: 'x', amount: 1 }]));
        expect(await inDatabase(other)).toEqual(namesOf(number + 1));
      });
      const { rows } = await wall.database.query('select from invoices where number = 666');
      expect(rows).toHaveLength(0);
    });

    test('writes nested rows, whose tenant column the client does not know', async () => {
      const tenant = await inTenant(async (own) => {
        await client.addInvoice(own.customer, 7, [
          { text: 'nested a', amount: 1.5 },
          { text: 'nested b', amount: 2 },
        ]);
        expect(await client.invoices()).toContainEqual({ number: 7, customer: customerName(own.number, 1), lines: ['nested a', 'nested b'] });
        return own.tenant;
      });
      const { rows } = await wall.database.query<{ text: string }>(
        'select l.text from lines l join invoices i on i.id = l.invoice_id where i.number = 7 and l.partywall_tenant_id = $1 and i.partywall_tenant_id = $1 order by l.id',
        [tenant],
      );
      expect(rows.map((row) => row.text)).toEqual(['nested a', 'nested b']);
    });

    test('upserts: inserts, then changes, and meets no row of another with the same key', async () => {
      await inTenant(async ({ tenant, number }) => {
        await client.upsertCustomer({ tenant, email: 'up@example.com', name: 'inserted' });
        await client.upsertCustomer({ tenant, email: 'up@example.com', name: 'changed' });
        await client.upsertCustomer({ tenant, email: 'c1@example.com', name: 'changed too' });
        expect(await client.customers()).toEqual(['changed', 'changed too', customerName(number, 2), customerName(number, 3)]);
        expect(await inDatabase(tenantId(number + 1))).toEqual(namesOf(number + 1));
      });
    });

    test('writes a batch whole, or nothing of it', async () => {
      await inTenant(async ({ tenant, number }) => {
        await client.addCustomers(['a', 'b', 'c'].map((name) => ({ tenant, email: `${name}@batch`, name })));
        expect(await client.customers()).toEqual(['a', 'b', 'c', ...namesOf(number)]);
        await failure(client.addCustomers(['d', 'e', 'a', 'f'].map((name) => ({ tenant, email: `${name}@batch`, name }))));
        expect(await client.customers()).toEqual(['a', 'b', 'c', ...namesOf(number)]);
      });
    });

    test('takes SQL written by hand', async () => {
      await inTenant(async ({ number }) => {
        expect(await client.raw(customerName(number, 2))).toEqual([{ id: customerId(number, 2) }]);
        expect(await client.raw(customerName(number + 1, 2))).toEqual([]);
      });
    });
  });

  describe('a transaction', () => {
    test('commits what it did', async () => {
      await inTenant(async ({ tenant, number }) => {
        const seen = await client.transaction(async (tx) => {
          await tx.addCustomer({ tenant, email: 'tx@example.com', name: 'a in transaction' });
          await tx.addInvoice(customerId(number, 2), 3, [{ text: 'line', amount: 1 }]);
          return tx.customers();
        });
        expect(seen).toEqual(['a in transaction', ...namesOf(number)]);
        expect(await client.customers()).toEqual(seen);
      });
    });

    test('leaves nothing when its work throws, and throws that', async () => {
      await inTenant(async ({ tenant, number }) => {
        const thrown = new Error('changed my mind');
        const work = client.transaction(async (tx) => {
          await tx.addCustomer({ tenant, email: 'gone@example.com', name: 'gone' });
          await tx.renameCustomer(customerId(number, 1), 'gone');
          throw thrown;
        });
        expect(await failure(work)).toBe(thrown);
        expect(await client.customers()).toEqual(namesOf(number));
      });
    });

    test('undoes a savepoint alone, and still is in its tenant', async () => {
      await inTenant(async ({ tenant, number }) => {
        await client.transaction(async (tx) => {
          await tx.addCustomer({ tenant, email: 'kept@example.com', name: 'a kept' });
          const inner = tx.transaction(async (nested) => {
            await nested.addCustomer({ tenant, email: 'undone@example.com', name: 'undone' });
            throw new Error('undo');
          });
          await failure(inner);
          expect(await tx.customers()).toEqual(['a kept', ...namesOf(number)]);
          await tx.transaction((nested) => nested.addCustomer({ tenant, email: 'released@example.com', name: 'b released' }));
        });
        expect(await client.customers()).toEqual(['a kept', 'b released', ...namesOf(number)]);
      });
    });

    test('of one tenant refuses what is sent in another’s context', async () => {
      await inTenant(async ({ number, tenant }) => {
        const stolen = await failure(
          client.transaction(async (tx) => {
            await tx.customers();
            return run({ tenant: tenantId(number + 1) }, () => tx.customers());
          }),
        );
        expect(wallErrorOf(stolen)).toMatchObject({ code: 'cross_tenant' });
        expect(await inDatabase(tenant)).toEqual(namesOf(number));
      });
    });
  });

  describe('fifty tenants in one tick', () => {
    const shapes: Record<string, (tenant: number, own: Client) => Promise<unknown>> = {
      'read all': (_, own) => own.customers(),
      'read one': (tenant, own) => own.customer(customerId(tenant, 2)),
      'read nested': (_, own) => own.invoices(),
      'by hand': (tenant, own) => own.raw(customerName(tenant, 3)),
      change: (tenant, own) => own.renameCustomer(customerId(tenant, 3), customerName(tenant, 3)),
      'change another’s': (tenant, own) => own.renameCustomer(customerId((tenant % crowd) + 1, 3), 'stolen'),
      upsert: (tenant, own) => own.upsertCustomer({ tenant: tenantId(tenant), email: 'c2@example.com', name: customerName(tenant, 2) }),
      batch: (tenant, own) => own.addCustomers([{ tenant: tenantId(tenant), email: 'batch', name: `y batch of ${tenant}` }]),
      transaction: (tenant, own) => own.transaction(async (tx) => [await tx.customer(customerId(tenant, 2)), await tx.customers()]),
      nested: (tenant, own) => own.addInvoice(customerId(tenant, 2), 50, [{ text: `of ${tenant}`, amount: tenant }]),
      ...(under.cannot.stream ? {} : { stream: async (_: number, own: Client) => own.streamCustomers && all(own.streamCustomers()) }),
    };

    for (const [shape, call] of Object.entries(shapes)) {
      test(`each get their own: ${shape}`, async () => {
        const alone: unknown[] = [];
        for (const tenant of everybody) alone.push(await expectationOf(shape, tenant));
        const together = await Promise.all(everybody.map((tenant) => run({ tenant: tenantId(tenant) }, () => call(tenant, client))));
        for (const tenant of everybody) expect(together[tenant - 1], `tenant ${tenant}`).toEqual(alone[tenant - 1]);
        const { rows } = await wall.database.query<{ n: number }>(
          `select count(*)::int as n from customers c left join invoices i on i.customer_id = c.id where c.name = 'stolen' or i.partywall_tenant_id <> c.tenant_id
             or (c.name ~ 'of' and c.name !~ ('of (tenant )?' || ltrim(substr(c.tenant_id::text, 25, 6), '0') || '$'))`,
        );
        expect(rows).toEqual([{ n: 0 }]);
      });
    }

    /** What the database holds for the tenant, read by the owner, in the shape that the call answers. */
    async function expectationOf(shape: string, tenant: number): Promise<unknown> {
      const names = await inDatabase(tenantId(tenant));
      switch (shape) {
        case 'read all':
        case 'stream':
          return names;
        case 'read one':
          return customerName(tenant, 2);
        case 'read nested':
          return invoicesInDatabase(tenantId(tenant));
        case 'by hand':
          return names.includes(customerName(tenant, 3)) ? [{ id: customerId(tenant, 3) }] : [];
        case 'change':
          return names.includes(customerName(tenant, 3)) ? 1 : 0;
        case 'change another’s':
          return 0;
        case 'transaction':
          return [customerName(tenant, 2), names];
        default:
          return undefined;
      }
    }

    async function invoicesInDatabase(tenant: string): Promise<unknown[]> {
      const { rows } = await wall.database.query(
        `select i.number, c.name as customer, array_agg(l.text order by l.id) as lines from invoices i join customers c on c.id = i.customer_id
         join lines l on l.invoice_id = i.id where c.tenant_id = $1 group by 1, 2 order by 1`,
        [tenant],
      );
      return rows;
    }

    test('all shapes of all tenants at once', async () => {
      const reads = ['read all', 'read one', 'by hand', 'transaction'] as const;
      const calls = everybody.flatMap((tenant) => reads.map((shape) => ({ tenant, shape })));
      const expected: unknown[] = [];
      for (const { tenant, shape } of calls) expected.push(await expectationOf(shape, tenant));
      const answers = await Promise.all(calls.map(({ tenant, shape }) => run({ tenant: tenantId(tenant) }, () => shapes[shape]?.(tenant, client))));
      expect(answers).toEqual(expected);
    });
  });

  describe('the context', () => {
    test('is kept across Promise.all, timers, streams and event emitters', async () => {
      await inTenant(async ({ number }) => {
        const names = namesOf(number);
        expect(await Promise.all([client.customers(), client.customers(), client.customers()])).toEqual([names, names, names]);
        const later = Promise.withResolvers<string[]>();
        setTimeout(() => later.resolve(client.customers()), 0);
        expect(await later.promise).toEqual(names);
        const immediate = Promise.withResolvers<string[]>();
        setImmediate(() => immediate.resolve(client.customers()));
        expect(await immediate.promise).toEqual(names);
        const streamed: (string | null)[] = [];
        for await (const name of Readable.from([1, 2, 3]).map((customer: number) => client.customer(customerId(number, customer)), { concurrency: 3 }))
          streamed.push(name);
        expect(streamed).toEqual(names);
        const emitter = new EventEmitter();
        emitter.on('ask', () => client.customers().then((answer) => emitter.emit('answer', answer)));
        const answered = once(emitter, 'answer');
        emitter.emit('ask');
        expect(await answered).toEqual([names]);
      });
    });
  });

  describe('without a context', () => {
    test('every call is refused before a byte is sent, as TenantContextError', async () => {
      await system('take the first connection', () => client.countries());
      const before = wire.sentBytes;
      const calls: (() => Promise<unknown>)[] = [
        () => client.customers(),
        () => client.customer(customerId(1, 1)),
        () => client.addCustomer({ tenant: tenantId(1), email: 'x', name: 'x' }),
        () => client.renameCustomer(customerId(1, 1), 'x'),
        () => client.removeCustomer(customerId(1, 1)),
        () => client.upsertCustomer({ tenant: tenantId(1), email: 'x', name: 'x' }),
        () => client.addCustomers([{ tenant: tenantId(1), email: 'x', name: 'x' }]),
        () => client.addInvoice(customerId(1, 1), 1, [{ text: 'x', amount: 1 }]),
        () => client.invoices(),
        () => client.raw('x'),
        () => client.countries(),
        () => client.transaction((tx) => tx.customers()),
        () => client.execute('select 1'),
        async () => client.streamCustomers && all(client.streamCustomers()),
      ].filter((_, at, all) => at < all.length - 1 || !under.cannot.stream);
      for (const call of calls) {
        const refused = wallErrorOf(await failure(call()));
        expect(refused, String(call)).toBeInstanceOf(TenantContextError);
      }
      expect(wire.sentBytes).toBe(before);
    });

    test('a hundred refused calls and transactions keep no connection', async () => {
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          await failure(client.customers());
          await failure(client.transaction((tx) => tx.customers()));
        }),
      );
      expect(pool.waitingCount).toBe(0);
      expect(pool.idleCount).toBe(pool.totalCount);
      await inTenant(({ number }) => client.customers().then((names) => expect(names).toEqual(namesOf(number))));
    });

    test('what the client sends when it connects is all that is sent, and allowed by name', async () => {
      const fresh = await tapWire(wall.urls.app);
      const { client: connecting } = await wall.walled(under, { connectionString: fresh.through(wall.urls.app), max: 1 });
      await failure(connecting.customers());
      const own = fresh.statements.filter((text) => !text.includes('partywall') && !text.includes('pg_catalog'));
      expect(under.onConnect).toEqual(expect.arrayContaining(own));
      await run({ tenant: tenantId(1) }, () => connecting.customers());
      const sent = fresh.statements.filter((text) => !text.includes('partywall') && !text.includes('pg_catalog') && !text.includes('customers'));
      expect(sent).toEqual(under.onConnect);
    });
  });

  test('a tenant that is suspended while its session goes on is refused its next statement', async () => {
    await inTenant(async ({ tenant, number }) => {
      expect(await client.customers()).toEqual(namesOf(number));
      await wall.database.query('select partywall.set_state($1, $2)', [tenant, 'suspended']);
      const calls = [() => client.customers(), () => client.customer(customerId(number, 1)), () => client.transaction((tx) => tx.customers())];
      for (const call of calls) expect(wallErrorOf(await failure(call()))).toBeInstanceOf(TenantSuspendedError);
      await wall.database.query('select partywall.set_state($1, $2)', [tenant, 'active']);
      expect(await client.customers()).toEqual(namesOf(number));
    });
  });

  describe('streaming', () => {
    if (under.cannot.stream) {
      const { reason, proof } = under.cannot.stream;
      test(`is not there: ${reason}`, async () => {
        expect(await proof(client)).toBeUndefined();
      });
      return;
    }
    test('gives a tenant its own rows, and its connection back when it is left', async () => {
      await inTenant(async ({ number }) => {
        const rows = client.streamCustomers?.() ?? [];
        for await (const name of rows) {
          expect(name).toBe(customerName(number, 1));
          break;
        }
        expect(await all(client.streamCustomers?.() ?? [])).toEqual(namesOf(number));
      });
    });
  });

  describe('over the system pool', () => {
    test('work that names its purpose reaches every tenant, and is counted', async () => {
      const { client: base } = await system('connect', () => wall.systemPool(under));
      const before = systemUses().get('conformance') ?? 0;
      const names = await system('conformance', () => base.customers());
      expect(names.length).toBeGreaterThan(tenantCount * (customersPerTenant - 1));
      expect(systemUses().get('conformance')).toBe(before + 1);
      for (const refused of [await failure(base.customers()), await run({ tenant: tenantId(1) }, () => failure(base.customers()))]) {
        expect(wallErrorOf(refused)).toMatchObject({ code: 'statement_refused' });
      }
      const unowned = system('conformance', () => base.addInvoice(customerId(tenantCount, 1), 8, [{ text: 'whose?', amount: 1 }]));
      expect(wallErrorOf(await failure(unowned))).toBeInstanceOf(TenantContextError);
      await system('conformance', () => base.transaction((tx) => tx.renameCustomer(customerId(tenantCount, 1), 'by the system')));
      expect(await inDatabase(tenantId(tenantCount))).toContain('by the system');
    });
  });
}

async function all<Item>(items: AsyncIterable<Item> | Iterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}
