/** The end of a verb's help: what its exit statuses mean, and examples. Every verb has both. */
export function helpEnding(statuses: Readonly<Record<string, string>>, examples: readonly string[]): string {
  const width = Math.max(...Object.keys(statuses).map((status) => status.length));
  return [
    '',
    'Exit status:',
    ...Object.entries(statuses).map(([status, meaning]) => `  ${status.padEnd(width)}  ${meaning}`),
    '',
    'Examples:',
    ...examples.map((example) => `  $ ${example}`),
  ].join('\n');
}
