import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import { canonicalJson } from '../format/canonical-json.ts';
import type { ManifestSubject } from '../format/manifest.ts';
import type { Page } from '../format/page.ts';

/** The pages of one backup, gathered in a file until they are stored as one object. */
export interface PagesFile {
  add(page: Page): ManifestSubject['page'];
  bytes(): number;
  read(): AsyncIterable<Buffer>;
  close(): void;
}

const readAtOnceBytes = 1024 ** 2;

/** @throws PartywallError store_full, from `add` */
export function openPagesFile(name: string): PagesFile {
  const file = fs.openSync(name, 'wx+', 0o600);
  let total = 0;
  return {
    add: (page) => {
      const bytes = Buffer.from(canonicalJson(page));
      try {
        for (let at = 0; at < bytes.length; ) at += fs.writeSync(file, bytes, at);
      } catch (cause) {
        if (sqlState(cause) === 'ENOSPC') throw new PartywallError('store_full', `writing ${name}: the disk is full`, { cause });
        throw cause;
      }
      const offset = total;
      total += bytes.length;
      return { backup: page.backup, bytes: bytes.length, offset, sha256: createHash('sha256').update(bytes).digest('hex') };
    },
    bytes: () => total,
    async *read() {
      for (let at = 0; at < total; at += readAtOnceBytes) {
        const piece = Buffer.allocUnsafe(Math.min(readAtOnceBytes, total - at));
        if (fs.readSync(file, piece, 0, piece.length, at) !== piece.length) throw new Error('the work folder was changed while a backup ran');
        yield piece;
      }
    },
    close: () => fs.closeSync(file),
  };
}
