import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type AuditFault, type ChainCheck, checkChain } from './chain-check.ts';
import { type ExportEnd, recordLine, sealText } from './export.ts';
import { type AuditAnchor, type AuditCheckpoint, type MarkReader, markReader } from './marks.ts';
import { type AuditRecord, type ChainLink, recordOf } from './records.ts';
import type { Verifier } from './signature.ts';
import { type AuditReport, faultsMax } from './verify.ts';

/** What is wrong with the file rather than with a chain. */
export interface ExportReport extends AuditReport {
  readonly file: readonly string[];
}

const signature = { keyId: z.string(), signature: z.string() };
const mark = { tenant: z.string(), seq: z.number().int(), hash: z.string(), at: z.string(), ...signature };
/** A line of an anchors file. */
export const anchorLine = z.object(mark);
const exportLine = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('record'), text: z.string(), previous: z.string(), hash: z.string() }),
  z.object({ kind: z.literal('checkpoint'), ...mark, removed: z.number().int() }),
  z.object({ kind: z.literal('end'), chains: z.number(), records: z.number(), at: z.string(), sha256: z.string(), ...signature }),
]);

/**
 * Verifies an export without its database: every record against its hash and the one before it, each line against the text it says it was made from,
 * checkpoints and the signed end against the public keys of the folder, and the chains against anchors that were kept.
 *
 * @param lines of the file, without their newlines
 * @param verify by a keyring (`readVerifier`) or by public keys (`verifierOfKeys`)
 */
export async function verifyAuditExport(
  lines: AsyncIterable<string>,
  { verify, anchors = [] }: { readonly verify: Verifier; readonly anchors?: readonly AuditAnchor[] },
): Promise<ExportReport> {
  const chains = chainsOfFile(markReader(verify), anchors);
  const sealed = createHash('sha256');
  const file: string[] = [];
  let [records, number] = [0, 0];
  let end: ExportEnd | undefined;
  for await (const text of lines) {
    number += 1;
    const line = readLine(text);
    if (line === undefined || end) {
      file.push(end ? `line ${number} stands behind the end` : `line ${number} is no line of an export, or does not say what its text says`);
      break;
    }
    if (line.kind === 'end') {
      end = line;
      continue;
    }
    sealed.update(`${text}\n`, 'utf8');
    if (line.kind === 'checkpoint') chains.checkpoint(line);
    else {
      records += 1;
      chains.record(line);
    }
  }
  if (end) file.push(...endFaults(end, { records, sha256: sealed.digest('hex'), verdict: verify(sealText(end), end) }));
  else if (file.length === 0) file.push('the file has no end: it was cut off, or its export failed');
  const { visited, faults, more } = chains.end();
  const sound = faults.length === 0 && file.length === 0;
  return { sound, chains: { visited, of: visited }, records, anchors: anchors.length, faults, more, file };
}

type ExportLine = ExportEnd | ({ readonly kind: 'checkpoint' } & AuditCheckpoint) | ({ readonly kind: 'record'; readonly record: AuditRecord } & ChainLink);

/** What a line says; undefined where it is none, or a record's line that is not, byte for byte, the one its text makes. */
function readLine(text: string): ExportLine | undefined {
  const parsed = exportLine.safeParse(parseJson(text));
  if (!parsed.success) return undefined;
  if (parsed.data.kind !== 'record') return parsed.data;
  const record = recordOf(parsed.data);
  return record && recordLine(parsed.data) === `${text}\n` ? { ...parsed.data, record } : undefined;
}

/** Holds the records of a file to each other, chain by chain, and to what is signed about them. */
function chainsOfFile(
  marks: MarkReader,
  anchors: readonly AuditAnchor[],
): {
  checkpoint(mark: AuditCheckpoint): void;
  record(link: ChainLink & { readonly record: AuditRecord }): void;
  end(): { readonly visited: number; readonly faults: readonly AuditFault[]; readonly more: number };
} {
  const kept = Map.groupBy(anchors, ({ tenant }) => tenant);
  const checkpoints = new Map<string, AuditCheckpoint>();
  const checks = new Map<string, ChainCheck>();
  const broken = new Set<string>();
  const faults: AuditFault[] = [];
  const note = (chain: string, fault: AuditFault | undefined): void => {
    if (!fault || broken.has(chain)) return;
    broken.add(chain);
    if (faults.length < faultsMax) faults.push(fault);
  };
  const begin = (chain: string, seq: number): ChainCheck => {
    const vouched = kept.get(chain) ?? [];
    for (const anchor of vouched) note(chain, marks.faultOf(anchor));
    const check = checkChain(chain, checkpoints.get(chain) ?? (seq === 1 ? 'start' : 'unknown'), vouched);
    checks.set(chain, check);
    return check;
  };
  return {
    checkpoint: (mark) => {
      note(mark.tenant, marks.faultOf(mark));
      checkpoints.set(mark.tenant, mark);
    },
    record: ({ record: { tenantId, seq }, ...link }) => {
      const chain = tenantId ?? '';
      note(chain, (checks.get(chain) ?? begin(chain, seq)).next({ ...link, seq }));
    },
    end: () => {
      for (const [chain, check] of checks) note(chain, check.end('unknown'));
      return { visited: checks.size, faults, more: broken.size - faults.length };
    },
  };
}

function endFaults(end: ExportEnd, found: { readonly records: number; readonly sha256: string; readonly verdict: 'holds' | 'broken' | 'unknown' }): string[] {
  return [
    ...(found.verdict === 'broken' ? ['the signature of the end is not of what it says'] : []),
    ...(found.verdict === 'unknown' ? [`the end is signed by key ${end.keyId}, which the keyring does not hold`] : []),
    ...(end.records === found.records ? [] : [`the end tells of ${end.records} records, the file has ${found.records}`]),
    ...(end.sha256 === found.sha256 ? [] : ['the lines are not the ones that the end was signed over']),
  ];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
