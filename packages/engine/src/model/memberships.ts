import type { Relation } from '../catalog/catalog.ts';
import { isScopedTable, liveTenantColumn, type Survey } from './survey.ts';
import { singular, wordsOf } from './words.ts';

const membershipWords = new Set(['member', 'membership', 'invitation', 'invite', 'collaborator', 'seat', 'participant', 'enrollment', 'teammate']);

/** Whether people can be in several tenants: some scoped table pairs a person with a tenant, as memberships do. */
export function belongsToSeveral(survey: Survey, people: Relation): boolean {
  return survey.references.to(people.table).some(({ from, reference }) => {
    const relation = survey.tables.get(from);
    if (!relation || from === survey.root.table || !isScopedTable(survey, from)) return false;
    if (
      wordsOf(relation.name)
        .map(singular)
        .some((word) => membershipWords.has(word))
    )
      return true;
    const column = liveTenantColumn(survey, from);
    const [person] = reference.columns;
    return relation.indexes.some(
      ({ unique, columns }) => unique && columns.length === 2 && column !== undefined && columns.includes(column) && columns.includes(person),
    );
  });
}
