import type { DataKey } from '../../keyring/data-keys.ts';
import { chunkBytes, writeSegment } from '../format/segment.ts';
import { schemaTable } from '../read/backup-source.ts';
import { openSpill, type SpillFiles } from './reading/spill.ts';

/** A tenant or the platform, as one run knows it. */
export interface BackupSubject {
  /** Undefined in a dry run where there is none yet, and so may be the ref. */
  readonly key: DataKey | undefined;
  readonly ref: string | undefined;
  /** Text of the tenant's key; empty for the platform. */
  readonly text: string;
}

export interface SchemaSealing {
  readonly backup: string;
  readonly key: DataKey | undefined;
  readonly files: SpillFiles;
  /** Number that the schema has behind those of the sources. */
  readonly source: number;
  readonly schema: string;
}

/** Seals the schema as a segment of the platform, in a spill of its own. */
export function sealSchema({ backup, key, files, source, schema }: SchemaSealing): void {
  if (!key) throw new Error('the platform has no key');
  const writer = writeSegment(key, { backup, table: schemaTable, part: 0 });
  const content = Buffer.from(schema);
  const spill = openSpill(files);
  const chunks = Math.max(1, Math.ceil(content.length / chunkBytes));
  for (let chunk = 0; chunk < chunks; chunk += 1) {
    const last = chunk === chunks - 1;
    const plain = content.subarray(chunk * chunkBytes, (chunk + 1) * chunkBytes);
    const stored = writer.chunk(plain, last);
    const mac = last ? Buffer.from(writer.sum().mac, 'hex') : undefined;
    const pieces = chunk === 0 ? [writer.header, stored] : [stored];
    spill.write(pieces, { subject: 0, source, part: 0, chunk, last, rows: 0, plainBytes: plain.length, mac });
  }
  spill.close();
}
