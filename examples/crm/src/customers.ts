import { current } from '@partywall/wall';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type pg from 'pg';
import { z } from 'zod';
import { decodeCursor, encodeCursor } from './cursor.ts';
import { Problem } from './problem.ts';

/*
 * No statement here filters by tenant: the wall decides which rows there are. The one place that names the column is the
 * insert, because `customers.tenant_id` is the application's own column.
 */

const pageDefault = 50;
const pageMax = 200;

/** PostgreSQL's text cannot hold NUL, so it is refused here with the field's name. */
const text = (max: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(max)
    .refine((value) => !value.includes('\0'), 'may not contain a NUL character');

/** What a client may send of a customer. */
const fields = {
  reference: text(60),
  name: text(200),
  parentId: z.guid().nullable(),
  industry: text(80).nullable(),
  countryCode: z.string().regex(/^[A-Z]{2}$/, 'two capital letters (ISO 3166-1)'),
  website: z
    .url({ protocol: /^https?$/ })
    .max(300)
    .nullable(),
  phone: text(40).nullable(),
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
const listQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(pageMax).default(pageDefault),
  cursor: z.string().max(1_000).optional(),
  search: text(100).optional(),
});
const params = z.object({ id: z.guid() });

// `pg` returns numeric as text; numeric(14, 2) has at most 14 digits, and a double carries 15.
const selected = `id, ${Object.entries(columns)
  .map(([field, column]) => (field === 'annualRevenue' ? `${column}::float8 as "${field}"` : `${column} as "${field}"`))
  .join(', ')}, created_at as "createdAt", updated_at as "updatedAt"`;

export function registerCustomers(instance: FastifyInstance, pool: Pick<pg.Pool, 'query'>): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const page = z.object({ items: z.array(customerSchema), nextCursor: z.string().nullable() });

  app.get('/customers', { schema: { querystring: listQuery, response: { 200: page } } }, async ({ query }) => {
    const conditions: string[] = [];
    const values: unknown[] = [query.limit + 1];
    if (query.cursor !== undefined) {
      const after = decodeCursor(query.cursor);
      values.push(after.name, after.id);
      conditions.push(`(name, id) > ($${values.length - 1}, $${values.length}::uuid)`);
    }
    if (query.search !== undefined) {
      values.push(`%${query.search.replaceAll(/[\\%_]/g, '\\$&')}%`);
      conditions.push(`name ilike $${values.length}`);
    }
    const where = conditions.length > 0 ? `where ${conditions.join(' and ')}` : '';
    const { rows } = await pool.query<Customer>(`select ${selected} from customers ${where} order by name, id limit $1`, values);
    const items = rows.slice(0, query.limit);
    const last = items.at(-1);
    return { items, nextCursor: rows.length > items.length && last ? encodeCursor(last) : null };
  });

  app.get('/customers/:id', { schema: { params, response: { 200: customerSchema } } }, async (request) => {
    return found(await pool.query<Customer>(`select ${selected} from customers where id = $1`, [request.params.id]));
  });

  app.post('/customers', { schema: { body: newCustomer, response: { 201: customerSchema } } }, async (request, reply) => {
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
  });

  app.patch('/customers/:id', { schema: { params, body: changes, response: { 200: customerSchema } } }, async (request) => {
    const given = assignments(request.body);
    if (given.length === 0) throw new Problem('invalid_request', { fields: [{ field: 'body', message: 'names no field to change' }] });
    const sets = given.map(({ column }, index) => `${column} = $${index + 2}`);
    const values = [request.params.id, ...given.map(({ value }) => value)];
    return found(await pool.query<Customer>(`update customers set ${sets.join(', ')} where id = $1 returning ${selected}`, values));
  });

  app.delete('/customers/:id', { schema: { params, response: { 204: z.undefined() } } }, async (request, reply) => {
    found(await pool.query('delete from customers where id = $1 returning id', [request.params.id]));
    return reply.code(204).send();
  });
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
  if (!row) throw new Problem('not_found');
  return row;
}
