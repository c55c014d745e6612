import type { RuleText } from './rule-text.ts';

/** Rules about who the application is and what it may do: its role, standing settings, schemas, privileges, schema `partywall`. */
export const accessRules = {
  'role.missing': {
    severity: 'critical',
    title: 'The application has a role',
    explains: 'The role that the model names for the application does not exist, so whatever the application runs as is not what was verified.',
    fix: 'Run `partywall apply --phase expand`, or correct `roles.app`.',
  },
  'role.superuser': {
    severity: 'critical',
    title: 'The application is no superuser',
    explains: 'Row level security does not bind a superuser: every query of the application sees the rows of all tenants.',
    fix: 'alter role <app> nosuperuser',
  },
  'role.bypass-rls': {
    severity: 'critical',
    title: 'The application does not bypass row level security',
    explains: 'BYPASSRLS switches every policy off for the role.',
    fix: 'alter role <app> nobypassrls',
  },
  'role.membership': {
    severity: 'critical',
    title: 'The application cannot become a role that the wall does not bind',
    explains:
      'A member may SET ROLE (or grants itself the right to), directly or over several roles, to a superuser, a role with BYPASSRLS, an owner of tables or one of the other three roles of the wall.',
    fix: 'revoke <role> from <app>',
  },
  'role.predefined': {
    severity: 'critical',
    title: 'The application has no predefined role that reaches around the wall',
    explains:
      'Roles such as pg_read_all_data, pg_write_all_data, pg_read_server_files or pg_execute_server_program read or write data that no policy guards; pg_monitor shows the SQL of other sessions.',
    fix: 'revoke <predefined role> from <app>',
  },
  'role.owner': {
    severity: 'critical',
    title: 'The application owns nothing',
    explains: 'An owner can take FORCE off its table, drop policies and triggers, or replace a function that others trust.',
    fix: 'alter table <table> owner to <owner>',
  },
  'role.replication': {
    severity: 'critical',
    title: 'The application cannot replicate',
    explains: 'REPLICATION reads the whole cluster from its write-ahead log.',
    fix: 'alter role <app> noreplication',
  },
  'role.administers': {
    severity: 'high',
    title: 'The application makes no roles or databases',
    explains: 'CREATEROLE hands out memberships (before PostgreSQL 16 of any role that is no superuser); CREATEDB copies a database by using it as a template.',
    fix: 'alter role <app> nocreaterole nocreatedb',
  },
  'role.wall-roles-joined': {
    severity: 'medium',
    title: 'The roles of the wall are apart',
    explains: 'The system or service role can SET ROLE to another of the four: what one connection string may do is no longer what its name says.',
    fix: 'revoke <role> from <role>',
  },
  'role.bound-jobs': {
    severity: 'medium',
    title: 'Work over all tenants is not bound',
    explains: 'A system or service role without BYPASSRLS sees no rows. A purge that can see nothing reports success for months.',
    fix: 'alter role <role> bypassrls',
  },
  'setting.standing-context': {
    severity: 'critical',
    title: 'No tenant is a standing default',
    explains: 'A setting of the role or the database puts every session into a tenant: a query that forgot its context reads that tenant instead of failing.',
    fix: 'alter role <role> reset <setting>',
  },
  'setting.standing-role': {
    severity: 'critical',
    title: 'No session starts as another role',
    explains: 'A standing `role` means that RESET ROLE leads back to the login role, which may be one that the wall does not bind.',
    fix: 'alter role <role> reset role',
  },
  'setting.row-security': {
    severity: 'medium',
    title: 'row_security is on by default',
    explains: 'With row_security off every query on a walled table is an error, and on a table whose wall has a gap it is not: the two change places.',
    fix: 'alter role <role> reset row_security',
  },
  'setting.strings': {
    severity: 'high',
    title: 'Strings are read as they are quoted',
    explains:
      'With standard_conforming_strings off a backslash in a plain string escapes what follows it: values that a library or the application quotes by itself end early, and what follows is SQL. The walled pool closes such connections.',
    fix: 'alter role <role> reset standard_conforming_strings',
  },
  'setting.search-path': {
    severity: 'medium',
    title: 'No standing search path leads elsewhere',
    explains:
      'A standing search_path that names a schema outside the model, or one where the application may create objects, finds other tables under the same names.',
    fix: 'alter role <role> reset search_path',
  },
  'setting.replication-role': {
    severity: 'critical',
    title: 'The application cannot switch triggers off',
    explains: 'With SET on session_replication_role a session ignores foreign keys and triggers.',
    fix: 'revoke set on parameter session_replication_role from <app>',
  },
  'setting.context': {
    severity: 'critical',
    title: 'The application cannot set the context',
    explains: 'The context is kept in backtrace_functions because the application may not set that; with SET on it a session names any tenant, sealed or not.',
    fix: 'revoke set on parameter backtrace_functions from <app>, public',
  },
  'schema.create': {
    severity: 'high',
    title: 'The application creates nothing in schemas',
    explains: 'CREATE on a schema lets it place a table, function or operator under a name that trusted code looks up there.',
    fix: 'revoke create on schema <schema> from <app>, public',
  },
  'schema.database-create': {
    severity: 'medium',
    title: 'The application creates no schemas',
    explains: 'CREATE on the database makes schemas that nobody verifies, and owns what is in them.',
    fix: 'revoke create on database <database> from <app>, public',
  },
  'privilege.truncate': {
    severity: 'critical',
    title: 'The application cannot TRUNCATE',
    explains: 'Row level security does not apply to TRUNCATE: one statement removes the rows of every tenant.',
    fix: 'revoke truncate on <table> from <app>',
  },
  'privilege.references': {
    severity: 'medium',
    title: 'The application cannot reference tables',
    explains: 'A foreign key of its own is checked without policies: it tells which keys exist.',
    fix: 'revoke references on <table> from <app>',
  },
  'privilege.trigger': {
    severity: 'high',
    title: 'The application cannot add triggers',
    explains: "A trigger runs in every other writer's session, with that writer's rights.",
    fix: 'revoke trigger on <table> from <app>',
  },
  'privilege.maintain': {
    severity: 'medium',
    title: 'The application cannot maintain tables',
    explains: 'MAINTAIN locks tables against all tenants (CLUSTER, VACUUM FULL, REINDEX, LOCK) and refreshes materialised views.',
    fix: 'revoke maintain on <table> from <app>',
  },
  'privilege.grant-option': {
    severity: 'medium',
    title: 'The application cannot pass privileges on',
    explains: 'With grant option the role opens tables to others, whom nobody verifies.',
    fix: 'revoke grant option for all on <table> from <app>',
  },
  'privilege.public': {
    severity: 'high',
    title: 'Nothing on rows is granted to everyone',
    explains: 'What PUBLIC holds, every role of the cluster holds, now and later.',
    fix: 'revoke all on <table> from public',
  },
  'privilege.column': {
    severity: 'medium',
    title: 'No column grants reach past the table',
    explains: 'A privilege on a column is not shown beside those of its table, and survives their revocation.',
    fix: 'revoke <privilege> (<column>) on <table> from <app>',
  },
  'privilege.excess': {
    severity: 'high',
    title: 'The application holds what the model gives it, no more',
    explains: 'A privilege on rows that the scope and access in the model do not give: writing shared rows, or reading what is the platform’s own.',
    fix: 'revoke <privileges> on <table> from <app>, or change the model',
  },
  'privilege.sequence': {
    severity: 'medium',
    title: 'Sequences cannot be read or set',
    explains: 'SELECT on a sequence counts the inserts of all tenants; UPDATE sets it back, so that their next insert fails.',
    fix: 'revoke select, update on sequence <sequence> from <app>',
  },
  'privilege.default': {
    severity: 'high',
    title: "Tomorrow's tables and functions are closed",
    explains:
      'Default privileges give the application rights on what is not there yet: a new table has no policy, and a function that was revoked from everyone stays open to it.',
    fix: 'alter default privileges for role <role> [in schema <schema>] revoke all on <tables|sequences|functions|schemas> from <app>, public',
  },
  'runtime.missing': {
    severity: 'critical',
    title: 'Schema partywall is installed',
    explains: 'Without the registry and its functions no session can enter a tenant and no policy can hold.',
    fix: 'Run `partywall apply --phase expand`.',
  },
  'runtime.phase': {
    severity: 'high',
    title: 'The wall is closed',
    explains: 'Contract has not been recorded: walled pools trust the list of walled tables that it leaves.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'runtime.observing': {
    severity: 'medium',
    title: 'The wall holds for everybody',
    explains: 'In mode observe nothing is refused: what verify finds here holds for tenants that are enforced.',
    fix: 'Run `partywall rollout status`, then `partywall rollout enforce` when the counts allow it.',
  },
  'runtime.function-changed': {
    severity: 'critical',
    title: 'The functions of the wall are as installed',
    explains:
      'A function of schema `partywall` is missing, or has another body, other arguments or attributes. An IMMUTABLE tenant_id() is folded into cached plans, so that the next tenant gets the rows of the last; a VOLATILE one makes every scan hundreds of times slower; an enter() without its checks admits the suspended.',
    fix: 'Run `partywall apply --phase expand`, then `partywall apply --phase contract`. One with another result or other arguments has to be dropped first, which takes along what depends on it.',
  },
  'runtime.function-unknown': {
    severity: 'high',
    title: 'Schema partywall holds nothing else',
    explains: 'A function that Partywall did not install, in the schema that every policy trusts.',
    fix: 'drop function partywall.<function>',
  },
  'runtime.relation-changed': {
    severity: 'high',
    title: 'The tables of the wall are as installed',
    explains:
      'A relation of schema `partywall` is missing or of another kind, or has what Partywall puts on none: row level security and rules hide rows from the functions that enter tenants, a trigger runs with the rights of whoever changes a state, rows of a child are read as its own, and its rows as those of a parent.',
    fix: 'alter table partywall.<table> disable row level security, no force row level security; drop the rule, trigger or child; alter table partywall.<table> no inherit <parent>; `partywall apply --phase expand` makes what is missing',
  },
  'runtime.owner': {
    severity: 'high',
    title: 'What is in schema partywall belongs to its owner',
    explains: 'Whoever owns a function or table of the wall can replace it, give it away, and switch its triggers off.',
    fix: 'alter function partywall.<function> owner to <owner of schema partywall>',
  },
  'runtime.function-open': {
    severity: 'critical',
    title: 'Roles call only what they need of the wall',
    explains:
      'The application may enter a tenant and ask for its own; the owners of tables, the system and the service role have what `apply` gives them. Any other function changes states, makes seals or tells about tenants.',
    fix: 'revoke execute on function partywall.<function> from <role>',
  },
  'runtime.seal-open': {
    severity: 'critical',
    title: 'A sealed database is entered with seals alone',
    explains: 'The database is sealed, and the application may call a function that enters a tenant without a seal.',
    fix: 'Run `partywall seal on`.',
  },
  'runtime.registry-open': {
    severity: 'critical',
    title: 'The registry of tenants is closed',
    explains:
      'The application can read or change who is a tenant, who is suspended, or what the operator keeps beside it, itself or by a view; or somebody beside the owner can read the keys of the seal.',
    fix: 'revoke all on partywall.<table> from <role>, public',
  },
  'runtime.trigger': {
    severity: 'high',
    title: 'The triggers of the registry fire',
    explains:
      'A trigger that registers tenants, tells older snapshots of a changed state or forgets who is gone is missing, another, or does not fire: new tenants stay out, or suspended ones in.',
    fix: 'Run `partywall apply --phase expand`. The control plane’s own, list_tenant: alter table partywall.registry enable trigger list_tenant, or `partywall migrate`.',
  },
} as const satisfies Record<string, RuleText>;
