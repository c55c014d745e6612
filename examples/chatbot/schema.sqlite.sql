-- The same platform on SQLite, as its first customers run it: types are words, booleans are numbers, JSON is text, and the tier is in the settings alone.
create table tenants (id text primary key, name text not null, slug text not null unique, status text not null default 'active', settings json not null default '{}', created_at datetime);
create table agents (id integer primary key, tenant_id text not null references tenants (id), name text not null, model text not null, temperature real not null default 0.7, is_default boolean not null default 0, created_at datetime);
create table prompts (id integer primary key, tenant_id text not null references tenants (id), agent_id integer not null references agents (id), version integer not null, content text not null);
create table vector_stores (id integer primary key, tenant_id text not null references tenants (id), agent_id integer references agents (id), name text not null, embedding blob);
create table admin_users (id integer primary key, tenant_id text not null references tenants (id), email text not null, name text not null, role text not null default 'member');
create table audit_conversations (id integer primary key, tenant_id text not null references tenants (id), agent_id integer references agents (id), started_at datetime);
create table audit_messages (id integer primary key, conversation_id integer not null references audit_conversations (id), role text not null, content text not null);
create table channel_sessions (id integer primary key, tenant_id text not null references tenants (id), agent_id integer not null references agents (id), channel text not null, external_id text not null);
create table channel_messages (id integer primary key, tenant_id text not null references tenants (id), session_id integer not null references channel_sessions (id), direction text not null, body text not null, sent_at datetime);
create table leads (id integer primary key, tenant_id text not null references tenants (id), session_id integer references channel_sessions (id), email text not null, score integer not null default 0);
create table jobs (id integer primary key, tenant_id text not null references tenants (id), kind text not null, payload json not null default '{}', finished_at datetime);
create table uploads (id integer primary key, tenant_id text not null references tenants (id), name text not null, path text not null, size_bytes integer not null);
