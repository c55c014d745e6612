-- A roll-out alerts by itself: what R7 calls the pager, the chat, and every step that the gates take.
insert into partywall_control.alert_rules
  (name, title, metric, quota, warning, critical, window_minutes, min_calls, for_minutes, clear_minutes, enabled) values
  ('rollout_context_errors', 'Statements refused for want of a tenant context', 'rollout_context_errors', null, 10, 10, 60, 0, 0, 5, true),
  ('rollout_p99', 'P99 of enforced statements', 'rollout_p99', null, 200, 1000, 15, 1000, 0, 5, true),
  ('rollout_gate', 'Roll-out gate', 'rollout_gates', null, 1, 1, 60, 0, 0, 5, true),
  ('rollout_step_back', 'Roll-out stepped back by itself', 'rollout_steps', null, 1, 1, 60, 0, 0, 0, true);
