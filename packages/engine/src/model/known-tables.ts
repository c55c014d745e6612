import type { Relation } from '../catalog/catalog.ts';
import type { PlatformRule, TableRule, UnclassifiedRule } from './model.ts';
import { snake } from './words.ts';

/**
 * Tables that frameworks bring along under names of their own. What holds no tenant's data is the platform's and closed to the
 * application; what holds everybody's rows says so. Asked only for tables that do not reach a tenant by themselves.
 */
export function knownTable(relation: Relation): TableRule | undefined {
  const name = snake(relation.name);
  return frameworks.find(({ names, schemas, has, columnsMax }) => {
    if (!names.test(name) && !schemas?.includes(relation.schema)) return false;
    if (columnsMax !== undefined && relation.columns.length > columnsMax) return false;
    return has === undefined || has.every((wanted) => relation.columns.some((column) => wanted.test(snake(column.name))));
  })?.rule;
}

/** A tool's own table, whatever columns it copies from the application's. */
export function isToolTable(relation: Relation): boolean {
  return knownTable(relation) === toolRule;
}

interface Framework {
  readonly names: RegExp;
  /** Schemas that a framework keeps to itself. */
  readonly schemas?: readonly string[];
  /** Columns that a table of a common name must also have, one for each. */
  readonly has?: readonly RegExp[];
  readonly columnsMax?: number;
  readonly rule: TableRule;
}

const journal = platform('none', 'journal of migrations; holds no tenant data, and the application does not touch it');
export const toolRule = platform('none', "a tool's own bookkeeping; the application does not touch it");
const jobs = platform('write', 'jobs of all tenants: the application puts them in, and workers that take them out run as the system role');
const cache = platform('write', 'entries of all tenants, found by key; nothing in the database keeps tenants apart here');
const history = unclassified('history of all tenants, with copies of their rows inside');
const attachments = unclassified('belongs to rows of many tables, which only a (type, id) pair names');
const outbox = unclassified('events of all tenants, with their data inside');

const frameworks: readonly Framework[] = [
  {
    names: words(`schema_migration schema_migrations ar_internal_metadata data_migrations schema_info prisma_migrations drizzle_migrations
      django_migrations south_migrationhistory knex_migrations knex_migrations_lock flyway_schema_history databasechangelog databasechangeloglock
      alembic_version goose_db_version gorp_migrations schema_version schema_versions sequelize_meta sequelize_data kysely_migration
      kysely_migration_lock atlas_schema_revisions mikro_orm_migrations doctrine_migration_versions phinxlog pgmigrations refinery_schema_history
      sqlx_migrations diesel_schema_migrations ef_migrations_history typeorm_metadata yoyo_migration yoyo_log yoyo_version yoyo_lock`),
    rule: journal,
  },
  { names: /^(?:[a-z]+_){0,2}migrations?(?:_lock)?$/, has: [/^(?:name|migration|version|hash|is_locked|filename)$/], columnsMax: 6, rule: journal },
  { names: /^$/, schemas: ['drizzle', 'sqitch', 'supabase_migrations'], rule: journal },
  { names: /^(?:part_config(?:_sub)?|template_public_[a-z_]+|pghero_[a-z_]+)$/, schemas: ['hdb_catalog', 'cron', 'partman'], rule: toolRule },
  {
    names:
      /^(?:solid_queue_[a-z_]+|good_job(?:s|_[a-z_]+)|delayed_jobs|que_(?:jobs|lockers|values|scheduler_audit)|oban_(?:jobs|peers|producers)|river_(?:job|leader|queue|client|client_queue|migration)|(?:django_)?celery_[a-z_]+|procrastinate_[a-z_]+|qrtz_[a-z_]+)$/,
    schemas: ['pgboss', 'graphile_worker', 'hangfire', 'pgmq', 'dbos', 'procrastinate'],
    rule: jobs,
  },
  {
    names: /^(?:[a-z]+_){0,2}(?:jobs?|job_batches|queue|queue_items)$/,
    has: [
      /^(?:payload|args|arguments|handler|data)$/,
      /^(?:queue|queue_name|attempts|run_at|locked_at|locked_by|available_at|reserved_at|failed_at|priority)$/,
    ],
    rule: jobs,
  },
  {
    names:
      /^(?:solid_(?:cache|cable)_[a-z_]+|cache|caches|cache_locks|cache_entries|rate_limits?|rate_limiters?|rate_limiter_flexible|throttles?|rack_attack_[a-z_]+)$/,
    rule: cache,
  },
  {
    names:
      /^(?:[a-z]+_){0,3}(?:versions|audits|audit_logs?|audit_events?|audit_trails?|audit_entries|activity_logs?|history|histories|revisions|django_admin_log|logged_actions|change_logs?)$/,
    rule: history,
  },
  { names: /^(?:active_storage_[a-z_]+|action_text_rich_texts|action_mailbox_[a-z_]+|friendly_id_slugs|taggings)$/, rule: attachments },
  { names: /^(?:[a-z]+_){0,2}(?:outbox|outboxes|outbox_events?|outbox_messages?|event_store|domain_events?|webhook_events?|dead_letters?)$/, rule: outbox },
];

function words(list: string): RegExp {
  return new RegExp(`^(?:${list.split(/\s+/).join('|')})$`);
}

function platform(access: PlatformRule['access'], why: string): PlatformRule {
  return { scope: 'platform', access, why };
}

function unclassified(why: string): UnclassifiedRule {
  return { scope: 'unclassified', candidates: [], why };
}
