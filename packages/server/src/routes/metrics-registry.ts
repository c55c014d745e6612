import { type Consumption, type ControlDatabase, type Operation, type SystemUsage, systemUsage, type TopConsumers, topConsumers } from '@partywall/engine';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Accounting } from '../account.ts';

/** Tenants with a label of their own; the rest are `(other)`. A label for each tenant would be a time series for each. */
const labelledTenants = 20;
const others = '(other)';
/** What is read from the database is read at most this often, however often somebody asks. */
const freshMs = 10_000;

const consumed = { calls: 'calls', errors: 'errors', time: 'milliseconds spent on answers' } as const satisfies Partial<Record<Consumption, string>>;

/** A registry with the figures of the process itself. */
export function processRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return registry;
}

/**
 * Adds what the database knows to a registry. The returned function brings it up to date: a database that does not answer is
 * `partywall_database_up` 0, and what it would tell is left out.
 */
export function databaseMetrics(registry: Registry, database: ControlDatabase, { meter }: Accounting): () => Promise<void> {
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: string[] = []): Gauge => new Gauge({ name: `partywall_${name}`, help, labelNames, registers });
  const gauges = {
    up: gauge('database_up', 'Whether the database answers'),
    tenants: gauge('tenants', 'Tenants by status', ['status']),
    connections: gauge('database_connections', 'Sessions of this database by role and state', ['role', 'state']),
    connectionsMax: gauge('database_connections_max', 'Sessions that the server admits'),
    bytes: gauge('database_bytes', 'Size of the database'),
    hits: gauge('database_cache_hit_ratio', 'Page reads that found their page in memory'),
    active: gauge('active_users', 'People with a request today'),
    tenant: gauge('tenant_usage_24h', `Calls, errors and milliseconds of the last 24 hours, of the ${labelledTenants} tenants with most of each`, [
      'measure',
      'tenant',
    ]),
  };
  new Gauge({
    name: 'partywall_requests_unattributed',
    help: 'Requests since the start that memory had no room to count for their tenant',
    registers,
    collect() {
      this.set(meter.unattributed);
    },
  });

  const operation: Operation = { database, actor: { kind: 'system', id: 'metrics' } };
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | undefined;
  const read = async (): Promise<void> => {
    const measures = Object.keys(consumed) as (keyof typeof consumed)[]; // of the constant above
    const [system, ...tops] = await Promise.all([systemUsage(operation), ...measures.map((by) => topConsumers(operation, { by, limit: labelledTenants }))]);
    for (const one of Object.values(gauges)) one.reset();
    gauges.up.set(1);
    showSystem(system);
    for (const top of tops) showTop(top);
  };
  return async () => {
    const now = database.clock().getTime();
    if (now - readAt >= freshMs) {
      reading ??= read()
        .catch(() => {
          for (const one of Object.values(gauges)) one.reset();
          gauges.up.set(0);
        })
        .finally(() => {
          readAt = now;
          reading = undefined;
        });
    }
    await reading;
  };

  function showSystem({ tenants, connections, database: facts, activeUsers }: SystemUsage): void {
    for (const [status, count] of Object.entries(tenants.byStatus)) gauges.tenants.set({ status }, count);
    for (const { role, state, connections: count } of connections.byRole) gauges.connections.set({ role, state }, count);
    gauges.connectionsMax.set(connections.max);
    gauges.bytes.set(facts.bytes);
    if (facts.cacheHitRatio !== null) gauges.hits.set(facts.cacheHitRatio);
    gauges.active.set(activeUsers);
  }

  function showTop({ by, total, items }: TopConsumers): void {
    for (const { tenantId, value } of items) gauges.tenant.set({ measure: by, tenant: tenantId }, value);
    gauges.tenant.set({ measure: by, tenant: others }, total - items.reduce((sum, { value }) => sum + value, 0));
  }
}
