import { addressOf, type Draft, identityOf, isFree, isOurs, type Reading, type Rows } from './draft.ts';

/** Functions, procedures, aggregates, operators and casts. */
export async function readRoutines(rows: Rows): Promise<Reading> {
  return { drafts: [...(await routines(rows)), ...(await aggregates(rows)), ...(await operators(rows)), ...(await casts(rows))] };
}

async function routines(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; definition: string }>(
    `select p.oid, ${identityOf('pg_proc', 'p.oid')} as id, pg_catalog.pg_get_functiondef(p.oid) as definition
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.prokind <> 'a' and ${isOurs('n')} and ${isFree('pg_proc', 'p.oid')}
  -- The constructors of a range type come with it, and so does its cast.
  and ${isOwn('pg_proc', 'p.oid')}`,
  );
  return found.map(({ oid, id, definition }) => ({ id, kind: 'routine', statements: [definition.trimEnd()], makes: [addressOf('pg_proc', oid)] }));
}

function isOwn(catalog: string, oid: string): string {
  return `not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.${catalog}'::regclass and d.objid = ${oid} and d.deptype = 'i')`;
}

async function aggregates(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; name: string; arguments: string; options: string[] }>(
    `select p.oid, ${identityOf('pg_proc', 'p.oid')} as id, format('%I.%I', n.nspname, p.proname) as name,
  case when p.pronargs = 0 then '*' else pg_catalog.pg_get_function_arguments(p.oid) end as arguments,
  array_remove(array[
    'sfunc = ' || a.aggtransfn::regproc,
    'stype = ' || pg_catalog.format_type(a.aggtranstype, null),
    case when a.aggtransspace <> 0 then 'sspace = ' || a.aggtransspace end,
    case when a.aggfinalfn <> 0 then 'finalfunc = ' || a.aggfinalfn::regproc end,
    case when a.aggfinalextra then 'finalfunc_extra' end,
    ${modify('finalfunc_modify', 'a.aggfinalmodify', 'a.aggkind')},
    case when a.aggcombinefn <> 0 then 'combinefunc = ' || a.aggcombinefn::regproc end,
    case when a.aggserialfn <> 0 then 'serialfunc = ' || a.aggserialfn::regproc end,
    case when a.aggdeserialfn <> 0 then 'deserialfunc = ' || a.aggdeserialfn::regproc end,
    case when a.agginitval is not null then 'initcond = ' || quote_literal(a.agginitval) end,
    case when a.aggmtransfn <> 0 then 'msfunc = ' || a.aggmtransfn::regproc end,
    case when a.aggminvtransfn <> 0 then 'minvfunc = ' || a.aggminvtransfn::regproc end,
    case when a.aggmtransfn <> 0 then 'mstype = ' || pg_catalog.format_type(a.aggmtranstype, null) end,
    case when a.aggmtransspace <> 0 then 'msspace = ' || a.aggmtransspace end,
    case when a.aggmfinalfn <> 0 then 'mfinalfunc = ' || a.aggmfinalfn::regproc end,
    case when a.aggmfinalextra then 'mfinalfunc_extra' end,
    case when a.aggmtransfn <> 0 then ${modify('mfinalfunc_modify', 'a.aggmfinalmodify', 'a.aggkind')} end,
    case when a.aggminitval is not null then 'minitcond = ' || quote_literal(a.aggminitval) end,
    case when a.aggsortop <> 0 then (select format('sortop = operator(%I.%s)', s.nspname, o.oprname)
      from pg_catalog.pg_operator o join pg_catalog.pg_namespace s on s.oid = o.oprnamespace where o.oid = a.aggsortop) end,
    case p.proparallel when 's' then 'parallel = safe' when 'r' then 'parallel = restricted' end,
    case when a.aggkind = 'h' then 'hypothetical' end], null) as options
from pg_catalog.pg_proc p join pg_catalog.pg_aggregate a on a.aggfnoid = p.oid join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where ${isOurs('n')} and ${isFree('pg_proc', 'p.oid')}`,
  );
  return found.map(({ oid, id, name, options, ...aggregate }) => ({
    id,
    kind: 'aggregate',
    statements: [`create aggregate ${name}(${aggregate.arguments}) (${options.join(', ')})`],
    makes: [addressOf('pg_proc', oid)],
  }));
}

/** What is the default of its kind is left out. */
function modify(name: string, column: string, kind: string): string {
  const value = `case ${column} when 'r' then 'read_only' when 's' then 'shareable' else 'read_write' end`;
  return `case when ${column} <> case ${kind} when 'n' then 'r' else 'w' end then '${name} = ' || ${value} end`;
}

async function operators(rows: Rows): Promise<Draft[]> {
  const operator = (column: string): string =>
    `(select format('operator(%I.%s)', s.nspname, x.oprname) from pg_catalog.pg_operator x join pg_catalog.pg_namespace s on s.oid = x.oprnamespace where x.oid = ${column})`;
  const found = await rows<{ oid: number; id: string; name: string; options: string[] }>(
    `select o.oid, ${identityOf('pg_operator', 'o.oid')} as id, format('%I.%s', n.nspname, o.oprname) as name,
  array_remove(array[
    'function = ' || o.oprcode::regproc,
    case when o.oprleft <> 0 then 'leftarg = ' || pg_catalog.format_type(o.oprleft, null) end,
    'rightarg = ' || pg_catalog.format_type(o.oprright, null),
    case when o.oprcom <> 0 then 'commutator = ' || ${operator('o.oprcom')} end,
    case when o.oprnegate <> 0 then 'negator = ' || ${operator('o.oprnegate')} end,
    case when o.oprrest <> 0 then 'restrict = ' || o.oprrest::regproc end,
    case when o.oprjoin <> 0 then 'join = ' || o.oprjoin::regproc end,
    case when o.oprcanhash then 'hashes' end,
    case when o.oprcanmerge then 'merges' end], null) as options
from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
where o.oprcode <> 0 and ${isOurs('n')} and ${isFree('pg_operator', 'o.oid')}`,
  );
  return found.map(({ oid, id, name, options }) => ({
    id,
    kind: 'operator',
    statements: [`create operator ${name} (${options.join(', ')})`],
    makes: [addressOf('pg_operator', oid)],
  }));
}

async function casts(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; definition: string }>(
    `select c.oid, ${identityOf('pg_cast', 'c.oid')} as id,
  format('create cast (%s as %s) %s%s', pg_catalog.format_type(c.castsource, null), pg_catalog.format_type(c.casttarget, null),
    case c.castmethod when 'f' then 'with function ' || c.castfunc::regprocedure when 'i' then 'with inout' else 'without function' end,
    case c.castcontext when 'a' then ' as assignment' when 'i' then ' as implicit' else '' end) as definition
from pg_catalog.pg_cast c where c.oid >= 16384 and ${isFree('pg_cast', 'c.oid')} and ${isOwn('pg_cast', 'c.oid')}`,
  );
  return found.map(({ oid, id, definition }) => ({ id, kind: 'cast', statements: [definition], makes: [addressOf('pg_cast', oid)] }));
}
