import { decodeCursor, pageOf, pageQuery, pageSchema, problem, text } from '@partywall/server';
import { current } from '@partywall/wall';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type pg from 'pg';
import { z } from 'zod';

/*
 * No statement here filters by tenant: the wall decides which rows there are. The one place that names the column is the
 * insert, because `customers.tenant_id` is the application's own column.
 */

/** A name as a person writes it: trimmed and not empty. */
const words = (max: number) => text(max).trim().min(1);

/** What a client may send of a customer. */
const fields = {
  reference: words(60),
  name: words(200),
  parentId: z.guid().nullable(),
  industry: words(80).nullable(),
  countryCode: z.string().regex(/^[A-Z]{2}$/, 'two capital letters (ISO 3166-1)'),
  website: z
    .url({ protocol: /^https?$/ })
    .max(300)
    .nullable(),
  phone: words(40).nullable(),
  employees: z.int32().positive().nullable(),
  annualRevenue: z.number().min(0).max(999_999_999_999).nullable(),
  ownerId: z.guid().nullable(),
  archived: z.boolean(),
} as const;
type Field = keyof typeof fields;

const columns: Readonly<Record<Field, string>> = {
  reference: 'reference',
  name: 'name',
  parentId: 'parent_id',
  industry: 'industry',
  countryCode: 'country_code',
  website: 'website',
  phone: 'phone',
  employees: 'employees',
  annualRevenue: 'annual_revenue',
  ownerId: 'owner_id',
  archived: 'archived',
};

/** A customer as the API returns it; what is not declared here is stripped from every reply. */
export const customerSchema = z.object({ id: z.guid(), ...fields, createdAt: z.date(), updatedAt: z.date() });
type Customer = z.output<typeof customerSchema>;

const { reference, name, countryCode, ...optional } = fields;
const newCustomer = z.strictObject({ reference, name, countryCode, ...z.object(optional).partial().shape });
const changes = z.strictObject(fields).partial();
const listQuery = z.strictObject({ ...pageQuery.shape, search: words(100).optional() });
const params = z.object({ id: z.guid() });

// `pg` returns numeric as text; numeric(14, 2) has at most 14 digits, and a double carries 15.
const selected = `id, ${Object.entries(columns)
  .map(([field, column]) => (field === 'annualRevenue' ? `${column}::float8 as "${field}"` : `${column} as "${field}"`))
  .join(', ')}, created_at as "createdAt", updated_at as "updatedAt"`;

/** The last row of a page in the list's order. */
const cursorKey = z.tuple([z.string(), z.guid()]);

/** Members of the tenant, and API keys with the scope. */
const read = { config: { access: 'member', scope: 'customers:read' } } as const;
const write = { config: { access: 'member', scope: 'customers:write' }, bodyLimit: 64 * 1024 } as const;

function about(verb: string, summary: string): { operationId: string; summary: string; tags: string[] } {
  return { operationId: `${verb}Customer${verb === 'list' ? 's' : ''}`, summary, tags: ['customers'] };
}

export function registerCustomers(instance: FastifyInstance, pool: Pick<pg.Pool, 'query'>): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.get(
    '/api/customers',
    { ...read, schema: { ...about('list', 'The tenant’s customers by name'), querystring: listQuery, response: { 200: pageSchema(customerSchema) } } },
    async ({ query }) => {
      const conditions: string[] = [];
      const values: unknown[] = [query.limit + 1];
      const after = decodeCursor(cursorKey, query.cursor);
      if (after) {
        values.push(...after);
        conditions.push(`(name, id) > ($${values.length - 1}, $${values.length}::uuid)`);
      }
      if (query.search !== undefined) {
        values.push(`%${query.search.replaceAll(/[\\%_]/g, '\\$&')}%`);
        conditions.push(`name ilike $${values.length}`);
      }
      const where = conditions.length > 0 ? `where ${conditions.join(' and ')}` : '';
      const { rows } = await pool.query<Customer>(`select ${selected} from customers ${where} order by name, id limit $1`, values);
      return pageOf(rows, query.limit, ({ name, id }) => [name, id]);
    },
  );

  app.get('/api/customers/:id', { ...read, schema: { ...about('get', 'One customer'), params, response: { 200: customerSchema } } }, async (request) => {
    return found(await pool.query<Customer>(`select ${selected} from customers where id = $1`, [request.params.id]));
  });

  app.post(
    '/api/customers',
    { ...write, schema: { ...about('create', 'A new customer'), body: newCustomer, response: { 201: customerSchema } } },
    async (request, reply) => {
      const given = assignments(request.body);
      const names = ['tenant_id', ...given.map(({ column }) => column)];
      const values = [current().tenant, ...given.map(({ value }) => value)];
      const created = found(
        await pool.query<Customer>(
          `insert into customers (${names.join(', ')}) values (${names.map((_, index) => `$${index + 1}`).join(', ')}) returning ${selected}`,
          values,
        ),
      );
      return reply.code(201).header('location', `/api/customers/${created.id}`).send(created);
    },
  );

  app.patch(
    '/api/customers/:id',
    { ...write, schema: { ...about('change', 'Changes the fields that are sent'), params, body: changes, response: { 200: customerSchema } } },
    async (request) => {
      const given = assignments(request.body);
      if (given.length === 0) throw problem('invalid_request', { fields: [{ field: 'body', message: 'names no field to change' }] });
      const sets = given.map(({ column }, index) => `${column} = $${index + 2}`);
      const values = [request.params.id, ...given.map(({ value }) => value)];
      return found(await pool.query<Customer>(`update customers set ${sets.join(', ')} where id = $1 returning ${selected}`, values));
    },
  );

  app.delete(
    '/api/customers/:id',
    { ...write, schema: { ...about('delete', 'Deletes a customer and what belongs to it'), params, response: { 204: z.undefined() } } },
    async (request, reply) => {
      found(await pool.query('delete from customers where id = $1 returning id', [request.params.id]));
      return reply.code(204).send();
    },
  );
}

/** Column names come from the table above and never from the request. */
function assignments(body: Partial<Record<Field, unknown>>): { column: string; value: unknown }[] {
  return Object.entries(columns).flatMap(([field, column]) => {
    const value = body[field as Field]; // the keys of `columns` are the fields
    return value === undefined ? [] : [{ column, value }];
  });
}

/** Another tenant's row and one that never was are the same 404. */
function found<Result extends pg.QueryResultRow>(result: pg.QueryResult<Result>): Result {
  const row = result.rows[0];
  if (!row) throw problem('not_found');
  return row;
}
