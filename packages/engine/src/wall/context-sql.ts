/**
 * Where the context of a transaction is kept, and how it is written. Everything that reads or sets it does so by these expressions.
 *
 * *Protected*: in `backtrace_functions`, a string setting that no role but a superuser's may set, unless it was granted: the functions of schema
 * `partywall` set it as their owner, and the application's role can only empty it (RESET ALL), which leaves it in no tenant. The setting's own
 * effect is to add backtraces to log lines of C functions of the given names, and none has a name that a context can have. It may hold letters,
 * digits, underscores and commas alone; hence the encoding. Like any setting it ends with its transaction, goes back with a savepoint and
 * is seen by parallel workers.
 *
 * *Plain*: in `partywall.tenant_id`, which any role may set. For servers whose administrator is no superuser (managed ones).
 *
 * The value is the tenant's key, and where the context has a unit a comma and the unit's key: uuids without hyphens, integers with `n` for the minus,
 * text as the hexadecimal digits of its UTF-8. No context is the empty value, or none.
 */
export interface ContextForm {
  /** SQL type of the tenant's key: `uuid`, `bigint`, `integer`, `smallint`, `text`. */
  readonly keyType: string;
  /** SQL type of the unit's key; undefined where the model has no units, and contexts keep none. */
  readonly unitType?: string | undefined;
  readonly isProtected: boolean;
}

export const protectedSetting = 'backtrace_functions';
export const plainSetting = 'partywall.tenant_id';

/** Name of the setting that holds the context. */
export function contextSetting({ isProtected }: Pick<ContextForm, 'isProtected'>): string {
  return isProtected ? protectedSetting : plainSetting;
}

/** The encoded context; '' or NULL outside any. */
export function contextValue(form: Pick<ContextForm, 'isProtected'>): string {
  return form.isProtected ? `pg_catalog.current_setting('${protectedSetting}')` : `pg_catalog.current_setting('${plainSetting}', true)`;
}

/** Sets the encoded context until the transaction ends; '' leaves it. */
export function setContext(form: Pick<ContextForm, 'isProtected'>, value: string): string {
  return `pg_catalog.set_config('${contextSetting(form)}', ${value}, true)`;
}

/** The context's tenant or NULL, where `partywall.tenant_id()` would raise. */
export function contextTenant(form: ContextForm): string {
  // Without units there is no comma, and an index condition of every query stays one function shorter.
  return decoded(form.unitType === undefined ? contextValue(form) : `pg_catalog.split_part(${contextValue(form)}, ',', 1)`, form.keyType);
}

/** The context's unit or NULL. */
export function contextUnit(form: ContextForm): string {
  return form.unitType === undefined ? 'null::text' : decoded(`pg_catalog.split_part(${contextValue(form)}, ',', 2)`, form.unitType);
}

/** The context of a tenant, and of a unit where `unit` is not NULL; both are SQL of the canonical text of their keys. */
export function encodedContext(form: ContextForm, tenant: string, unit: string): string {
  const own = encoded(tenant, form.keyType);
  return form.unitType === undefined
    ? own
    : `${own} operator(pg_catalog.||) coalesce(','::pg_catalog.text operator(pg_catalog.||) ${encoded(unit, form.unitType)}, ''::pg_catalog.text)`;
}

/** The encoded context of a tenant, and of a unit where it has one, given the canonical texts of their keys. */
export function contextOf({ keyType, unitType }: Pick<ContextForm, 'keyType' | 'unitType'>, tenant: string, unit?: string): string {
  const own = encodedKey(tenant, keyType);
  return unitType === undefined || unit === undefined ? own : `${own},${encodedKey(unit, unitType)}`;
}

function encodedKey(key: string, type: string): string {
  if (type === 'uuid') return key.replaceAll('-', '');
  return isInteger(type) ? key.replaceAll('-', 'n') : Buffer.from(key).toString('hex');
}

function isInteger(type: string): boolean {
  return type === 'bigint' || type === 'integer' || type === 'smallint';
}

function encoded(text: string, type: string): string {
  if (type === 'uuid') return `pg_catalog.replace(${text}, '-', '')`;
  if (isInteger(type)) return `pg_catalog.replace(${text}, '-', 'n')`;
  return `pg_catalog.encode(pg_catalog.convert_to(${text}, 'UTF8'::pg_catalog.name), 'hex')`;
}

function decoded(value: string, type: string): string {
  if (type === 'uuid') return `nullif(${value}, '')::uuid`;
  if (isInteger(type)) return `nullif(pg_catalog.replace(${value}, 'n', '-'), '')::${type}`;
  return `pg_catalog.convert_from(pg_catalog.decode(nullif(${value}, ''), 'hex'), 'UTF8'::pg_catalog.name)::${type}`;
}
