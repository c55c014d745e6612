import fastify from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import pg from 'pg';
import { type Customer, listCustomers, page, querystring } from './list-customers.ts';

/**
 * The same framework doing only the query: no sign-in, no context, no wall, no accounting. One process of its own: `node bare-server.ts <url>
 * <tenant>` prints its address.
 */
const [url = '', tenant = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: url, max: 10 });
const app = fastify();
app.setValidatorCompiler(validatorCompiler);
app.setSerializerCompiler(serializerCompiler);
const text = listCustomers('where tenant_id = $2');
app.withTypeProvider<ZodTypeProvider>().get('/api/customers', { schema: { querystring, response: { 200: page } } }, async ({ query }) => {
  const { rows } = await pool.query<Customer>({ name: 'customers', text, values: [query.limit, tenant] });
  return { items: rows };
});
console.log(await app.listen({ host: '127.0.0.1', port: 0 }));
