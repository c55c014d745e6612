-- Attempts on other tenants raise a security event, one for each source.
alter table partywall_control.alert_rules drop constraint alert_rules_metric_check;
-- Which metrics there are is said in metrics.ts alone; what no metric is called is measured by nobody.
alter table partywall_control.alert_rules add constraint alert_rules_metric_check check (metric ~ '^[a-z][a-z0-9_]{0,59}$');
insert into partywall_control.alert_rules
  (name, title, metric, quota, warning, critical, window_minutes, min_calls, for_minutes, clear_minutes, enabled) values
  ('cross_tenant', 'Attempts on other tenants', 'cross_tenant_attempts', null, 1, 5, 60, 0, 0, 0, true);
