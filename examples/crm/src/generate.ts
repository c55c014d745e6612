import { type DemoTenant, demoTenants } from './demo-tenants.ts';
import { type Random, randomStream } from './random.ts';
import * as words from './vocabulary.ts';

/** A row as the database takes it from JSON: keys are column names, timestamps ISO 8601 in UTC, amounts decimal text. */
export type Row = Readonly<Record<string, string | number | boolean | null | object>>;

/** Tables in the order in which their rows can be inserted. */
export const crmTables = [
  'countries',
  'tenants',
  'users',
  'sessions',
  'customers',
  'contacts',
  'pipelines',
  'deal_stages',
  'deals',
  'activities',
  'notes',
  'tags',
  'customer_tags',
  'files',
] as const;
export type CrmTable = (typeof crmTables)[number];
export type CrmRows = Readonly<Record<CrmTable, readonly Row[]>>;

const dayMs = 86_400_000;
/** The demonstration's "today": a constant, so that the same seed gives the same timestamps on any day. */
const today = Date.parse('2026-07-01T00:00:00Z');
/** Deals older than this are decided, but for a few. */
const salesCycleDays = 120;

interface User {
  readonly id: string;
  readonly name: string;
}
interface Customer {
  readonly id: string;
  readonly domain: string;
  readonly dialCode: string;
  readonly createdAt: number;
}
interface Contact {
  readonly id: string;
  readonly name: string;
  readonly customerId: string;
  readonly createdAt: number;
}
interface Deal {
  readonly id: string;
  readonly customer: Customer;
  readonly title: string;
  readonly openedAt: number;
  readonly closedAt: number | null;
}

/** Everything the generators of one tenant share. */
interface TenantContext {
  readonly tenant: DemoTenant;
  readonly rows: Record<CrmTable, Row[]>;
  /** The stream of one table of this tenant. */
  stream(table: CrmTable): Random;
}

/** The demonstration's rows; a pure function of the seed. */
export function generateCrm(seed: number): CrmRows {
  const rows: Record<CrmTable, Row[]> = {
    countries: words.countries.map((country) => ({ ...country })),
    tenants: [],
    users: [],
    sessions: [],
    customers: [],
    contacts: [],
    pipelines: [],
    deal_stages: [],
    deals: [],
    activities: [],
    notes: [],
    tags: [],
    customer_tags: [],
    files: [],
  };
  for (const tenant of demoTenants) generateTenant({ tenant, rows, stream: (table) => randomStream(seed, `${tenant.slug}/${table}`) });
  // Counted keys follow the clock, so neighbours' rows lie between each other as they do in a database that grew.
  return { ...rows, activities: numbered(rows.activities), notes: numbered(rows.notes) };
}

function generateTenant(context: TenantContext): void {
  const { tenant, rows } = context;
  rows.tenants.push({ id: tenant.id, name: tenant.name, slug: tenant.slug, status: 'active', plan: tenant.plan, created_at: tenant.createdAt });
  const users = generateUsers(context);
  const customers = generateCustomers(context, users);
  const contacts = generateContacts(context, customers);
  const deals = generateDeals(context, customers, users);
  generateActivities(context, deals, contacts, users);
  generateNotes(context, customers, contacts, users);
  generateTags(context, customers);
  generateFiles(context, deals, users);
}

function generateUsers({ tenant, rows, stream }: TenantContext): User[] {
  const random = stream('users');
  const taken = new Set([tenant.firstUser.email]);
  const people: (User & { email: string; role: string })[] = [tenant.firstUser];
  while (people.length < tenant.users) {
    const name = `${random.pick(words.firstNames)} ${random.pick(words.lastNames)}`;
    const email = `${mailName(name)}@${tenant.slug}.example`;
    if (taken.has(email)) continue; // as many names as users are far fewer than the names there are
    taken.add(email);
    people.push({ id: random.uuid(), name, email, role: random.weighted([['member', 8] as const, ['admin', 1] as const, ['viewer', 1] as const]) });
  }
  const sessions = stream('sessions');
  for (const [index, { id, name, email, role }] of people.entries()) {
    const createdAt = index === 0 ? Date.parse(tenant.createdAt) : moment(random, Date.parse(tenant.createdAt), today - 30 * dayMs);
    const lastSeen = moment(random, today - 20 * dayMs, today);
    rows.users.push({ id, tenant_id: tenant.id, email, name, role, last_seen_at: iso(lastSeen), created_at: iso(createdAt) });
    for (let session = sessions.int(0, 2); session > 0; session -= 1) {
      rows.sessions.push({
        id: sessions.uuid().replaceAll('-', ''),
        user_id: id,
        payload: { theme: sessions.pick(['light', 'dark']), lastPath: sessions.pick(['/customers', '/deals', '/activities', '/reports/pipeline']) },
        expires_at: iso(lastSeen + sessions.int(1, 14) * dayMs),
      });
    }
  }
  return people;
}

function generateCustomers({ tenant, rows, stream }: TenantContext, users: readonly User[]): Customer[] {
  const random = stream('customers');
  const markets = words.homeMarkets[tenant.slug] ?? [];
  const names = new Set<string>();
  const moments = Array.from({ length: tenant.customers }, () => moment(random, Date.parse(tenant.createdAt), today - 7 * dayMs)).sort((a, b) => a - b);
  return moments.map((createdAt, index) => {
    const countryCode = random.chance(0.85) ? random.weighted(markets) : random.pick(words.countries).code;
    const industry = random.pick(words.industries);
    const name = companyName(random, industry, countryCode, names);
    const domain = `${slug(name)}.example`;
    const id = random.uuid();
    const dialCode = words.countries.find((country) => country.code === countryCode)?.dial_code ?? '+44';
    const employees = Math.max(1, Math.round(spread(random, 60, 1.3)));
    // Groups hang under an earlier customer of the same tenant, a few levels deep at most by chance.
    const parent = index > 10 && random.chance(0.12) ? rows.customers[rows.customers.length - random.int(1, Math.min(index, 200))] : undefined;
    rows.customers.push({
      id,
      tenant_id: tenant.id,
      parent_id: parent?.['id'] ?? null,
      reference: `${tenant.slug}-${String(index + 1).padStart(5, '0')}`,
      name,
      industry: industry.name,
      country_code: countryCode,
      website: random.chance(0.9) ? `https://www.${domain}` : null,
      phone: random.chance(0.85) ? phone(random, dialCode) : null,
      employees,
      annual_revenue: random.chance(0.7) ? money(employees * spread(random, 140_000, 0.6)) : null,
      owner_id: random.chance(0.95) ? random.pick(users).id : null,
      archived: random.chance(0.06),
      created_at: iso(createdAt),
      updated_at: iso(moment(random, createdAt, today)),
    });
    return { id, domain, dialCode, createdAt };
  });
}

function generateContacts({ rows, stream }: TenantContext, customers: readonly Customer[]): Contact[] {
  const random = stream('contacts');
  const count = [
    [1, 4],
    [2, 4],
    [3, 2],
    [4, 1],
    [6, 0.5],
  ] as const;
  return customers.flatMap((customer) =>
    Array.from({ length: random.weighted(count) }, (_, index) => {
      const first = random.pick(words.firstNames);
      const last = random.pick(words.lastNames);
      const id = random.uuid();
      const createdAt = index === 0 ? customer.createdAt : moment(random, customer.createdAt, today);
      rows.contacts.push({
        id,
        customer_id: customer.id,
        first_name: first,
        last_name: last,
        email: random.chance(0.92) ? `${mailName(`${first} ${last}`)}@${customer.domain}` : null,
        phone: random.chance(0.6) ? phone(random, customer.dialCode) : null,
        job_title: random.chance(0.9) ? random.pick(words.jobTitles) : null,
        is_primary: index === 0,
        created_at: iso(createdAt),
      });
      return { id, name: `${first} ${last}`, customerId: customer.id, createdAt };
    }),
  );
}

function generatePipelines({ tenant, rows, stream }: TenantContext): string[][] {
  const random = stream('pipelines');
  const names = words.pipelineNames.slice(0, tenant.plan === 'starter' ? 1 : tenant.plan === 'pro' ? 2 : 3);
  return names.map((name, index) => {
    const pipelineId = random.uuid();
    rows.pipelines.push({ id: pipelineId, tenant_id: tenant.id, name, is_default: index === 0 });
    return words.stages.map((stage, position) => {
      const id = random.uuid();
      rows.deal_stages.push({ id, pipeline_id: pipelineId, name: stage.name, position: position + 1, win_probability: stage.win_probability });
      return id;
    });
  });
}

function generateDeals(context: TenantContext, customers: readonly Customer[], users: readonly User[]): Deal[] {
  const { tenant, rows } = context;
  const random = context.stream('deals');
  const pipelines = generatePipelines(context);
  const products = words.products[tenant.slug] ?? [];
  const count = [
    [0, 3],
    [1, 4],
    [2, 3],
    [3, 2],
    [5, 1],
  ] as const;
  return customers.flatMap((customer) =>
    Array.from({ length: random.weighted(count) }, () => {
      const id = random.uuid();
      const openedAt = moment(random, customer.createdAt, today - dayMs);
      const decided = openedAt < today - salesCycleDays * dayMs ? random.chance(0.95) : random.chance(0.25);
      const won = decided && random.chance(0.45);
      const closedAt = decided ? moment(random, openedAt, Math.min(today, openedAt + salesCycleDays * dayMs)) : null;
      const stageIds = random.chance(0.75) ? pipelines[0] : random.pick(pipelines);
      const title = `${random.pick(products)} ${new Date(openedAt).getUTCFullYear()}`;
      const lastStage = stageIds?.[stageIds.length - 1];
      rows.deals.push({
        id,
        customer_id: customer.id,
        stage_id: (won ? lastStage : random.pick(stageIds ?? [])) ?? null,
        owner_id: random.chance(0.97) ? random.pick(users).id : null,
        title,
        amount: money(Math.min(spread(random, 9_000, 1.1), 2_000_000)),
        currency: tenant.currency,
        status: won ? 'won' : decided ? 'lost' : 'open',
        expected_close: iso(openedAt + random.int(20, salesCycleDays) * dayMs).slice(0, 10),
        opened_at: iso(openedAt),
        closed_at: closedAt === null ? null : iso(closedAt),
      });
      return { id, customer, title, openedAt, closedAt };
    }),
  );
}

function generateActivities({ rows, stream }: TenantContext, deals: readonly Deal[], contacts: readonly Contact[], users: readonly User[]): void {
  const random = stream('activities');
  const contactsOf = Map.groupBy(contacts, (contact) => contact.customerId);
  const add = (dealId: string | null, contactId: string | null, createdAt: number) => {
    const kind = random.weighted([['call', 4] as const, ['email', 4] as const, ['meeting', 2] as const, ['task', 3] as const]);
    const dueAt = createdAt + random.int(0, 14) * dayMs;
    const done = dueAt < today ? random.chance(0.93) : false;
    rows.activities.push({
      deal_id: dealId,
      contact_id: contactId,
      user_id: random.chance(0.96) ? random.pick(users).id : null,
      kind,
      subject: random.pick(words.activitySubjects[kind]),
      due_at: iso(dueAt),
      done_at: done ? iso(moment(random, createdAt, Math.min(today, dueAt + dayMs))) : null,
      created_at: iso(createdAt),
    });
  };
  for (const deal of deals) {
    const people = contactsOf.get(deal.customer.id) ?? [];
    for (let left = random.int(1, 4); left > 0; left -= 1) {
      add(deal.id, random.chance(0.7) ? random.pick(people).id : null, moment(random, deal.openedAt, deal.closedAt ?? today));
    }
  }
  for (const contact of contacts) {
    if (random.chance(0.35)) add(null, contact.id, moment(random, contact.createdAt, today));
  }
}

function generateNotes(context: TenantContext, customers: readonly Customer[], contacts: readonly Contact[], users: readonly User[]): void {
  const random = context.stream('notes');
  const products = (words.products[context.tenant.slug] ?? []).map((product) => product.charAt(0).toLowerCase() + product.slice(1));
  const contactsOf = Map.groupBy(contacts, (contact) => contact.customerId);
  for (const customer of customers) {
    for (let left = random.int(0, 3); left > 0; left -= 1) {
      const person = random.pick(contactsOf.get(customer.id) ?? []).name;
      context.rows.notes.push({
        customer_id: customer.id,
        author_id: random.chance(0.95) ? random.pick(users).id : null,
        body: random.pick(words.noteTemplates).replace('{person}', person).replace('{product}', random.pick(products)),
        pinned: random.chance(0.05),
        created_at: iso(moment(random, customer.createdAt, today)),
      });
    }
  }
}

function generateTags({ tenant, rows, stream }: TenantContext, customers: readonly Customer[]): void {
  const random = stream('customer_tags');
  const first = rows.tags.length + 1;
  for (const [index, [name, color]] of words.tagNames.entries()) rows.tags.push({ id: first + index, tenant_id: tenant.id, name, color });
  for (const customer of customers) {
    const wanted = random.weighted([[0, 3] as const, [1, 4] as const, [2, 3] as const, [3, 1] as const]);
    const tagIds = new Set(Array.from({ length: wanted }, () => random.int(first, first + words.tagNames.length - 1)));
    for (const tagId of tagIds) rows.customer_tags.push({ customer_id: customer.id, tag_id: tagId, tagged_at: iso(moment(random, customer.createdAt, today)) });
  }
}

function generateFiles({ tenant, rows, stream }: TenantContext, deals: readonly Deal[], users: readonly User[]): void {
  const random = stream('files');
  for (const deal of deals) {
    for (let left = random.weighted([[0, 6] as const, [1, 3] as const, [2, 1] as const]); left > 0; left -= 1) {
      const kind = random.pick(words.fileKinds);
      const id = random.uuid();
      rows.files.push({
        id,
        dealId: deal.id,
        uploadedBy: random.chance(0.95) ? random.pick(users).id : null,
        fileName: `${kind.name} ${deal.title}.${kind.extension}`,
        contentType: kind.contentType,
        sizeBytes: Math.round(spread(random, 400_000, 1)) + 1,
        storageKey: `${tenant.slug}/${id}.${kind.extension}`,
        uploadedAt: iso(moment(random, deal.openedAt, deal.closedAt ?? today)),
      });
    }
  }
}

function numbered(rows: readonly Row[]): Row[] {
  const clock = (row: Row) => Date.parse(String(row['created_at']));
  return [...rows].sort((a, b) => clock(a) - clock(b)).map((row, index) => ({ id: index + 1, ...row }));
}

function companyName(random: Random, industry: words.Industry, countryCode: string, taken: Set<string>): string {
  const stem = random.pick(words.companyStems);
  const suffix = random.pick(industry.suffixes);
  let name = `${stem} ${suffix}`;
  // Two stems name more companies than any tenant has, so this ends.
  while (taken.has(name)) name = `${stem} & ${random.pick(words.companyStems)} ${suffix}`;
  taken.add(name);
  return random.chance(0.6) ? `${name} ${random.pick(words.legalForms[countryCode] ?? ['Ltd'])}` : name;
}

/** A whole minute between two moments, `to` excluded. */
function moment(random: Random, from: number, to: number): number {
  return Math.floor((from + random.next() * Math.max(0, to - from)) / 60_000) * 60_000;
}

/** Log-normal around a median: a few large ones, many small ones, as sizes and amounts are. */
function spread(random: Random, median: number, sigma: number): number {
  const gauss = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return median * Math.exp(sigma * gauss);
}

function money(value: number): string {
  return (Math.round(value / 10) * 10).toFixed(2);
}

/** In America and Britain from the ranges kept for fiction, elsewhere too short to be dialled. */
function phone(random: Random, dialCode: string): string {
  const tail = random.int(100, 199);
  return dialCode === '+1' ? `+1 212 555 0${tail}` : dialCode === '+44' ? `+44 20 7946 0${tail}` : `${dialCode} 555 0${tail}`;
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

function mailName(name: string): string {
  return name.toLowerCase().replaceAll(' ', '.');
}

function slug(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '');
}
