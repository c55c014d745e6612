import { receiptText } from '@partywall/wall/jobs';
import { openDatabase } from './database.ts';
import { monthOf, processMonthlyReports } from './reports.ts';

/** `npm run reports -- 2026-11`: the reports of a month, this one unless given. Exit status 1: tenants were left out, or something is zero that never was. */
const { RENTAL_APP_URL: app, RENTAL_SYSTEM_URL: system } = process.env;
if (!app || !system) throw new Error('set RENTAL_APP_URL and RENTAL_SYSTEM_URL, as .partywall/env does');
const database = openDatabase({ app, system });
try {
  const receipt = await processMonthlyReports(database, process.argv[2] ?? monthOf(new Date()));
  console.log(receiptText(receipt));
  process.exitCode = receipt.status === 'complete' && receipt.alerts.length === 0 ? 0 : 1;
} finally {
  await database.end();
}
