import type { Catalog, Relation } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { descendantsOf, leavesOf } from './contract-references.ts';
import { setFact } from './facts.ts';
import { wallName } from './names.ts';
import type { StepAction, WallStep } from './plan.ts';
import { childrenOf, inSchema, transaction } from './plan-expand.ts';
import { forget, type Replaced, replacedFact, replacedThings } from './replaced.ts';
import { isBuiltUnderLock } from './shape-keys.ts';

/**
 * Brings back what contract replaced, from its records in `partywall.facts`. Global uniques are built first, because plain keys
 * may refer to them; they take their names in the moment the per-tenant forms go, which is after the composite keys that hang on
 * those. Everything long runs beside writers.
 */
export function restoreSteps(catalog: Catalog): WallStep[] {
  const restores = replacedThings(catalog).flatMap((replaced): Restore[] => {
    const relation = catalog.relations.get(replaced.table);
    if (!relation) return [];
    if (replaced.kind === 'view') return [viewRestore(replaced)];
    if (replaced.kind === 'foreign key') return [foreignKeyRestore(catalog, relation, replaced)];
    return replaced.kind === 'unique constraint' || replaced.kind === 'unique index' ? [uniqueRestore(catalog, relation, replaced)] : [];
  });
  const keys = restores.filter(({ kind }) => kind === 'foreign key');
  const others = restores.filter(({ kind }) => kind !== 'foreign key');
  return [
    ...others.flatMap(({ build }) => build),
    ...keys.flatMap(({ build }) => build),
    ...keys.flatMap(({ swap }) => swap),
    ...others.flatMap(({ swap }) => swap),
    ...restores.flatMap(({ prove }) => prove),
  ];
}

interface Restore {
  readonly kind: Replaced['kind'];
  /** Beside what is there, under another name. */
  readonly build: readonly WallStep[];
  /** In one transaction: what is there goes, the old one takes its name. */
  readonly swap: readonly WallStep[];
  /** Afterwards, beside writers. */
  readonly prove: readonly WallStep[];
}

function viewRestore(replaced: Replaced): Restore {
  const set = replaced.definition === '' ? 'reset (security_invoker)' : `set (security_invoker = ${replaced.definition})`;
  const swap = brief(`rollback/view/${replaced.table}`, replaced.table, "run the view with its owner's rights again", [
    `alter view ${quoted(replaced.table)} ${set}`,
    forget(replaced),
  ]);
  return { kind: 'view', build: [], swap: [swap], prove: [] };
}

/**
 * Back as NOT VALID at once, then proven beside writers. A partitioned table takes no NOT VALID key before PostgreSQL 18: there the
 * partitions get theirs and prove them first, and the parent's adopts them.
 */
function foreignKeyRestore(catalog: Catalog, relation: Relation, replaced: Replaced): Restore {
  const table = quoted(replaced.table);
  const name = ident(replaced.name);
  const id = `${replaced.table}/${replaced.name}`;
  const wasValid = !replaced.definition.endsWith('NOT VALID');
  const later = wasValid && relation.kind !== 'partitioned';
  const drop = relation.constraints.some((constraint) => constraint.name === replaced.name) ? [`alter table ${table} drop constraint ${name}`] : [];
  const beside = wallName('restored', relation.name, relation.schema, replaced.kind, replaced.name);
  const leaves = wasValid ? leavesOf(catalog, relation) : [];
  const build = leaves.flatMap((leaf) => {
    const live = leaf.constraints.find((constraint) => constraint.name === beside);
    const each = quoted(leaf.table);
    return [
      ...(live
        ? []
        : [
            brief(`rollback/foreign-key/${id}/${leaf.table}`, leaf.table, `bring back ${replaced.name}`, [
              `alter table ${each} add constraint ${ident(beside)} ${replaced.definition} not valid`,
            ]),
          ]),
      ...(live?.validated
        ? []
        : [
            online(
              `rollback/validate/${id}/${leaf.table}`,
              leaf.table,
              `prove ${replaced.name} for every row`,
              `alter table ${each} validate constraint ${ident(beside)}`,
            ),
          ]),
    ];
  });
  const swap = brief(`rollback/foreign-key/${id}`, replaced.table, `bring back ${replaced.name}`, [
    ...drop,
    ...leaves.map((leaf) => `alter table ${quoted(leaf.table)} rename constraint ${ident(beside)} to ${name}`),
    `alter table ${table} add constraint ${name} ${replaced.definition}${later ? ' not valid' : ''}`,
    later ? setFact(replacedFact(replaced), { ...replaced, restored: true }) : forget(replaced),
  ]);
  const prove = later
    ? [
        online(`rollback/validate/${id}`, replaced.table, `prove ${replaced.name} for every row`, `alter table ${table} validate constraint ${name}`),
        brief(`rollback/restored/${id}`, replaced.table, `record that ${replaced.name} is back`, [forget(replaced)]),
      ]
    : [];
  return { kind: 'foreign key', build: replaced.restored ? [] : build, swap: replaced.restored ? [] : [swap], prove };
}

/** The global form is built beside writers under a name of its own and takes its old name in the moment the per-tenant form goes. */
function uniqueRestore(catalog: Catalog, relation: Relation, replaced: Replaced): Restore {
  const table = quoted(replaced.table);
  const id = `${replaced.table}/${replaced.name}`;
  const isConstraint = replaced.kind === 'unique constraint';
  const isPartitioned = relation.kind === 'partitioned';
  const buildName = (on: Relation) => wallName('restored', on.name, on.schema, replaced.kind, replaced.name);
  const partName = (on: Relation) => replaced.parts?.[on.table];
  const underLock = isConstraint && !isPartitioned && replaced.deferral !== '' && isBuiltUnderLock(relation);
  const build = underLock ? [] : buildSteps(catalog, relation, replaced, buildName);
  const perTenant = relation.constraints.some((constraint) => constraint.name === replaced.name && constraint.kind === 'unique')
    ? [`alter table ${table} drop constraint ${ident(replaced.name)}`]
    : relation.indexes.some((index) => index.name === replaced.name)
      ? [`drop index ${inSchema(relation, replaced.name)}`]
      : [];
  const named = isPartitioned && isConstraint ? leavesOf(catalog, relation) : descendantsOf(catalog, relation);
  const renames = named.flatMap((part) => {
    const name = partName(part);
    return name === undefined ? [] : [`alter index ${inSchema(part, buildName(part))} rename to ${ident(name)}`];
  });
  const back = !isConstraint
    ? `alter index ${inSchema(relation, buildName(relation))} rename to ${ident(replaced.name)}`
    : isPartitioned || underLock
      ? `alter table ${table} add constraint ${ident(replaced.name)} ${replaced.constraint ?? ''}`
      : `alter table ${table} add constraint ${ident(replaced.name)} unique using index ${ident(buildName(relation))}${replaced.deferral ?? ''}`;
  const swap = brief(`rollback/unique/${id}`, replaced.table, `bring back ${replaced.name}`, [...perTenant, ...renames, back, forget(replaced)]);
  return { kind: replaced.kind, build, swap: [swap], prove: [] };
}

/** On a partitioned table each leaf's; of an index also the parents', of a constraint the parent makes its own from the leaves'. */
function buildSteps(catalog: Catalog, relation: Relation, replaced: Replaced, buildName: (on: Relation) => string): WallStep[] {
  const title = `build ${replaced.name} over all tenants`;
  const isConstraint = replaced.kind === 'unique constraint';
  const id = (kind: string, on: Relation) => `rollback/unique-${kind}/${on.table}/${replaced.name}`;
  const steps: WallStep[] = [];
  const build = (on: Relation): void => {
    const name = buildName(on);
    const live = on.indexes.find((index) => index.name === name);
    if (on.kind !== 'partitioned') {
      if (!live?.valid) {
        const action: StepAction = {
          kind: 'concurrent',
          ...(live && { cleanup: `drop index concurrently if exists ${inSchema(on, name)}` }),
          statement: `create unique index concurrently ${ident(name)} on ${quoted(on.table)}${replaced.definition}`,
        };
        steps.push({ ...online(id('build', on), on.table, title, ''), action });
      }
      if (isConstraint && on !== relation && live?.constraint === undefined) {
        const statement = `alter table ${quoted(on.table)} add constraint ${ident(name)} unique using index ${ident(name)}${replaced.deferral ?? ''}`;
        steps.push(brief(id('constraint', on), on.table, title, [statement]));
      }
      return;
    }
    if (!isConstraint && !live) {
      steps.push(brief(id('build', on), on.table, title, [`create unique index ${ident(name)} on only ${quoted(on.table)}${replaced.definition}`]));
    }
    for (const child of childrenOf(catalog, on)) {
      build(child);
      if (isConstraint || child.indexes.some((index) => index.name === buildName(child) && index.attachedTo)) continue;
      const statement = `alter index ${inSchema(on, name)} attach partition ${inSchema(child, buildName(child))}`;
      steps.push(brief(id('attach', child), child.table, title, [statement]));
    }
  };
  build(relation);
  return steps;
}

const reason = 'as it was before contract';

function brief(id: string, table: TableName, title: string, statements: readonly string[]): WallStep {
  return { id, phase: 'contract', table, title, reason, lock: 'brief', action: transaction(statements) };
}

function online(id: string, table: TableName, title: string, statement: string): WallStep {
  return { id, phase: 'contract', table, title, reason, lock: 'online', action: { kind: 'concurrent', statement } };
}
