import type { RuleText } from './rule-text.ts';

/** Risks that the wall cannot close. They fail nothing; a report names those that apply, so that nobody takes silence for safety. */
export const residualRules = {
  'residual.unsealed-context': {
    severity: 'medium',
    title: 'The context is not sealed',
    explains: 'Whoever can run SQL of their own choice inside a tenant’s request can set the context to another tenant.',
    fix: 'Seal the database: `partywall seal rotate`, deploy the key, `partywall seal on`. Where only a superuser can protect the context, bind every value as a parameter.',
  },
  'residual.owner': {
    severity: 'low',
    title: 'Owners and roles that bypass can do everything',
    explains: 'The owner can take the wall down and TRUNCATE; the system and service roles see all tenants.',
    fix: 'Keep their connection strings out of the application.',
  },
  'residual.primary-key': {
    severity: 'low',
    title: 'A taken key tells that it is taken',
    explains: 'Primary keys and other uniques span tenants: inserting a key that another tenant has fails, so a guessed key can be confirmed.',
    fix: 'Use random keys (uuid) that nobody can guess, or make the unique per tenant in the model.',
  },
  'residual.constraint': {
    severity: 'low',
    title: 'Constraints that the model leaves across tenants',
    explains: 'The model keeps a constraint that spans tenants, or one that the wall had to change.',
    fix: 'Decide it in the model: `uniques` per tenant, or another key.',
  },
  'residual.rows-of-no-unit': {
    severity: 'low',
    title: 'Rows without a unit are seen in every unit',
    explains: 'The unit column takes NULL. Such rows belong to the tenant as a whole: every unit reads them, and none changes them.',
    fix: 'Where each row must have a unit: alter table <table> alter column <unit column> set not null, then `partywall apply --phase contract`.',
  },
  'residual.platform-open': {
    severity: 'medium',
    title: 'Platform tables that the application uses',
    explains:
      'Queues, outboxes, sessions and the like hold everybody’s rows and have no policy; what the application may read there, any tenant’s request may read.',
    fix: 'Take access away in the model where the application can do without, or scope the table.',
  },
  'residual.platform-reference': {
    severity: 'low',
    title: 'References from platform tables to tenant rows',
    explains: 'A key that does not carry the tenant is checked without policies: inserting tells whether a tenant’s row exists, and a cascade follows it.',
    fix: 'Scope the referring table if its rows belong to tenants.',
  },
  'residual.shared-writable': {
    severity: 'medium',
    title: 'Shared tables that the application writes',
    explains: 'What one tenant writes into a shared table, all tenants read.',
    fix: 'Set `access: "read"` in the model and write as the system role.',
  },
  'residual.foreign-table': {
    severity: 'medium',
    title: 'Foreign tables that the application uses',
    explains: 'The model gives access to a foreign table; no policy exists for it here.',
    fix: 'Wall the table where it lives.',
  },
  'residual.sequences': {
    severity: 'low',
    title: 'Sequences count for everybody',
    explains: 'The gaps between the numbers that one tenant draws tell how much the others insert.',
    fix: 'Use random keys where that rate is a secret.',
  },
  'residual.session-state': {
    severity: 'low',
    title: 'Sessions remember',
    explains:
      'WITH HOLD cursors, temporary tables, LISTEN, session advisory locks and session settings outlive a transaction: the next tenant of a pooled connection finds them.',
    fix: 'Use the walled pool, which discards what a session kept.',
  },
  'residual.pooler-state': {
    severity: 'medium',
    title: 'The pooler hands session state on',
    explains: 'A session setting made through the pooler was there for another client. A context set for a session, instead of a transaction, would be too.',
    fix: 'Set the context per transaction only; let the pooler reset connections (server_reset_query_always).',
  },
  'residual.notify': {
    severity: 'low',
    title: 'NOTIFY is heard by all',
    explains: 'Channels belong to the database: every session of the application hears what any tenant’s request sends.',
    fix: 'Send ids, not contents.',
  },
  'residual.activity': {
    severity: 'low',
    title: 'Running SQL is visible within a role',
    explains: 'pg_stat_activity shows the SQL text of the role’s other sessions, of all tenants.',
    fix: 'Bind values as parameters; they are not shown.',
  },
  'residual.same-role': {
    severity: 'low',
    title: 'A role may change itself',
    explains:
      'SQL as the application can change the role’s own password and standing settings (`alter role`), which locks its other processes out or greets their next sessions; it can end and cancel the role’s other sessions; and it can write logical messages, which whoever decodes the write-ahead log reads.',
    fix: 'Run `partywall verify --static` on a schedule: a standing setting that opens something is a finding. Let the application log in by certificate or through a pooler, so that it depends on no password; trust no logical message.',
  },
  'residual.statistics': {
    severity: 'low',
    title: 'Estimates are made from all rows',
    explains:
      'EXPLAIN shows row counts estimated from every tenant’s rows; table sizes and pg_stat counters are readable. A condition that reads no column is judged before the policy, so one with a side effect (nextval) counts the rows of all tenants.',
    fix: 'Show no plans to tenants.',
  },
  'residual.advisory-locks': {
    severity: 'low',
    title: 'Advisory locks are common property',
    explains: 'Any session can take or see any advisory lock, also the one that guards entering a tenant, and so hold another tenant up.',
    fix: 'Bound waiting with lock_timeout; end sessions that hold such locks.',
  },
  'residual.large-objects': {
    severity: 'low',
    title: 'Large objects have no policies',
    explains: 'The application may create large objects, which belong to a role, not to a tenant.',
    fix: 'Revoke execute on lo_creat, lo_create and lo_from_bytea from public, or keep files elsewhere.',
  },
  'residual.leakproof': {
    severity: 'low',
    title: 'Some indexes serve no query under the wall',
    explains:
      'LIKE, jsonb containment, text search and numeric comparison are not leakproof, so they are judged after the policy: an indexed LIKE went from 0.16 to 117 ms.',
    fix: 'Lead such an index with the tenant column where its type allows (btree_gin, btree_gist).',
  },
  'residual.dump': {
    severity: 'low',
    title: 'Dumps under the wall are empty',
    explains: 'pg_dump --enable-row-security as a bound role dumps nothing and reports success; without that option it fails.',
    fix: 'Dump as the service role.',
  },
  'residual.new-tables': {
    severity: 'low',
    title: 'New tables are found, not closed',
    explains: 'Without a superuser there is no event trigger: a table made tomorrow is open until `partywall check` runs.',
    fix: 'Run `partywall check` in the deployment, or apply contract as a superuser.',
  },
} as const satisfies Record<string, RuleText>;
