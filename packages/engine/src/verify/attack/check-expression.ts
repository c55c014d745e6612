/** The condition of a check constraint's definition. */
export function checkExpression(definition: string): string {
  return /^CHECK \((.*)\)(?: NO INHERIT)?(?: NOT VALID)?(?: NOT ENFORCED)?$/s.exec(definition)?.[1] ?? 'true';
}
