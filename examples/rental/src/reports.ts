import { current } from '@partywall/wall';
import { forEachTenant, type JobReceipt } from '@partywall/wall/jobs';
import { Router } from 'express';
import type { PrismaClient } from '../generated/client.ts';
import type { Database } from './database.ts';

export const monthlyJob = 'monthly reports';
const monthForm = /^\d{4}-(?:0[1-9]|1[0-2])$/;
const listMax = 200;

/** `2026-11` of a time in it. */
export function monthOf(time: Date): string {
  return time.toISOString().slice(0, 7);
}

/** The month that has just ended where a month begins. */
export function monthBefore(time: Date): string {
  return monthOf(new Date(Date.UTC(time.getUTCFullYear(), time.getUTCMonth() - 1, 1)));
}

/**
 * Writes every active tenant's report for a month, and says what became of each tenant. A month that is complete is not written again; one in which
 * tenants failed goes on with those.
 *
 * @throws TypeError where the month is none
 */
export async function processMonthlyReports(
  { pool, systemPool, prisma }: Pick<Database, 'pool' | 'systemPool' | 'prisma'>,
  month: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<JobReceipt> {
  if (!monthForm.test(month)) throw new TypeError(`writing the reports of ${JSON.stringify(month)}: a month has the form 2026-11`);
  return forEachTenant({ pool, system: systemPool, job: monthlyJob }, () => writeMonthlyReport(prisma, month), { runKey: month, ...options });
}

/** The report of the tenant of the context. Nothing here names the tenant but the new row. */
async function writeMonthlyReport(prisma: PrismaClient, month: string): Promise<void> {
  const from = new Date(`${month}-01T00:00:00Z`);
  const to = new Date(Date.UTC(from.getUTCFullYear(), from.getUTCMonth() + 1, 1));
  const issuedAt = { gte: from, lt: to };
  const issued = await prisma.invoice.aggregate({ where: { issuedAt }, _count: true, _sum: { totalCents: true } });
  const paid = await prisma.invoice.aggregate({ where: { issuedAt, paidAt: { not: null } }, _sum: { totalCents: true } });
  const report = { invoices: issued._count, invoicedCents: issued._sum.totalCents ?? 0, paidCents: paid._sum.totalCents ?? 0 };
  const tenantId = String(current().tenant);
  await prisma.monthlyReport.upsert({ where: { tenantId_month: { tenantId, month } }, create: { tenantId, month, ...report }, update: report });
}

export function reportRoutes(prisma: PrismaClient): Router {
  const routes = Router();
  routes.get('/', async (_request, response) => {
    const reports = await prisma.monthlyReport.findMany({ orderBy: { month: 'desc' }, take: listMax });
    // JSON has no bigint; sums of a month are far below where a number is exact.
    response.json({
      items: reports.map((report) => ({ ...report, invoicedCents: Number(report.invoicedCents), paidCents: Number(report.paidCents) })),
    });
  });
  return routes;
}
