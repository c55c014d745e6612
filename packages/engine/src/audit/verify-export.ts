import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type AuditFault, type ChainCheck, checkChain } from './chain-check.ts';
import { type ExportEnd, recordLine, sealText } from './export.ts';
import { type AuditAnchor, type AuditCheckpoint, markReader } from './marks.ts';
import { type ChainLink, recordOf } from './records.ts';
import { readVerifier } from './signature.ts';
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
 */
export async function verifyAuditExport(
  lines: AsyncIterable<string>,
  { keyring, anchors = [] }: { readonly keyring: string; readonly anchors?: readonly AuditAnchor[] },
): Promise<ExportReport> {
  const marks = await markReader(keyring);
  const kept = Map.groupBy(anchors, ({ tenant }) => tenant);
  const verify = await readVerifier(keyring);
  const sealed = createHash('sha256');
  const file: string[] = [];
  const faults = new Map<string, AuditFault>();
  const checks = new Map<string, ChainCheck>();
  let [records, number, more] = [0, 0, 0];
  let checkpoint: AuditCheckpoint | undefined;
  let end: ExportEnd | undefined;
  const note = (chain: string, fault: AuditFault | undefined): void => {
    if (!fault || faults.has(chain)) return;
    if (faults.size < faultsMax) faults.set(chain, fault);
    else more += 1;
  };
  const check = (chain: string, seq: number): ChainCheck => {
    const known = checks.get(chain);
    if (known) return known;
    const before = checkpoint?.tenant === chain ? checkpoint : seq === 1 ? 'start' : 'unknown';
    const vouched = kept.get(chain) ?? [];
    for (const anchor of vouched) note(chain, marks.faultOf(anchor));
    const made = checkChain(chain, before, vouched);
    checks.set(chain, made);
    return made;
  };

  for await (const text of lines) {
    number += 1;
    if (end) {
      file.push(`line ${number} stands behind the end`);
      break;
    }
    const parsed = exportLine.safeParse(parseJson(text));
    if (!parsed.success) {
      file.push(`line ${number} is no line of an export`);
      break;
    }
    if (parsed.data.kind === 'end') {
      end = parsed.data;
      continue;
    }
    sealed.update(`${text}\n`, 'utf8');
    if (parsed.data.kind === 'checkpoint') {
      checkpoint = parsed.data;
      note(checkpoint.tenant, marks.faultOf(checkpoint));
      continue;
    }
    records += 1;
    const link: ChainLink = parsed.data;
    const record = recordOf(link);
    if (!record || recordLine(link) !== `${text}\n`) {
      file.push(`line ${number} does not say what its text says`);
      break;
    }
    const chain = record.tenantId ?? '';
    note(chain, check(chain, record.seq).next({ ...link, seq: record.seq }));
  }
  for (const [chain, made] of checks) note(chain, made.end('unknown'));
  if (end) file.push(...endFaults(end, { records, sha256: sealed.digest('hex'), verdict: verify(sealText(end), end) }));
  else if (file.length === 0) file.push('the file has no end: it was cut off, or its export failed');
  const chains = { visited: checks.size, of: checks.size };
  return { sound: faults.size === 0 && file.length === 0, chains, records, anchors: anchors.length, faults: [...faults.values()], more, file };
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
