import { createHash } from 'node:crypto';

const readableMax = 60;

/** A part of a file name out of any text: what cannot be misread stays, and where something did not, a hash of the whole tells it apart. */
export function safeName(text: string): string {
  const safe = text
    .normalize('NFC')
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, readableMax);
  if (safe === text && safe !== '') return safe;
  return `${safe === '' ? 'x' : safe}-${createHash('sha256').update(text).digest('hex').slice(0, 8)}`;
}

/** `tenant_acme_20261121_020000.tar.gz`, in UTC. */
export function tenantFileName(tenant: string, at: Date): string {
  const stamp = at.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '_');
  return `tenant_${safeName(tenant)}_${stamp}.tar.gz`;
}
