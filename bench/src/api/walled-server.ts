import { controlPool } from '@partywall/engine';
import { partywall } from '@partywall/server';
import { createWalledPool } from '@partywall/wall';
import fastify from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { urlAs } from '../url-as.ts';
import { customersModel, secret } from './customers-database.ts';
import { type Customer, listCustomers, page, querystring } from './list-customers.ts';

/** The same route under the control plane: sign-in, access, context, wall, accounting. `node walled-server.ts <database> <keyring>` prints its address. */
const [database = '', keyring = ''] = process.argv.slice(2);
const pool = createWalledPool({ connectionString: urlAs(database, customersModel.roles.app), max: 10 });
const service = controlPool(urlAs(database, customersModel.roles.service), { purpose: 'bench' });
const app = fastify();
await app.register(partywall, {
  database: { pool: service, model: customersModel, clock: () => new Date(), keyring },
  people: { secret, baseUrl: 'http://localhost:5000' },
  // All requests of the benchmark come from one address.
  limits: { requestsPerMinute: 100_000_000 },
});
const text = listCustomers('');
// The second one is the same but for its accounting.
for (const [url, counted] of [
  ['/api/customers', true],
  ['/api/customers/uncounted', false],
] as const) {
  app
    .withTypeProvider<ZodTypeProvider>()
    .get(url, { config: { access: 'member', counted }, schema: { querystring, response: { 200: page } } }, async ({ query }) => {
      const { rows } = await pool.query<Customer>({ name: 'customers', text, values: [query.limit] });
      return { items: rows };
    });
}
console.log(await app.listen({ host: '127.0.0.1', port: 0 }));
