import fs from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { demoTenants } from '../src/demo-tenants.ts';
import { parseReply, type Reply, type WalledCrm, walledCrm } from './walled-crm.ts';

describe('the README', () => {
  let crm: WalledCrm;
  let readme: string;
  beforeAll(async () => {
    crm = await walledCrm();
    readme = await fs.readFile(new URL('../README.md', import.meta.url), 'utf8');
  });

  it('has curl lines that work one after the other, and two tokens that see different rows', async () => {
    const origin = await crm.app.listen({ host: '127.0.0.1', port: 0 });
    const lines = readme.replaceAll('\\\n', '').match(/^curl .+$/gm) ?? [];
    const [a, b] = await Promise.all(demoTenants.slice(0, 2).map((tenant) => crm.token(tenant)));
    const variables: Record<string, string | undefined> = { TOKEN_A: a, TOKEN_B: b };
    const replies: { status: number; body: Reply }[] = [];
    for (const line of lines) {
      const text = line.replaceAll(/\$([A-Z_]+)/g, (_, name: string) => variables[name] ?? `unset ${name}`).replace('http://localhost:5000', origin);
      const body = /-d '([^']+)'/.exec(text)?.[1];
      const method = /-X (\w+)/.exec(text)?.[1] ?? (body === undefined ? 'GET' : 'POST');
      const headers = [...text.matchAll(/-H ["']([^:]+): ([^"']+)["']/g)].map(([, name = '', value = '']): [string, string] => [name, value]);
      const reply = await fetch(/http:[^\s']+/.exec(text)?.[0] ?? '', { method, headers, ...(body !== undefined && { body }) });
      replies.push({ status: reply.status, body: parseReply(await reply.text()) });
      variables['ID'] = replies.at(-1)?.body.id ?? variables['ID'];
    }
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200, 201, 200, 204]);
    const [ofA, ofB] = replies.slice(1, 3).map(({ body }) => body.items.map(({ id }) => id));
    expect(ofA).toHaveLength(3);
    expect(ofB).toHaveLength(3);
    expect(ofA?.filter((id) => ofB?.includes(id))).toEqual([]);
  });

  it('lists every table and view of the schema', async () => {
    const { rows } = await crm.database.query<{ name: string }>("select table_name as name from information_schema.tables where table_schema = 'public'");
    const section = /## The tables\n([\s\S]*?)\n## /.exec(readme)?.[1] ?? '';
    const listed = [...section.matchAll(/^\| (.+?) \|/gm)].flatMap(([, cell = '']) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name));
    expect(new Set(listed)).toEqual(new Set(rows.map(({ name }) => name)));
  });
});
