import { type DemoTenant, demoTenants, tiers } from './demo-tenants.ts';

export const tables = [
  'tenants',
  'agents',
  'prompts',
  'vector_stores',
  'admin_users',
  'audit_conversations',
  'audit_messages',
  'channel_sessions',
  'channel_messages',
  'leads',
  'jobs',
  'uploads',
] as const;
export type Table = (typeof tables)[number];
export type Row = Readonly<Record<string, string | number | boolean | null>>;

/** Content of an uploaded file, by its path below the folder of uploads. */
export interface GeneratedChatbot {
  readonly rows: Readonly<Record<Table, readonly Row[]>>;
  readonly uploads: ReadonlyMap<string, string>;
}

const start = Date.UTC(2026, 9, 1);
const hourMs = 3_600_000;
/** Sessions of a tenant; the higher the tier, the more. */
const sessionsBase = 4;
const messagesPerSession = 6;
const questions = [
  'Is my order on its way?',
  'Which plan fits a team of five?',
  'Ich möchte stornieren\nund zwar heute.',
  'C:\\temp\\export is empty',
  'Merci 🙏',
];

/** The same rows every time: ids count through all tenants, as a shared database numbers them. */
export function generateChatbot(): GeneratedChatbot {
  const rows: Record<Table, Row[]> = {
    tenants: [],
    agents: [],
    prompts: [],
    vector_stores: [],
    admin_users: [],
    audit_conversations: [],
    audit_messages: [],
    channel_sessions: [],
    channel_messages: [],
    leads: [],
    jobs: [],
    uploads: [],
  };
  const uploads = new Map<string, string>();
  const add = (table: Table, row: Row): number => {
    const id = rows[table].length + 1;
    rows[table].push({ id, ...row });
    return id;
  };
  for (const tenant of demoTenants) addTenant(tenant, { rows, uploads, add });
  return { rows, uploads };
}

interface Target {
  readonly rows: Record<Table, Row[]>;
  readonly uploads: Map<string, string>;
  readonly add: (table: Table, row: Row) => number;
}

function addTenant({ id, name, tier, note }: DemoTenant, { rows, uploads, add }: Target): void {
  const at = (hours: number): string => new Date(start + hours * hourMs).toISOString();
  rows.tenants.push({
    id,
    name,
    slug: id,
    status: 'active',
    plan: tier,
    settings: JSON.stringify({ tier, ...(note !== undefined && { note }) }),
    created_at: at(0),
  });
  add('admin_users', { tenant_id: id, email: `admin@${id}.example`, name: `Admin of ${name}`, role: 'admin' });
  const agents = ['Support', 'Sales'].map((agent, number) =>
    add('agents', { tenant_id: id, name: agent, model: 'large-3', temperature: number === 0 ? 0.2 : 0.7, is_default: number === 0, created_at: at(number) }),
  );
  const [support = 0, sales = 0] = agents;
  for (const version of [1, 2]) add('prompts', { tenant_id: id, agent_id: support, version, content: `You answer for ${name}.\nVersion ${version}.` });
  add('vector_stores', { tenant_id: id, agent_id: sales, name: 'Catalogue', embedding: null });
  const sessions = sessionsBase * (tiers.length - tiers.indexOf(tier));
  for (let number = 1; number <= sessions; number += 1) {
    const session = add('channel_sessions', { tenant_id: id, agent_id: support, channel: 'web', external_id: `visitor-${number}` });
    for (let message = 0; message < messagesPerSession; message += 1) {
      const body = questions[(number + message) % questions.length] ?? '';
      add('channel_messages', { tenant_id: id, session_id: session, direction: message % 2 === 0 ? 'in' : 'out', body, sent_at: at(number * 10 + message) });
    }
    if (number % 2 === 0) add('leads', { tenant_id: id, session_id: session, email: `visitor-${number}@example.com`, score: number * 7 });
  }
  const conversation = add('audit_conversations', { tenant_id: id, agent_id: support, started_at: at(5) });
  for (const role of ['user', 'assistant']) add('audit_messages', { conversation_id: conversation, role, content: `${role} of ${name}` });
  add('jobs', { tenant_id: id, kind: 'reindex', payload: JSON.stringify({ store: 'Catalogue' }), finished_at: null });
  const file = `${id}/price-list.txt`;
  const content = `Prices of ${name}\n`;
  uploads.set(file, content);
  add('uploads', { tenant_id: id, name: 'price-list.txt', path: file, size_bytes: Buffer.byteLength(content) });
}
