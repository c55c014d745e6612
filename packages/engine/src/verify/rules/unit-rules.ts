import type { RuleText } from './rule-text.ts';

/** Rules about the units inside a tenant. They speak of tables whose rows belong to units by the model, and of no others. */
export const unitRules = {
  'unit.no-policy': {
    severity: 'high',
    title: 'Tables of units have their policies',
    explains: 'Without its restrictive policy a table shows every unit of a tenant to each, and takes rows for any.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'unit.changed-policy': {
    severity: 'high',
    title: 'The policies of units are as made',
    explains: 'A policy has the name of a unit’s and another body, command or role: it narrows less than the model says, or somebody else.',
    fix: 'Run `partywall apply --phase contract`.',
  },
  'unit.no-key': {
    severity: 'medium',
    title: 'The unit of a row exists, in its tenant',
    explains:
      'No foreign key leads from the unit column to the units: a row can name a unit that is not there or another tenant’s, and no context sees it but the tenant’s as a whole.',
    fix: 'alter table <table> add foreign key (<unit column>) references <units>, then `partywall apply --phase contract`',
  },
} as const satisfies Record<string, RuleText>;

/** What is tried in one unit on rows of another, both of one tenant. */
export const unitAttackRules = {
  'unit.read': {
    severity: 'high',
    title: 'A unit reads no other unit’s rows',
    explains: 'A row of one unit was seen, counted or locked in a context of another, of a unit of another tenant, or of one that does not exist.',
    fix: 'Run `partywall apply --phase contract`; the static findings of the same table say what is open.',
  },
  'unit.update': {
    severity: 'high',
    title: 'A unit updates no other unit’s rows',
    explains: 'A row of another unit, or one that belongs to the tenant as a whole, was changed inside a unit.',
    fix: 'Run `partywall apply --phase contract`; the static findings of the same table say what is open.',
  },
  'unit.delete': {
    severity: 'high',
    title: 'A unit deletes no other unit’s rows',
    explains: 'A row of another unit, or one that belongs to the tenant as a whole, was deleted inside a unit.',
    fix: 'Run `partywall apply --phase contract`; the static findings of the same table say what is open.',
  },
  'unit.insert': {
    severity: 'high',
    title: 'A unit inserts no row for another',
    explains: 'A row that names another unit, or none, was accepted inside a unit.',
    fix: 'Run `partywall apply --phase contract`: a policy’s WITH CHECK is weak.',
  },
  'unit.move': {
    severity: 'high',
    title: 'No row moves to another unit from inside one',
    explains: 'Inside a unit the unit of its own row was changed to another, or to none.',
    fix: 'Run `partywall apply --phase contract`: a policy’s WITH CHECK is weak.',
  },
  'unit.garbage': {
    severity: 'high',
    title: 'A unit of no form is refused',
    explains: 'Entering with a unit that is no key was accepted, so that the context is in no unit or in one that nobody named.',
    fix: 'Run `partywall apply --phase contract`: a function of the wall is not as installed.',
  },
} as const satisfies Record<string, RuleText>;
