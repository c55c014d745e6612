-- A drill that fails says that a backup could not be restored: somebody is to be told.
alter table partywall_control.alert_rules drop constraint alert_rules_metric_check;
alter table partywall_control.alert_rules add constraint alert_rules_metric_check check (metric in
  ('quota', 'error_rate', 'response_time', 'connections', 'total_error_rate', 'recovery_point', 'backup_failures', 'backup_schedule', 'drill_failures'));
insert into partywall_control.alert_rules
  (name, title, metric, quota, warning, critical, window_minutes, min_calls, for_minutes, clear_minutes, enabled) values
  ('drill_failed', 'Failed restore drills in a row', 'drill_failures', null, 1, 2, 1, 0, 0, 0, true);
