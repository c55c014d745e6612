/** Part of pg without types; pg-cursor uses it too. */
declare module 'pg/lib/utils.js' {
  /** What a value becomes on the wire; throws where it cannot be written. */
  export function prepareValue(value: unknown): Buffer | string | null;
}
