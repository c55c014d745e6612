import type { RuleText } from './rule-text.ts';

/** What is tried as the application's own role, each with a control that shows that the attempt could have worked. */
export const attackRules = {
  'read.rows': {
    severity: 'critical',
    title: 'A tenant reads no other tenant’s rows',
    explains: 'A row planted as one tenant was seen, counted, locked or copied out in the context of another.',
    fix: 'The static findings of the same table say what is open.',
  },
  'read.child': {
    severity: 'critical',
    title: 'No row is read through a partition or child',
    explains: 'A row of one tenant was read in the context of another by naming the partition or the inheritance child that holds it.',
    fix: 'revoke all on <partition> from <app>, public',
  },
  'read.view': {
    severity: 'critical',
    title: 'No row is read through a view',
    explains: 'What a view shows one tenant depends on rows of another.',
    fix: 'alter view <view> set (security_invoker = true)',
  },
  'write.update': {
    severity: 'critical',
    title: 'A tenant updates no other tenant’s rows',
    explains: 'A blind UPDATE or a MERGE in the context of one tenant changed a row of another.',
    fix: 'The static findings of the same table say what is open.',
  },
  'write.delete': {
    severity: 'critical',
    title: 'A tenant deletes no other tenant’s rows',
    explains: 'A blind DELETE or a MERGE in the context of one tenant removed a row of another, whether or not it could see it.',
    fix: 'The static findings of the same table say what is open.',
  },
  'write.insert': {
    severity: 'critical',
    title: 'A tenant inserts no row for another',
    explains: 'A row that names one tenant was accepted in the context of another, by INSERT or COPY.',
    fix: 'Run `partywall apply --phase contract`: the policy’s WITH CHECK is weak.',
  },
  'write.null-tenant': {
    severity: 'high',
    title: 'No row is accepted without a tenant',
    explains: 'A row whose tenant is NULL was accepted.',
    fix: 'alter table <table> alter column <column> set not null',
  },
  'write.move': {
    severity: 'critical',
    title: 'No row moves to another tenant',
    explains: 'A tenant changed the tenant of its own row to another’s.',
    fix: 'Run `partywall apply --phase contract`: the policy’s WITH CHECK is weak.',
  },
  'write.upsert': {
    severity: 'critical',
    title: 'An upsert changes no other tenant’s row',
    explains: 'INSERT ... ON CONFLICT DO UPDATE in the context of one tenant changed the row of another that holds the key.',
    fix: 'The static findings of the same table say what is open.',
  },
  'reference.attach': {
    severity: 'critical',
    title: 'No row refers to another tenant’s',
    explains: 'A row of one tenant was attached to a row of another: the key told that it exists, and cascades can reach across.',
    fix: 'Run `partywall apply --phase contract`: the reference must carry the tenant.',
  },
  'reference.cascade': {
    severity: 'critical',
    title: 'No cascade crosses tenants',
    explains: 'A tenant deleted its own row and a row of another tenant was deleted or changed with it.',
    fix: 'Run `partywall apply --phase contract`: the reference must carry the tenant.',
  },
  'unique.oracle': {
    severity: 'medium',
    title: 'A taken value tells nothing of other tenants',
    explains: 'A value that the model says is unique per tenant was refused because another tenant has it.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'context.none': {
    severity: 'critical',
    title: 'Without context there are no rows, and an error says so',
    explains: 'A query without a tenant did not fail.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'context.garbage': {
    severity: 'critical',
    title: 'An empty or senseless context shows nothing',
    explains: 'With a context that is empty or no tenant at all, rows were shown.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'context.row-security': {
    severity: 'critical',
    title: 'Row level security is active for the application',
    explains: 'With row_security = off a bound role gets an error. A query that succeeds is not bound.',
    fix: 'The static findings of the role and the table say why.',
  },
  'session.prepared': {
    severity: 'critical',
    title: 'A cached plan follows the context',
    explains: 'A prepared statement with a generic plan, executed as one tenant and then as another, gave the first one’s rows.',
    fix: 'Run `partywall apply --phase contract`: tenant_id() must be STABLE.',
  },
  'session.leftover-context': {
    severity: 'critical',
    title: 'Sessions start without a tenant',
    explains: 'A fresh session, or one from the pooler, is in a tenant before anyone entered one.',
    fix: 'Reset standing settings; set the context per transaction only (`partywall.enter`), never for a session.',
  },
  'escape.login': {
    severity: 'critical',
    title: 'The login is the application’s role itself',
    explains: 'The session logged in as another role and then became the application: RESET ROLE leads back.',
    fix: 'Let the application log in as its own role.',
  },
  'escape.set-role': {
    severity: 'critical',
    title: 'No other role can be taken on',
    explains: 'SET ROLE or SET SESSION AUTHORIZATION to a role that the wall does not bind was accepted.',
    fix: 'revoke <role> from <app>',
  },
  'escape.replication-role': {
    severity: 'critical',
    title: 'Triggers and keys cannot be switched off',
    explains: 'The session set session_replication_role.',
    fix: 'revoke set on parameter session_replication_role from <app>',
  },
  'escape.ddl': {
    severity: 'critical',
    title: 'The application cannot change walled tables',
    explains: 'It disabled row level security, a trigger or a policy, or added a policy, trigger or rule of its own.',
    fix: 'alter table <table> owner to <owner>; revoke trigger, references on <table> from <app>',
  },
  'escape.truncate': {
    severity: 'critical',
    title: 'TRUNCATE is refused',
    explains: 'TRUNCATE removed the rows of all tenants.',
    fix: 'revoke truncate on <table> from <app>',
  },
  'escape.create': {
    severity: 'high',
    title: 'The application creates no lasting objects',
    explains: 'A table, function or schema was created.',
    fix: 'revoke create on schema <schema> from <app>, public',
  },
  'escape.shadow': {
    severity: 'critical',
    title: 'Temporary objects fool nobody',
    explains: 'With temporary tables, functions or operators under trusted names, rows of another tenant or an unknown tenant got through.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'escape.enter': {
    severity: 'critical',
    title: 'Who may not be entered is refused',
    explains: 'partywall.enter admitted an unknown, suspended or cancelled tenant, or a second tenant in one transaction.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'escape.context': {
    severity: 'critical',
    title: 'The context is set by entering alone',
    explains: 'The application’s role put itself into another tenant by a setting, a function’s setting, or a default of its role or the database.',
    fix: 'revoke set on parameter backtrace_functions from <app>; run `partywall apply --phase contract`',
  },
  'escape.seal': {
    severity: 'critical',
    title: 'A sealed tenant is entered with its seal',
    explains: 'In a sealed database the application entered a tenant without a seal, or with one that is another tenant’s, was changed, or is of no good key.',
    fix: 'Run `partywall seal on`, then `partywall apply --phase contract`.',
  },
  'escape.registry': {
    severity: 'critical',
    title: 'The registry cannot be read or written',
    explains: 'The application read or changed a table of schema `partywall`, or called a function that is not for it.',
    fix: 'revoke all on all tables in schema partywall from <app>, public',
  },
  'system.bound': {
    severity: 'medium',
    title: 'The system client sees all tenants',
    explains: 'The system role’s own connection is bound by row level security: its jobs see nothing and report success.',
    fix: 'alter role <system> bypassrls',
  },
} as const satisfies Record<string, RuleText>;

/** What is read as the administrator: rows that are out of place already, whatever the constraints say. */
export const dataRules = {
  'data.crossed': {
    severity: 'critical',
    title: 'No row refers to another tenant’s row',
    explains: 'A row’s parent belongs to another tenant or is not there. A key that an owner under forced RLS validated proves nothing.',
    fix: 'Repair the rows, or take them aside with `partywall apply --phase contract --quarantine`.',
  },
  'data.no-tenant': {
    severity: 'high',
    title: 'No row is without a tenant',
    explains: 'Rows whose tenant is NULL belong to nobody.',
    fix: 'Repair the rows, or take them aside with `partywall apply --phase contract --quarantine`.',
  },
  'data.unknown-tenant': {
    severity: 'high',
    title: 'Every row’s tenant exists',
    explains: 'Rows whose tenant is not in the tenant root outlived it, or never had one.',
    fix: 'Repair the rows, or take them aside with `partywall apply --phase contract --quarantine`.',
  },
  'data.unregistered': {
    severity: 'medium',
    title: 'Every tenant is registered',
    explains: 'The tenant root and the registry disagree: a tenant cannot be entered, or one that is gone still can.',
    fix: 'Run `partywall apply --phase expand`.',
  },
} as const satisfies Record<string, RuleText>;
