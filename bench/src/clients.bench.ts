import { drizzleOrm } from '@partywall/clients/drizzle';
import { knex } from '@partywall/clients/knex';
import { kysely } from '@partywall/clients/kysely';
import { plainPg } from '@partywall/clients/pg';
import { prisma } from '@partywall/clients/prisma';
import { typeorm } from '@partywall/clients/typeorm';
import { crowd } from './clients/crowd.ts';
import { loadRecipe, loadWalled, recipeRole, roles, seal, urlAs } from './clients/database.ts';
import { compareClient, compareWithRecipe } from './clients/latency.ts';
import type { BenchContext } from './harness.ts';
import { atLeast, atMost, type BenchResult, type Check, type Figure } from './report.ts';

export const about = 'each client raw against walled, Prisma against its own recipe, and 200 tenants at once over 20 connections';

const clients = [plainPg, prisma, drizzleOrm, kysely, knex, typeorm];
const tenants = 200;

export async function run(context: BenchContext): Promise<BenchResult> {
  const runs = context.quick ? 200 : 4_000;
  const crowdMs = context.quick ? 1_000 : 30_000;
  const url = await context.createDatabase('clients');
  context.say('loading and walling the database');
  await loadWalled(url, tenants);
  const app = urlAs(url, roles.app);
  const checks: Check[] = [];
  const figures: Figure[] = [];

  context.say('loading, walling and sealing another');
  const sealedUrl = await context.createDatabase('sealed');
  await loadWalled(sealedUrl, tenants);
  const key = await seal(sealedUrl);
  const sealedApp = urlAs(sealedUrl, roles.app);
  for (const under of clients) {
    context.say(`measuring ${under.name}`);
    const named = await compareClient(under, { raw: url, app }, { runs, tenants, walled: { nameStatements: true } });
    const sealed = await compareClient(under, { raw: sealedUrl, app: sealedApp }, { runs, tenants, walled: { nameStatements: true, seal: key } });
    const unnamed = await compareClient(under, { raw: url, app }, { runs, tenants, walled: {} });
    checks.push(atMost(1.25, { name: `${under.name}, walled point read`, value: named.ratio, unit: '× raw' }));
    checks.push(atMost(1.45, { name: `${under.name}, sealed point read`, value: sealed.ratio, unit: '× raw' }));
    checks.push(atMost(5, { name: `${under.name}, added latency of a walled point read, P99`, value: named.addedP99Ms, unit: 'ms' }));
    figures.push({ name: `${under.name}, raw point read`, value: named.rawMs * 1_000, unit: 'µs' });
    figures.push({ name: `${under.name}, walled point read`, value: named.walledMs * 1_000, unit: 'µs' });
    figures.push({ name: `${under.name}, sealed point read`, value: sealed.walledMs * 1_000, unit: 'µs' });
    figures.push({ name: `${under.name}, walled point read without nameStatements`, value: unnamed.ratio, unit: '× raw' });
  }

  context.say('measuring Prisma against its own recipe for row level security');
  const recipeUrl = await context.createDatabase('recipe');
  await loadRecipe(recipeUrl, tenants);
  const recipe = await compareWithRecipe({ app, recipe: urlAs(recipeUrl, recipeRole) }, { runs, tenants });
  checks.push(atLeast(1.5, { name: 'Prisma’s own recipe, point read', value: recipe.ratio, unit: '× walled' }));
  figures.push({ name: 'Prisma’s own recipe, point read', value: recipe.recipeMs * 1_000, unit: 'µs' });

  for (const under of clients) {
    context.say(`${tenants} tenants at once by ${under.name}, ${crowdMs / 1_000} s`);
    const result = await crowd(under, app, { tenants, ms: crowdMs, signal: context.signal });
    checks.push(atMost(0, { name: `${under.name}, ${tenants} tenants at once, wrong answers`, value: result.wrong, unit: `of ${result.calls}` }));
    checks.push(atMost(0, { name: `${under.name}, ${tenants} tenants at once, connections leaked`, value: result.leaked, unit: '' }));
    figures.push({ name: `${under.name}, ${tenants} tenants at once, P99 of a call`, value: result.p99Ms, unit: 'ms' });
    figures.push({ name: `${under.name}, ${tenants} tenants at once`, value: result.callsPerSecond, unit: 'calls/s' });
  }
  return { checks, figures };
}
