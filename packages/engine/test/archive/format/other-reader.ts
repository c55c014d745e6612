import { createDecipheriv, createHash, createHmac, hkdfSync, verify } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { z } from 'zod';

/**
 * A second reader of archives, written from `docs/formats/archive.md` alone: it imports nothing of the engine, so that the page is known to be
 * enough. It reads folders.
 */
export interface OtherKeys {
  /** Data keys by id. */
  readonly secrets: ReadonlyMap<string, Buffer>;
  /** PEM by the id of the signing key. */
  readonly publicKeys: ReadonlyMap<string, string>;
}

const manifest = z.looseObject({
  format: z.literal('partywall.backup'),
  version: z.looseObject({ major: z.literal(1) }),
  encryption: z.literal('aes-256-gcm-stream/1'),
  id: z.string(),
  tables: z.array(z.looseObject({ name: z.string(), rows: z.number() })),
  subjects: z.array(
    z.looseObject({ subject: z.string(), page: z.looseObject({ backup: z.string(), offset: z.number(), bytes: z.number(), sha256: z.string() }) }),
  ),
});
const signed = z.looseObject({ manifest: z.unknown(), signature: z.looseObject({ key: z.string(), ed25519: z.string() }) });
const page = z.looseObject({
  subject: z.string(),
  tables: z.array(
    z.looseObject({
      table: z.string(),
      rows: z.number(),
      segments: z.array(
        z.looseObject({
          backup: z.string(),
          key: z.string(),
          part: z.number(),
          pack: z.number(),
          offset: z.number(),
          bytes: z.number(),
          chunks: z.number(),
          rows: z.number(),
          plainBytes: z.number(),
          mac: z.string(),
        }),
      ),
    }),
  ),
});

/** Content of each table by subject: `ref → table → bytes`. Throws where anything is not as the page describes it. */
export async function readArchive(folder: string, backup: string, keys: OtherKeys): Promise<Map<string, Map<string, Buffer>>> {
  const stored = await readFile(path.join(folder, 'backups', backup, 'manifest.json'), 'utf8');
  const outer = signed.parse(JSON.parse(stored));
  const publicKey = keys.publicKeys.get(outer.signature.key);
  if (!publicKey || sorted(JSON.parse(stored)) !== stored) throw new Error('the manifest is not in its form');
  if (!verify(null, Buffer.from(sorted(outer.manifest)), publicKey, Buffer.from(outer.signature.ed25519, 'base64')))
    throw new Error('the signature does not fit');
  const { id, subjects } = manifest.parse(outer.manifest);
  if (id !== backup) throw new Error('another backup');
  const found = new Map<string, Map<string, Buffer>>();
  for (const { subject, page: place } of subjects) {
    const text = (await readFile(path.join(folder, 'backups', place.backup, 'pages'))).subarray(place.offset, place.offset + place.bytes);
    if (createHash('sha256').update(text).digest('hex') !== place.sha256) throw new Error('another page');
    const tables = new Map<string, Buffer>();
    for (const { table, segments } of page.parse(JSON.parse(text.toString())).tables) {
      const pieces: Buffer[] = [];
      for (const segment of segments) {
        const pack = await readFile(path.join(folder, 'packs', subject, `${segment.backup}.${segment.pack}`));
        const secret = keys.secrets.get(segment.key);
        if (!secret) throw new Error('no key');
        pieces.push(open(pack.subarray(segment.offset, segment.offset + segment.bytes), secret, { ...segment, table, subject }));
      }
      tables.set(table, Buffer.concat(pieces));
    }
    found.set(subject, tables);
  }
  return found;
}

interface Named {
  readonly backup: string;
  readonly key: string;
  readonly part: number;
  readonly subject: string;
  readonly table: string;
  readonly chunks: number;
  readonly plainBytes: number;
  readonly mac: string;
}

function open(stored: Buffer, secret: Buffer, { backup, key, part, subject, table, chunks, plainBytes, mac }: Named): Buffer {
  const derived = Buffer.from(hkdfSync('sha256', secret, stored.subarray(0, 32), 'partywall/segment/1', 71));
  if (!derived.subarray(39).equals(stored.subarray(32, 64))) throw new Error('another key');
  const associated = sorted({ backup, format: 'partywall.segment/1', key, part, subject, table });
  const frames: Buffer[] = [];
  let at = 64;
  for (let chunk = 0; chunk < chunks; chunk += 1) {
    const end = at + 4 + stored.readUInt32BE(at);
    const count = Buffer.alloc(5);
    count.writeUInt32BE(chunk);
    count[4] = chunk === chunks - 1 ? 1 : 0;
    const decipher = createDecipheriv('aes-256-gcm', derived.subarray(0, 32), Buffer.concat([derived.subarray(32, 39), count]));
    decipher.setAAD(Buffer.from(associated)).setAuthTag(stored.subarray(end - 16, end));
    frames.push(zstdDecompressSync(Buffer.concat([decipher.update(stored.subarray(at + 4, end - 16)), decipher.final()])));
    at = end;
  }
  const content = Buffer.concat(frames);
  const hash = createHmac('sha256', Buffer.from(hkdfSync('sha256', secret, '', 'partywall/mac/1', 32)))
    .update(table)
    .update('\0')
    .update(content);
  if (at !== stored.length || content.length !== plainBytes || hash.digest('hex') !== mac) throw new Error('another content');
  return content;
}

/** Canonical JSON as the page says it. */
function sorted(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(sorted).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${sorted(member)}`).join(',')}}`;
}
