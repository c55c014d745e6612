import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import Fastify from 'fastify';
import { expect, onTestFinished, test } from 'vitest';
import { fastifyTenants } from '../../src/http/fastify.ts';
import { current, provenTenant } from '../../src/index.ts';

test('a subdomain of HTTP/2, which comes without a host header, names the tenant too', async () => {
  const app = Fastify({ http2: true });
  onTestFinished(() => app.close());
  const tenants = { a: 't_1', b: 't_2' } as const;
  const tenantOf = (label: string): string | undefined => Object.entries(tenants).find(([name]) => name === label)?.[1];
  await app.register(fastifyTenants({ verify: () => ({ tenants: [provenTenant('t_1')] }), subdomain: { of: 'app.example.com', tenantOf } }));
  app.get('/', async () => current().tenant);
  await app.listen({ port: 0, host: '127.0.0.1' });
  const session = http2.connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`); // it listens on TCP
  onTestFinished(() => session.destroy());
  const get = async (authority: string): Promise<unknown> => {
    const [headers] = await once(session.request({ ':path': '/', ':authority': authority }), 'response');
    return headers[':status'];
  };
  expect(await get('a.app.example.com')).toBe(200);
  expect(await get('b.app.example.com')).toBe(403);
  expect(await get('nobody.app.example.com')).toBe(403);
});
