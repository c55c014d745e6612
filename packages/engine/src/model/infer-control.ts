import type { Catalog, Column, Relation } from '../catalog/catalog.ts';
import type { PeopleTable, Quota, TenantProfile } from './control.ts';
import type { TableRule } from './model.ts';
import { isPeopleTable } from './people.ts';
import { listedValues } from './root-status.ts';
import type { TableName } from './table-name.ts';
import { snake } from './words.ts';

/**
 * What the control plane can take from names: columns that provisioning fills, the people of a tenant, what can be counted. A wrong guess
 * here opens nothing: a provision that does not fit the table fails as a whole, and a quota without a limit only counts.
 */
export interface InferredControl {
  readonly profile: TenantProfile;
  readonly people: PeopleTable | undefined;
  readonly quotas: ReadonlyMap<string, Quota>;
}

const profileNames: Readonly<Record<keyof TenantProfile, readonly string[]>> = {
  name: ['name', 'display_name', 'title', 'company_name', 'organization_name', 'tenant_name'],
  slug: ['slug', 'subdomain', 'handle'],
  plan: ['plan', 'plan_name', 'subscription_plan', 'tier'],
  contactEmail: ['contact_email', 'billing_email', 'owner_email', 'email'],
};
const emailNames = ['email', 'email_address', 'primary_email'];
const nameNames = ['name', 'full_name', 'display_name'];
const roleNames = ['role', 'user_role'];
const adminWords = ['admin', 'owner', 'administrator'];
const memberWords = ['member', 'user', 'employee', 'viewer'];
const sizeNames = ['size_bytes', 'byte_size', 'file_size_bytes', 'file_size', 'filesize', 'content_length', 'size', 'bytes'];

export function inferControl(catalog: Catalog, root: Relation, rules: ReadonlyMap<TableName, TableRule>): InferredControl {
  const scoped = [...rules].flatMap(([table, rule]) => {
    const relation = catalog.relations.get(table);
    return rule.scope === 'scoped' && relation ? [relation] : [];
  });
  const people = scoped.filter(isPeopleTable).flatMap((relation) => peopleOf(catalog, relation))[0];
  return { profile: profileOf(root), people, quotas: quotasOf(scoped, people) };
}

function profileOf(root: Relation): TenantProfile {
  const pick = (what: keyof TenantProfile): string | undefined => named(root, profileNames[what], isText)?.name;
  return { name: pick('name'), slug: pick('slug'), plan: pick('plan'), contactEmail: pick('contactEmail') };
}

function peopleOf(catalog: Catalog, relation: Relation): PeopleTable[] {
  const email = named(relation, emailNames, isText);
  if (!email) return [];
  const column = named(relation, roleNames, () => true);
  const values = column ? (listedValues(catalog, relation, column) ?? []) : [];
  const word = (words: readonly string[]): string | undefined => words.flatMap((each) => values.find((value) => snake(value) === each) ?? [])[0];
  const [admin, member] = [word(adminWords), word(memberWords)];
  const role = column && admin !== undefined && member !== undefined ? { column: column.name, admin, member } : undefined;
  return [{ table: relation.table, email: email.name, name: named(relation, nameNames, isText)?.name, role }];
}

/** Names as in the plans that come with Partywall: customers, users, storage. */
function quotasOf(scoped: readonly Relation[], people: PeopleTable | undefined): Map<string, Quota> {
  const quotas = new Map<string, Quota>();
  const customers = scoped.find(({ name }) => snake(name) === 'customers');
  if (customers) quotas.set('customers', { kind: 'rows', table: customers.table });
  if (people) quotas.set('users', { kind: 'rows', table: people.table });
  const sizes = scoped.flatMap((relation): [TableName, string][] => {
    const size = named(relation, sizeNames, ({ type }) => /^(?:bigint|integer|numeric)/.test(type));
    return size ? [[relation.table, size.name]] : [];
  });
  if (sizes.length > 0) quotas.set('storage', { kind: 'bytes', tables: new Map(sizes.sort(([left], [right]) => (left < right ? -1 : 1))) });
  return quotas;
}

/** The first of the names that the table has, in their order. */
function named(relation: Relation, names: readonly string[], fits: (column: Column) => boolean): Column | undefined {
  return names.flatMap((name) => relation.columns.find((column) => snake(column.name) === name && fits(column)) ?? [])[0];
}

function isText({ type }: Column): boolean {
  return /^(?:text|character varying|citext)/.test(type);
}
