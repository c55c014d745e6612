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

create table partywall_people."rateLimit" (
  "id" text not null primary key,
  "key" text not null unique,
  "count" integer not null,
  "lastRequest" bigint not null
);
