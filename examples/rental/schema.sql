-- The rental ERP before the wall: every table has its tenant, nothing keeps tenants apart. Names are those that Prisma gave the columns.

create table tenants (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  slug text not null unique,
  status text not null default 'ACTIVE' check (status in ('ACTIVE', 'SUSPENDED', 'CANCELLED'))
);

create table users (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  email text not null,
  name text not null,
  unique ("tenantId", email)
);

create table business_units (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  name text not null,
  unique ("tenantId", name)
);

create table clients (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  code text not null,
  name text not null,
  unique ("tenantId", code)
);

-- Which business units serve a client.
create table client_business_units (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  "clientId" uuid not null references clients (id) on delete cascade,
  "businessUnitId" uuid not null references business_units (id) on delete cascade,
  unique ("tenantId", "clientId", "businessUnitId")
);
create index "client_business_units_tenant_bu_idx" on client_business_units ("tenantId", "businessUnitId");

create table assets (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  -- Without one every unit of the tenant may rent it out.
  "businessUnitId" uuid references business_units (id) on delete restrict,
  code text not null,
  name text not null,
  "dailyCents" integer not null check ("dailyCents" >= 0),
  status text not null default 'AVAILABLE' check (status in ('AVAILABLE', 'RENTED', 'RETIRED')),
  unique ("tenantId", code)
);
create index "assets_tenant_bu_idx" on assets ("tenantId", "businessUnitId");

create table quotations (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  number text not null,
  "clientId" uuid not null references clients (id) on delete restrict,
  "assetId" uuid not null references assets (id) on delete restrict,
  days integer not null check (days > 0),
  "totalCents" integer not null check ("totalCents" >= 0),
  status text not null default 'DRAFT' check (status in ('DRAFT', 'APPROVED', 'CONVERTED')),
  unique ("tenantId", number)
);
create index "quotations_clientId_idx" on quotations ("clientId");
create index "quotations_assetId_idx" on quotations ("assetId");

create table contracts (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  number text not null,
  "quotationId" uuid not null references quotations (id) on delete restrict,
  "assetId" uuid not null references assets (id) on delete restrict,
  "totalCents" integer not null check ("totalCents" >= 0),
  status text not null default 'RUNNING' check (status in ('RUNNING', 'RETURNED')),
  unique ("tenantId", number)
);
create index "contracts_quotationId_idx" on contracts ("quotationId");
create index "contracts_assetId_idx" on contracts ("assetId");

create table invoices (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  number text not null,
  "contractId" uuid not null references contracts (id) on delete restrict,
  "totalCents" integer not null check ("totalCents" >= 0),
  "issuedAt" timestamptz not null default now(),
  "paidAt" timestamptz,
  unique ("tenantId", number)
);
create index "invoices_contractId_idx" on invoices ("contractId");

create table supplies (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  sku text not null,
  name text not null,
  stock integer not null check (stock >= 0),
  unique ("tenantId", sku)
);

create table supply_usages (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  "businessUnitId" uuid not null references business_units (id) on delete restrict,
  "supplyId" uuid not null references supplies (id) on delete restrict,
  quantity integer not null check (quantity > 0),
  "usedAt" timestamptz not null default now()
);
create index "supply_usages_tenant_bu_idx" on supply_usages ("tenantId", "businessUnitId");
create index "supply_usages_supplyId_idx" on supply_usages ("supplyId");

-- Written by the monthly job.
create table monthly_reports (
  id uuid primary key default gen_random_uuid(),
  "tenantId" uuid not null references tenants (id) on delete cascade,
  -- 2026-11
  month text not null,
  invoices integer not null,
  "invoicedCents" bigint not null,
  "paidCents" bigint not null,
  unique ("tenantId", month)
);
