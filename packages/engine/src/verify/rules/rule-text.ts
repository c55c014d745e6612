export type Severity = 'critical' | 'high' | 'medium' | 'low';

/** What a person reads about a rule. */
export interface RuleText {
  /** Of a finding that says no other; a finding may be graded by what it is about. */
  readonly severity: Severity;
  /** What holds when the rule finds nothing. */
  readonly title: string;
  readonly explains: string;
  /** What to do, or the SQL that does it. */
  readonly fix: string;
}
