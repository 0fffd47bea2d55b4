/* cmd_registry.c - sqz registry ls|show|tag|verify|gc: the artifacts on this machine. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- ls -------------------------------------------------------------------------------------- */
static cJSON *row_json(const artifact_row *row, cJSON *tags)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "digest", row->digest);
    cJSON_AddStringToObject(o, "base", row->base);
    cJSON_AddStringToObject(o, "model", row->model ? row->model : "");
    cJSON_AddStringToObject(o, "label", row->label ? row->label : "");
    cJSON_AddStringToObject(o, "run", row->run ? row->run : "");
    cJSON_AddNumberToObject(o, "bytes", (double)row->bytes);
    json_add_num(o, "created", row->created);
    cJSON *steps = row->steps_json ? cJSON_Parse(row->steps_json) : NULL;
    if (steps) cJSON_AddItemToObject(o, "steps", steps);
    cJSON_AddItemToObject(o, "tags", tags ? cJSON_Duplicate(tags, 1) : cJSON_CreateArray());
    return o;
}

static void join_tags(cJSON *tags, char *out, size_t size)
{
    const cJSON *t;
    *out = 0;
    cJSON_ArrayForEach(t, tags) if (cJSON_IsString(t))
        snprintf(out + strlen(out), size - strlen(out), "%s%s", *out ? "," : "", t->valuestring);
}

static int print_row(void *ctx, const artifact_row *row, cJSON *tags)
{
    cli *c = ctx;
    char size[32], when[32] = "", names[256];
    time_t t = (time_t)row->created;
    struct tm tm;
    if (localtime_r(&t, &tm)) strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
    format_size(row->bytes, size);
    join_tags(tags, names, sizeof names);
    cli_say(c, "%.19s  %10s  %-16s  %-32s %s\n", row->digest, size, when,
            row->label ? row->label : "", names);
    cJSON_AddItemToArray(json_get(c->json, "artifacts"), row_json(row, tags));
    return signals_count() > 0;
}

static sqz_status ls(cli *c, sqz_error *err)
{
    registry *r;
    sqz_status s = cli_registry(c, &r, err);
    if (s) return s;
    cJSON_AddStringToObject(c->json, "registry", registry_dir(r));
    cJSON *rows = cJSON_AddArrayToObject(c->json, "artifacts");
    cli_say(c, "%s%-19s  %10s  %-16s  %-32s %s%s\n", term_on(stdout, TERM_BOLD), "DIGEST", "BYTES",
            "MADE", "LABEL", "TAGS", term_off(stdout));
    s = artifact_list(r, print_row, c, err);
    if (!s && !cJSON_GetArraySize(rows))
        terminal_log(SQZ_LOG_INFO, "%s holds no artifacts yet", registry_dir(r));
    registry_close(r);
    return s;
}

/* ---- show ------------------------------------------------------------------------------------ */
typedef struct wanted {
    const char *digest;
    cJSON *row;
} wanted;

static int take_row(void *ctx, const artifact_row *row, cJSON *tags)
{
    wanted *w = ctx;
    if (strcmp(row->digest, w->digest) != 0) return 0;
    w->row = row_json(row, tags);
    return 1;
}

static sqz_status show(cli *c, sqz_error *err)
{
    registry *r;
    char digest[DIGEST_TEXT];
    sqz_status s = cli_registry(c, &r, err);
    if (s) return s;
    s = artifact_resolve(r, c->args[0], digest, err);
    wanted w = {digest, NULL};
    if (!s) s = artifact_list(r, take_row, &w, err);
    cJSON *manifest = s ? NULL : artifact_manifest(r, digest, err);
    if (!s && !manifest) s = err->code == SQZ_E_NOMEM ? SQZ_E_NOMEM : ERR_STORAGE;
    if (!s) {
        cJSON_AddItemToObject(c->json, "artifact", w.row ? w.row : cJSON_CreateObject());
        cJSON_AddItemToObject(c->json, "manifest", manifest);
        char *text = json_text(c->json, 1);
        cli_say(c, "%s\n", text ? text : "");
        free(text);
    } else {
        cJSON_Delete(w.row);
    }
    registry_close(r);
    return s;
}

/* ---- tag ------------------------------------------------------------------------------------- */
static sqz_status tag(cli *c, sqz_error *err)
{
    registry *r;
    char digest[DIGEST_TEXT];
    sqz_status s = cli_registry(c, &r, err);
    if (s) return s;
    s = artifact_resolve(r, c->args[0], digest, err);
    if (!s) s = artifact_tag(r, c->args[1], digest, err);
    if (!s) {
        cli_say(c, "%s -> %s\n", c->args[1], digest);
        cJSON_AddStringToObject(c->json, "tag", c->args[1]);
        cJSON_AddStringToObject(c->json, "digest", digest);
    }
    registry_close(r);
    return s;
}

/* ---- verify, gc ------------------------------------------------------------------------------ */
static void report_json(cli *c, registry_report *rep)
{
    cJSON_AddNumberToObject(c->json, "objects", (double)rep->objects);
    cJSON_AddNumberToObject(c->json, "bytes", (double)rep->bytes);
    cJSON_AddNumberToObject(c->json, "bad", (double)rep->bad);
    cJSON_AddNumberToObject(c->json, "missing", (double)rep->missing);
    cJSON_AddNumberToObject(c->json, "removed", (double)rep->removed);
    cJSON_AddNumberToObject(c->json, "removed_bytes", (double)rep->removed_bytes);
    cJSON_AddItemToObject(c->json, "problems", rep->problems ? rep->problems : cJSON_CreateArray());
}

static sqz_status verify(cli *c, sqz_error *err)
{
    registry *r;
    registry_report rep = {0};
    char size[32];
    sqz_status s = cli_registry(c, &r, err);
    if (s) return s;
    progress_begin("verify");
    s = registry_verify(r, &rep, err);
    progress_end();
    if (!s || rep.problems) report_json(c, &rep);
    const cJSON *p;
    cJSON_ArrayForEach(p, json_get(c->json, "problems")) if (cJSON_IsString(p))
        cli_say(c, "%s\n", p->valuestring);
    format_size(rep.bytes, size);
    if (!s)
        cli_say(c, "%lld objects, %s: %lld damaged, %lld missing\n", (long long)rep.objects, size,
                (long long)rep.bad, (long long)rep.missing);
    if (!s && (rep.bad || rep.missing))
        s = err_set(err, ERR_STORAGE,
                    "%s: %lld damaged and %lld missing objects; run again what "
                    "made them, `sqz registry gc` removes what nobody needs",
                    registry_dir(r), (long long)rep.bad, (long long)rep.missing);
    registry_close(r);
    return s;
}

static const cli_option gc_options[] = {
    {"grace", CLI_SECONDS, "TIME", "1h", 0, 0, "leave alone what is younger than this"},
    {"dry-run", CLI_FLAG, NULL, NULL, 0, 0, "only count what would go"},
};

static sqz_status gc(cli *c, sqz_error *err)
{
    registry *r;
    registry_report rep = {0};
    char size[32];
    sqz_status s = cli_registry(c, &r, err);
    if (s) return s;
    progress_begin("gc");
    s = registry_gc(r, cli_real(c, "grace"), cli_flag(c, "dry-run"), &rep, err);
    progress_end();
    registry_close(r);
    if (s) {
        cJSON_Delete(rep.problems);
        return s;
    }
    report_json(c, &rep);
    format_size(rep.removed_bytes, size);
    cli_say(c, "%lld files, %s %s\n", (long long)rep.removed, size,
            cli_flag(c, "dry-run") ? "would be removed" : "removed");
    return SQZ_OK;
}

const command cmd_registry_ls = {.name = "registry ls",
                                 .arguments = "",
                                 .summary = "artifacts, newest first",
                                 .examples = "  sqz registry ls\n  sqz registry ls --json -\n",
                                 .run = ls};
const command cmd_registry_show = {.name = "registry show",
                                   .arguments = "ARTIFACT",
                                   .min_args = 1,
                                   .max_args = 1,
                                   .summary = "one artifact: record and manifest, as JSON",
                                   .details = "ARTIFACT is a digest, a unique prefix of one (6 hex "
                                              "digits or more) or a tag.",
                                   .examples = "  sqz registry show sha256:1f0c4b\n",
                                   .run = show};
const command cmd_registry_tag = {.name = "registry tag",
                                  .arguments = "ARTIFACT TAG",
                                  .min_args = 2,
                                  .max_args = 2,
                                  .summary = "give an artifact a name",
                                  .examples = "  sqz registry tag sha256:1f0c4b best-4bit\n"
                                              "  sqz eval best-4bit --dataset test.jsonl\n",
                                  .run = tag};
const command cmd_registry_verify = {.name = "registry verify",
                                     .arguments = "",
                                     .summary = "hash every object again and name the damaged ones",
                                     .details = "Exit code 7 when something is damaged or missing.",
                                     .examples = "  sqz registry verify\n",
                                     .run = verify};
const command cmd_registry_gc = {.name = "registry gc",
                                 .arguments = "",
                                 .summary = "remove objects that no artifact refers to",
                                 .examples = "  sqz registry gc --dry-run\n  sqz registry gc "
                                             "--grace 7d\n",
                                 OPTIONS(gc_options),
                                 .run = gc};
