import { beforeEach, expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const sent: { to: string; subject: string; text: string }[] = [];
const refused = new Set<string>();
const fixture = await serverFixture(undefined, {
  people: {
    secret: 'a secret of the tests, thirty-two bytes and more',
    baseUrl: 'http://localhost:5000',
    mail: async (mail) => {
      if (refused.has(mail.to)) throw new Error(`the server does not take ${mail.to}`);
      sent.push(mail);
    },
  },
});
const { server } = fixture;
const operator = await fixture.person({ superAdmin: true });
const alder = await fixture.tenant('Alder');
const admin = await fixture.person({ memberships: { [alder]: 'admin' } });
await fixture.person({ memberships: { [alder]: 'member' } });
await fixture.database.query("update partywall_control.directory set contact_email = 'Office@alder.example' where tenant_id = $1", [alder]);

beforeEach(() => {
  sent.length = 0;
  refused.clear();
});

const post = (url: string, payload: object, headers = operator.headers) => server.inject({ method: 'POST', url, headers, payload });
const notice = { subject: 'Security incident', text: 'What happened.' };
const actions = async (tenant: string) =>
  (await fixture.database.query('select action, reason from partywall_control.audit_records where tenant_id = $1 order by seq desc limit 1', [tenant])).rows;

test('a notice goes to the contact and to the admins, one message each, and is recorded', async () => {
  expect((await post(`/api/admin/tenants/${alder}/notify`, notice)).json()).toEqual({ recipients: 2 });
  expect(sent.map(({ to }) => to).sort()).toEqual([`${admin.id}@people.example`, 'office@alder.example'].sort());
  expect(await actions(alder)).toEqual([{ action: 'tenant.notify', reason: 'Security incident' }]);
});

test('a notice that reaches only some says how many, and one that reaches nobody is a failure', async () => {
  refused.add('office@alder.example');
  expect((await post(`/api/admin/tenants/${alder}/notify`, notice)).json()).toEqual({ recipients: 1 });
  refused.add(`${admin.id}@people.example`);
  const answer = await post(`/api/admin/tenants/${alder}/notify`, notice);
  expect(answer.statusCode).toBe(503);
  expect(answer.json()).toMatchObject({ code: 'mail_unavailable' });
});

test('a subject of two lines, which could become a header, is refused', async () => {
  const answer = await post(`/api/admin/tenants/${alder}/notify`, { ...notice, subject: 'Hello\r\nBcc: everybody@example.com' });
  expect(answer.statusCode).toBe(400);
  expect(sent).toEqual([]);
});

test('a note is a record of the tenant’s chain, or of the platform’s', async () => {
  expect((await post('/api/audit-logs', { tenantId: alder, note: 'incident 42: reviewed' })).statusCode).toBe(201);
  expect(await actions(alder)).toEqual([{ action: 'audit.note', reason: 'incident 42: reviewed' }]);
  expect((await post('/api/audit-logs', { note: 'changed the pager' })).json()).toMatchObject({ tenantId: null });
  expect(await actions('')).toEqual([{ action: 'audit.note', reason: 'changed the pager' }]);
});

test('a note about a tenant that is not there opens no chain', async () => {
  expect((await post('/api/audit-logs', { tenantId: 'nobody', note: 'x' })).statusCode).toBe(404);
  expect(await actions('nobody')).toEqual([]);
});

test('only a super-admin writes notes and notices', async () => {
  expect((await post('/api/audit-logs', { tenantId: alder, note: 'x' }, admin.headers)).statusCode).toBe(403);
  expect((await post(`/api/admin/tenants/${alder}/notify`, notice, admin.headers)).statusCode).toBe(403);
});
