-- A job over all tenants that left some out, or saw nothing where it always did, opens an alert, one for each job.
insert into partywall_control.alert_rules
  (name, title, metric, quota, warning, critical, window_minutes, min_calls, for_minutes, clear_minutes, enabled) values
  ('jobs', 'Job over all tenants', 'job_trouble', null, 1, 3, 60, 0, 0, 0, true);
