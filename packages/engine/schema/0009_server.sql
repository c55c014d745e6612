-- Idempotency keys of mutations: the answer that a repeated request gets again.

create table partywall_control.idempotency_keys (
  -- Kind and id of whoever asks: a key is theirs alone.
  principal text not null,
  key text not null,
  -- Whom the answer is about, so that it goes with its tenant.
  tenant_id text,
  -- HMAC of method, URL, tenant and body: bodies hold passwords.
  fingerprint bytea not null,
  -- Who works on it. Until it is answered, another may take it over once the time is up: the process was lost.
  claim uuid not null,
  claimed_until timestamptz not null,
  -- The answer, once there is one.
  status smallint,
  content_type text,
  body text,
  expires_at timestamptz not null,
  primary key (principal, key)
);
create index idempotency_keys_expiry_idx on partywall_control.idempotency_keys (expires_at);
create index idempotency_keys_tenant_idx on partywall_control.idempotency_keys (tenant_id) where tenant_id is not null;
