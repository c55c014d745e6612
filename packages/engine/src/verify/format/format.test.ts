import { describe, expect, it } from 'vitest';
import { finding } from '../finding.ts';
import { type VerifyReport, verifyExit } from '../report.ts';
import { renderHuman } from './human.ts';
import { toJson } from './json.ts';
import { toJunit } from './junit.ts';
import { toSarif } from './sarif.ts';

const nasty = 'public."a<b>&\'\u0007$$"';
const open = finding('view.owner-rights', nasty, `${nasty} reads as "postgres"`, { evidence: 'open to the application' });
const waived = finding('index.invalid', 'index i on public.t', 'index i of public.t is invalid');
const known = finding('tenant.no-index', 'public.t', 'no index of public.t leads with tenant_id');

const report: VerifyReport = {
  database: 'shop',
  serverVersion: 180_004,
  appRole: 'crm_app',
  at: new Date('2026-11-21T04:00:00Z'),
  elapsedMs: 1_234,
  checks: [
    { rule: 'view.owner-rights', kind: 'static', title: 'Views run with the caller’s rights', surface: 'catalog', outcome: 'fail', targets: undefined },
    { rule: 'index.invalid', kind: 'static', title: 'Indexes are valid', surface: 'catalog', outcome: 'fail', targets: undefined },
    { rule: 'rls.off', kind: 'static', title: 'Row level security is on', surface: 'catalog', outcome: 'pass', targets: undefined },
    { rule: 'read.rows', kind: 'attack', title: 'A tenant reads no other tenant’s rows', surface: 'direct', outcome: 'could not run', targets: 3 },
    { rule: 'read.child', kind: 'attack', title: 'No row is read through a partition', surface: 'direct', outcome: 'not applicable', targets: 0 },
  ],
  findings: [open],
  waived: [{ finding: waived, reason: 'rebuilt on Sunday', until: '2026-11-30' }],
  known: [known],
  expiredWaivers: [{ rule: 'rls.off', target: 'public.old', reason: 'gone soon', until: '2026-01-01' }],
  unusedWaivers: [{ rule: 'rls.off', target: 'public.none', reason: 'x', until: '2027-01-01' }],
  residuals: [{ id: 'residual.notify', targets: [], message: 'every session hears every channel' }],
  couldNotRun: [{ surface: 'direct', rules: ['read.rows'], target: 'public.t', reason: 'no row to attack' }],
  acceptedUnable: [{ rule: 'write.delete', target: 'public.u', reason: 'its trigger', until: '2026-12-01' }],
  suite: [
    { name: 'Messages reject null tenant_id', outcome: 'pass', detail: '3 of 3 tables' },
    { name: 'Cross-tenant insert blocked', outcome: 'not run', detail: 'no attacks were made' },
    { name: 'Query performance acceptable', outcome: 'fail', detail: '50 rows in 900 ms' },
  ],
};
const sound: VerifyReport = { ...report, checks: [], findings: [], couldNotRun: [], expiredWaivers: [], suite: report.suite.slice(0, 1) };

describe('the exit status', () => {
  it('is 0 when sound, also with waived and known findings', () => expect(verifyExit(sound)).toBe(0));
  it('is 1 with a finding, also beside what could not run', () => expect(verifyExit(report)).toBe(1));
  it('is 2 when nothing was found and something could not run', () => expect(verifyExit({ ...sound, couldNotRun: report.couldNotRun })).toBe(2));
  it('is 1 when a check of the isolation suite fails', () => expect(verifyExit({ ...sound, suite: report.suite })).toBe(1));
});

describe('the report for a person', () => {
  const text = renderHuman(report);

  it('has a line per check, marked by what became of it', () => {
    expect(text).toMatch(/^ {2}✗ view\.owner-rights +Views run with the caller’s rights \(failed\)$/m);
    expect(text).toMatch(/^ {2}~ index\.invalid .*\(accepted\)$/m);
    expect(text).toMatch(/^ {2}✓ rls\.off /m);
    expect(text).toMatch(/^ {2}\? read\.rows .*\(could not run\)$/m);
    expect(text).toMatch(/^ {2}- read\.child .*\(not applicable\)$/m);
  });

  it('prints the isolation suite as the runbook does', () => {
    expect(text).toContain(
      [
        'MULTI-TENANT ISOLATION TESTS',
        '============================================================',
        '  ✓ PASS: Messages reject null tenant_id',
        '  ? NOT RUN: Cross-tenant insert blocked (no attacks were made)',
        '  ✗ FAIL: Query performance acceptable (50 rows in 900 ms)',
        '============================================================',
        'TEST SUMMARY',
        '  Passed: 1',
        '  Failed: 1',
        '  Not run: 1',
      ].join('\n'),
    );
  });

  it('names findings with what to do, decisions, what could not run and what stays', () => {
    expect(text).toContain(`✗ ${open.message} [${open.fingerprint}]`);
    expect(text).toContain('fix: alter view <view> set (security_invoker = true)');
    expect(text).toContain('~ index.invalid index i on public.t: rebuilt on Sunday (until 2026-11-30)');
    expect(text).toContain('the waiver of rls.off for public.old ended on 2026-01-01');
    expect(text).toContain('the waiver of rls.off for public.none matches nothing');
    expect(text).toContain('1 known by the baseline');
    expect(text).toContain('~ write.delete could not run on public.u: its trigger (until 2026-12-01)');
    expect(text).toContain('attacks as the application, public.t: no row to attack [read.rows]');
    expect(text).toContain('· notify: every session hears every channel');
    expect(text).toMatch(/not sound: shop as crm_app, 3 checks, 1 finding, 1 residual risk, 1 could not run, 1\.2 s$/);
  });

  it('ends with one word when all is well', () => expect(renderHuman(sound)).toMatch(/\nsound: shop as crm_app/));
  it('colours by the given function', () => expect(renderHuman(sound, (style, text) => `<${style}>${text}</${style}>`)).toContain('<green>sound</green>'));
});

it('is one JSON value with the text of each rule', () => {
  const data = JSON.parse(JSON.stringify(toJson(report)));
  expect(data).toMatchObject({ version: 1, sound: false, exit: 1, at: '2026-11-21T04:00:00.000Z', passed: 1, failed: 1 });
  expect(data.findings[0]).toMatchObject({ rule: 'view.owner-rights', fingerprint: open.fingerprint, fix: expect.stringContaining('security_invoker') });
  expect(data.couldNotRun).toEqual(report.couldNotRun);
});

describe('SARIF 2.1.0', () => {
  const sarif = JSON.parse(JSON.stringify(toSarif(report, { toolVersion: '0.1.0' })));
  const [run] = sarif.runs;

  it('refers to rules that it defines', () => {
    expect(sarif.version).toBe('2.1.0');
    for (const result of run.results) expect(run.tool.driver.rules[result.ruleIndex].id).toBe(result.ruleId);
    for (const rule of run.tool.driver.rules) {
      expect(['none', 'note', 'warning', 'error']).toContain(rule.defaultConfiguration.level);
      expect(rule.name).toMatch(/^[A-Z][A-Za-z]+$/);
    }
  });

  it('tells new, known and waived findings apart', () => {
    const by = (rule: string) => run.results.find((result: { ruleId: string }) => result.ruleId === rule);
    expect(by('view.owner-rights')).toMatchObject({ level: 'error', baselineState: 'new', partialFingerprints: { 'partywall/v1': open.fingerprint } });
    expect(by('tenant.no-index').baselineState).toBe('unchanged');
    expect(by('index.invalid').suppressions).toEqual([{ kind: 'external', status: 'accepted', justification: 'rebuilt on Sunday (until 2026-11-30)' }]);
    expect(by('view.owner-rights').locations[0].physicalLocation.artifactLocation.uri).toBe('partywall.config.ts');
  });

  it('says that it could not run', () => {
    const silent = JSON.parse(JSON.stringify(toSarif({ ...sound, couldNotRun: report.couldNotRun })));
    expect(silent.runs[0].invocations[0]).toMatchObject({ executionSuccessful: false, exitCode: 2 });
    expect(silent.runs[0].invocations[0].toolExecutionNotifications[0].message.text).toBe('could not run (direct) on public.t: no row to attack');
  });
});

describe('JUnit', () => {
  const xml = toJunit(report);

  it('is well-formed whatever the names are', () => {
    expect(xml).toContain('public.&quot;a&lt;b&gt;&amp;&apos;\u{FFFD}$$&quot; reads as &quot;postgres&quot;');
    const tags = [...xml.matchAll(/<(\/?)([a-z-]+)[^<>]*?(\/?)>/g)].filter(([, , , single]) => single === '');
    const stack: string[] = [];
    for (const [, closes, name = ''] of tags) {
      if (closes) expect(stack.pop()).toBe(name);
      else stack.push(name);
    }
    expect(stack).toEqual([]);
  });

  it('counts failures, errors and skips by suite', () => {
    expect(xml).toContain('<testsuite name="partywall catalog" tests="3" failures="1" errors="0" skipped="0">');
    expect(xml).toContain('<testsuite name="partywall direct" tests="2" failures="0" errors="1" skipped="1">');
    expect(xml).toContain('<testsuite name="partywall isolation" tests="3" failures="1" errors="0" skipped="1">');
    expect(xml).toContain('<error message="could not run" type="could-not-run">public.t: no row to attack</error>');
  });

  it('has an error for a surface of which nothing ran', () => {
    const lost = toJunit({ ...sound, couldNotRun: [{ surface: 'pooler', rules: [], target: 'role app', reason: 'ECONNREFUSED' }] });
    expect(lost).toContain('<testsuite name="partywall could not run" tests="1" failures="0" errors="1" skipped="0">');
  });
});
