-- The tables of Better Auth, as it names them (camel case), and one column of ours: "superAdmin". organization.id is the tenant's key as text.

create table partywall_people."user" (
  "id" text not null primary key,
  "name" text not null,
  "email" text not null unique,
  "emailVerified" boolean not null,
  "image" text,
  "createdAt" timestamptz not null default current_timestamp,
  "updatedAt" timestamptz not null default current_timestamp,
  "superAdmin" boolean not null default false
);

create table partywall_people."session" (
  "id" text not null primary key,
  "expiresAt" timestamptz not null,
  "token" text not null unique,
  "createdAt" timestamptz not null default current_timestamp,
  "updatedAt" timestamptz not null,
  "ipAddress" text,
  "userAgent" text,
  "userId" text not null references partywall_people."user" ("id") on delete cascade,
  "activeOrganizationId" text
);
create index "session_userId_idx" on partywall_people."session" ("userId");

create table partywall_people."account" (
  "id" text not null primary key,
  "accountId" text not null,
  "providerId" text not null,
  "userId" text not null references partywall_people."user" ("id") on delete cascade,
  "accessToken" text,
  "refreshToken" text,
  "idToken" text,
  "accessTokenExpiresAt" timestamptz,
  "refreshTokenExpiresAt" timestamptz,
  "scope" text,
  "password" text,
  "createdAt" timestamptz not null default current_timestamp,
  "updatedAt" timestamptz not null
);
create index "account_userId_idx" on partywall_people."account" ("userId");

create table partywall_people."verification" (
  "id" text not null primary key,
  "identifier" text not null,
  "value" text not null,
  "expiresAt" timestamptz not null,
  "createdAt" timestamptz not null default current_timestamp,
  "updatedAt" timestamptz not null default current_timestamp
);
create index "verification_identifier_idx" on partywall_people."verification" ("identifier");

create table partywall_people."organization" (
  "id" text not null primary key,
  "name" text not null,
  "slug" text not null unique,
  "logo" text,
  "createdAt" timestamptz not null,
  "metadata" text
);

create table partywall_people."member" (
  "id" text not null primary key,
  "organizationId" text not null references partywall_people."organization" ("id") on delete cascade,
  "userId" text not null references partywall_people."user" ("id") on delete cascade,
  "role" text not null,
  "createdAt" timestamptz not null,
  unique ("organizationId", "userId")
);
create index "member_userId_idx" on partywall_people."member" ("userId");

create table partywall_people."invitation" (
  "id" text not null primary key,
  "organizationId" text not null references partywall_people."organization" ("id") on delete cascade,
  "email" text not null,
  "role" text,
  "status" text not null,
  "expiresAt" timestamptz not null,
  "createdAt" timestamptz not null default current_timestamp,
  "inviterId" text not null references partywall_people."user" ("id") on delete cascade
);
create index "invitation_organizationId_idx" on partywall_people."invitation" ("organizationId");
create index "invitation_email_idx" on partywall_people."invitation" ("email");

create table partywall_people."apikey" (
  "id" text not null primary key,
  "configId" text not null,
  "name" text,
  "start" text,
  "referenceId" text not null,
  "prefix" text,
  "key" text not null,
  "refillInterval" integer,
  "refillAmount" integer,
  "lastRefillAt" timestamptz,
  "enabled" boolean,
  "rateLimitEnabled" boolean,
  "rateLimitTimeWindow" integer,
  "rateLimitMax" integer,
  "requestCount" integer,
  "remaining" integer,
  "lastRequest" timestamptz,
  "expiresAt" timestamptz,
  "createdAt" timestamptz not null,
  "updatedAt" timestamptz not null,
  "permissions" text,
  "metadata" text
);
create index "apikey_configId_idx" on partywall_people."apikey" ("configId");
create index "apikey_referenceId_idx" on partywall_people."apikey" ("referenceId");
create unique index "apikey_key_idx" on partywall_people."apikey" ("key");

-- Attempts to sign in, by a hash of the account or the address: counted before the password is looked at, over all processes.
create table partywall_people.sign_in_attempts (
  subject bytea not null primary key,
  attempts integer not null,
  expires_at timestamptz not null
);
create index sign_in_attempts_expires_idx on partywall_people.sign_in_attempts (expires_at);

-- Tells every server that what it remembers of a person or an API key is old. Every role of the database can listen to a channel, and notify
-- on it, so the payload is a hash that names nobody, and hearing it only ever makes a server forget.
create function partywall_people.changed() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('partywall_people', encode(sha256(convert_to(tg_argv[0] || ':' || (to_jsonb(old) ->> tg_argv[1]), 'UTF8')), 'hex'));
  return null;
end $$;

create trigger changed after update or delete on partywall_people."user" for each row execute function partywall_people.changed('user', 'id');
create trigger changed after update or delete on partywall_people."session" for each row execute function partywall_people.changed('user', 'userId');
create trigger changed after update or delete on partywall_people."apikey" for each row execute function partywall_people.changed('key', 'id');

-- A new membership changes what a person may do as well.
create function partywall_people.member_added() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('partywall_people', encode(sha256(convert_to('user:' || new."userId", 'UTF8')), 'hex'));
  return null;
end $$;

create trigger member_added after insert on partywall_people."member" for each row execute function partywall_people.member_added();
create trigger changed after update or delete on partywall_people."member" for each row execute function partywall_people.changed('user', 'userId');

-- An API key belongs to an organization without a foreign key: it goes with it.
create function partywall_people.drop_keys() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  delete from partywall_people."apikey" k where k."referenceId" = old."id";
  return null;
end $$;

create trigger drop_keys after delete on partywall_people."organization" for each row execute function partywall_people.drop_keys();
