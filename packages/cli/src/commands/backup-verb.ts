import type { Command } from 'commander';

/** The command that the verbs of backups are below, wherever the first of them is registered. */
export function backupCommand(program: Command): Command {
  return (
    program.commands.find((command) => command.name() === 'backup') ??
    program.command('backup').summary('Back up tenants, look at backups, prove them.').description('Backups of all tenants, stored by tenant.')
  );
}
