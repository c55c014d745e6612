import fs from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { demoTenants } from '../src/demo-tenants.ts';
import { type WalledChatbot, walledChatbot } from './walled-chatbot.ts';

describe('the chatbot', () => {
  let chatbot: WalledChatbot;
  beforeAll(async () => {
    chatbot = await walledChatbot();
  });

  const send = async (tenant: string, method: 'GET' | 'POST', url: string, payload?: object) =>
    chatbot.app.inject({ method, url, headers: { authorization: `Bearer ${await chatbot.token(tenant)}` }, ...(payload && { payload }) });

  it('shows each tenant its own agents and leads', async () => {
    const ids = async (tenant: string, url: string): Promise<string[]> => (await send(tenant, 'GET', url)).json().items.map(({ id }: { id: string }) => id);
    for (const url of ['/api/agents', '/api/leads']) {
      const [one, other] = [await ids('demo-tenant', url), await ids('northwind-bank', url)];
      expect(one.length).toBeGreaterThan(0);
      expect(other.length).toBeGreaterThan(0);
      expect(one.filter((id) => other.includes(id))).toEqual([]);
    }
  });

  it('takes a message for a session of the own tenant, and for no other’s', async () => {
    const { rows } = await chatbot.database.query<{ tenant_id: string; id: string }>('select tenant_id, min(id)::text as id from channel_sessions group by 1');
    const session = (tenant: string): number => Number(rows.find((row) => row.tenant_id === tenant)?.id);
    const taken = await send('demo-tenant', 'POST', '/api/messages', { sessionId: session('demo-tenant'), body: 'Hello' });
    expect(taken.statusCode).toBe(201);
    expect(taken.json()).toMatchObject({ sessionId: String(session('demo-tenant')), body: 'Hello' });
    const refused = await send('demo-tenant', 'POST', '/api/messages', { sessionId: session('northwind-bank'), body: 'Hello' });
    expect(refused.statusCode).toBeGreaterThanOrEqual(400);
    const { rowCount } = await chatbot.database.query("select from channel_messages where body = 'Hello' and session_id = $1", [session('northwind-bank')]);
    expect(rowCount).toBe(0);
  });

  it('keeps an uploaded file in the folder of its tenant, whatever it is called', async () => {
    const answer = await send('123', 'POST', '/api/uploads', { name: '../../escape.txt', content: 'inside' });
    expect(answer.statusCode).toBe(201);
    const { path: file, name } = answer.json();
    expect(name).toBe('../../escape.txt');
    expect(file).toMatch(/^123\/[0-9a-f-]{36}$/);
    expect(await fs.readFile(path.join(chatbot.folder, 'uploads', file), 'utf8')).toBe('inside');
  });

  it('has every tenant on the plan of its tier, whatever else its settings say', async () => {
    const { rows } = await chatbot.database.query<{ id: string; plan: string }>('select tenant_id as id, plan from partywall_control.directory order by 1');
    expect(rows).toEqual(demoTenants.map(({ id, tier }) => ({ id, plan: tier })).sort((left, right) => (left.id < right.id ? -1 : 1)));
  });
});
