import type { Changes } from './changes.ts';
import type { Marks } from './marks.ts';
import type { RowsUnit } from './reading/protocol.ts';
import type { Source } from './sources.ts';
import { isIndexed, tenantUnits, wholeUnits } from './units.ts';

/** How a table is read, and why. */
export interface TablePlan {
  readonly table: string;
  readonly rows: number;
  /** Of tenants, and of the platform as one, whose rows are read. */
  readonly changed: number;
  /** `nothing`: no rows changed. `tenants`: those of the changed ones, by index. `whole`: every row is looked at. */
  readonly reading: 'nothing' | 'tenants' | 'whole';
  readonly units: readonly RowsUnit[];
}

/** More rows than this share are read faster with all the others than by index: 0.3 µs a row in order, about 3 µs a row by index. */
const byIndexShareMax = 0.1;
const byIndexTenantsMax = 5_000;

export interface ReadingInput {
  readonly sources: readonly Source[];
  readonly marks: readonly Marks[];
  readonly changes: Changes;
  /** Keys of the subjects, by number. */
  readonly texts: readonly string[];
}

export function planReading({ sources, marks, changes, texts }: ReadingInput): TablePlan[] {
  return sources.map((source, number) => {
    const rows = marks[number]?.rows ?? new Float64Array();
    const wanted = changes.wanted[number] ?? new Uint8Array();
    const read = [...rows.keys()].filter((subject) => wanted[subject] === 1 && (rows[subject] ?? 0) > 0);
    const counted = rows.reduce((sum, each) => sum + each, 0);
    // Where only some tenants are asked for, the others' rows were not counted.
    const total = Math.max(
      counted,
      source.leaves.reduce((sum, { estimatedRows }) => sum + estimatedRows, 0),
    );
    const plan = { table: source.name, rows: counted, changed: read.length };
    if (read.length === 0) return { ...plan, reading: 'nothing', units: [] };
    const changedRows = read.reduce((sum, subject) => sum + (rows[subject] ?? 0), 0);
    // The platform's rows here are those of unknown tenants, or of none: no index finds them.
    const byIndex = isIndexed(source) && read[0] !== 0 && read.length <= byIndexTenantsMax && changedRows <= total * byIndexShareMax;
    if (!byIndex) return { ...plan, reading: 'whole', units: wholeUnits(source, number, wanted) };
    const tenants = read.map((subject) => texts[subject] ?? '');
    return { ...plan, reading: 'tenants', units: tenantUnits(source, number, { wanted, tenants, share: changedRows / total }) };
  });
}
