/* shared.c - small things that several subcommands need: the catalogue and the registry as the
 * options name them, the model as the user wrote it, output that --json silences. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include "io/file.h"
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_threads(const cli *c)
{
    return (int)cli_int(c, "threads");
}
uint64_t cli_seed(const cli *c)
{
    return (uint64_t)cli_int(c, "seed");
}

int cli_json_stdout(const cli *c)
{
    const char *file = cli_text(c, "json");
    return file && strcmp(file, "-") == 0;
}

void cli_say(const cli *c, const char *fmt, ...)
{
    if (cli_json_stdout(c)) return;
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n >= 0 && isatty(STDOUT_FILENO)) /* names and labels in it are not ours */
        print_styled(stdout, text);
    else if (n >= 0)
        fwrite(text, 1, (size_t)n, stdout);
    if (n >= 0) free(text);
}

char *cli_absolute(const char *path)
{
    char *real = realpath(path, NULL);
    return real ? real : path_format("%s", path);
}

sqz_status cli_catalogue(const cli *c, catalogue **out, sqz_error *err)
{
    catalogue_options o = {0};
    o.n_paths = cli_list(c, "plugin-path", &o.paths);
    sqz_status s = catalogue_open(&o, out, err);
    for (int i = 0; !s && i < catalogue_problems(*out); i++) {
        const char *file, *why;
        catalogue_problem(*out, i, &file, &why);
        terminal_log(SQZ_LOG_DEBUG, "plugin %s: %s", file, why);
    }
    return s;
}

char *cli_registry_dir(const cli *c)
{
    const char *dir = cli_text(c, "registry");
    return dir ? path_format("%s", dir) : registry_default_dir();
}

sqz_status cli_registry(const cli *c, registry **out, sqz_error *err)
{
    char *dir = cli_registry_dir(c);
    sqz_status s = registry_open(dir, out, err);
    free(dir);
    return s;
}

/* ---- parameters of a plugin ------------------------------------------------------------------ */
/* The row of a parameter in the agent's description, or NULL; a may be NULL. */
static const cJSON *find_param(const agent_info *a, const char *name)
{
    const cJSON *p;
    if (!a) return NULL;
    cJSON_ArrayForEach(p, a->params) if (strcmp(json_str(p, "name", ""), name) == 0) return p;
    return NULL;
}

/* A value as typed on the command line: the parameter's own default says whether it is text. */
static cJSON *typed_value(const cJSON *param, const char *text)
{
    const char *type = json_str(param, "type", "");
    if (param && (strcmp(type, "text") == 0 || strcmp(type, "choice") == 0))
        return cJSON_CreateString(text);
    cJSON *v = cJSON_Parse(text);
    if (v && (cJSON_IsNumber(v) || cJSON_IsBool(v))) return v;
    cJSON_Delete(v);
    return cJSON_CreateString(text);
}

static sqz_status add_param(cJSON *with, const agent_info *a, const char *option, const char *pair,
                            sqz_error *err)
{
    const char *equals = strchr(pair, '=');
    if (!equals || equals == pair)
        return err_set(err, ERR_USAGE, "--%s %s: write name=value", option, pair);
    char *name = path_format("%.*s", (int)(equals - pair), pair);
    cJSON_DeleteItemFromObjectCaseSensitive(with, name);
    cJSON_AddItemToObject(with, name, typed_value(find_param(a, name), equals + 1));
    free(name);
    return SQZ_OK;
}

sqz_status cli_params(const cli *c, const char *option, const agent_info *a, cJSON *with,
                      sqz_error *err)
{
    const char *const *pairs;
    int n = cli_list(c, option, &pairs);
    sqz_status s = SQZ_OK;
    for (int i = 0; i < n && !s; i++) s = add_param(with, a, option, pairs[i], err);
    return s;
}

/* ---- whole files and stdin ------------------------------------------------------------------- */
static sqz_status read_stdin(char **data, int64_t *bytes, sqz_error *err)
{
    size_t size = 0, room = 1 << 16, got;
    char *text = malloc(room + 1);
    while (text && (got = fread(text + size, 1, room - size, stdin)) > 0) {
        size += got;
        if (size == room) {
            char *grown = realloc(text, (room *= 2) + 1);
            if (!grown) free(text);
            text = grown;
        }
    }
    if (!text) return err_set(err, SQZ_E_NOMEM, "no memory for stdin");
    text[size] = 0;
    *data = text;
    *bytes = (int64_t)size;
    return SQZ_OK;
}

sqz_status read_text(const char *file, char **data, int64_t *bytes, sqz_error *err)
{
    if (strcmp(file, "-") == 0) return read_stdin(data, bytes, err);
    sqz_status s = file_read(file, (int64_t)1 << 32, data, bytes, err);
    return s && s != SQZ_E_NOMEM ? err_set(err, ERR_MODEL, "%s", err->text) : s;
}

/* ---- MODEL ----------------------------------------------------------------------------------- */
typedef struct row_search {
    const char *digest;
    char *model;
} row_search;

static int find_row(void *ctx, const artifact_row *row, cJSON *tags)
{
    row_search *r = ctx;
    (void)tags;
    if (strcmp(row->digest, r->digest) != 0) return 0;
    if (row->model) r->model = path_format("%s", row->model);
    return 1;
}

/* MODEL as an artifact of the registry; SQZ_E_UNSUPPORTED when it is none. */
static sqz_status resolve_artifact(const cli *c, const char *word, model_ref *out, sqz_error *err)
{
    char *dir = cli_registry_dir(c);
    int exists = path_is_dir(dir);
    int digest = strncmp(word, "sha256:", 7) == 0;
    sqz_status s = SQZ_OK;
    if (!exists)
        s = digest ? err_set(err, ERR_MODEL, "%s: the registry %s does not exist", word, dir)
                   : SQZ_E_UNSUPPORTED;
    free(dir);
    if (!s) s = cli_registry(c, &out->registry, err);
    if (s) return s;
    sqz_error why = {0};
    if (artifact_resolve(out->registry, word, out->digest, &why)) {
        registry_close(out->registry);
        out->registry = NULL;
        return digest ? err_set(err, ERR_MODEL, "%s", why.text) : SQZ_E_UNSUPPORTED;
    }
    row_search r = {out->digest, NULL};
    s = artifact_list(out->registry, find_row, &r, err);
    if (!s && (!r.model || !path_exists(r.model)))
        s = err_set(err, ERR_MODEL, "%s: its source model %s is not there any more", word,
                    r.model ? r.model : "(not recorded)");
    out->folder = r.model;
    if (s) model_ref_free(out);
    return s;
}

sqz_status model_ref_open(const cli *c, const char *word, model_ref *out, sqz_error *err)
{
    *out = (model_ref){0};
    if (path_is_dir(word) || (path_exists(word) && gguf_is_path(word))) {
        out->folder = cli_absolute(word);
        return SQZ_OK;
    }
    if (!gguf_is_path(word) && !path_exists(word)) {
        sqz_status s = resolve_artifact(c, word, out, err);
        if (s != SQZ_E_UNSUPPORTED) return s;
        if (hub_is_name(word)) return cli_model_folder(word, HUB_MODEL, &out->folder, err);
    }
    return subject_check_path(word, err);
}

void model_ref_free(model_ref *m)
{
    if (m->registry) registry_close(m->registry);
    free(m->folder);
    *m = (model_ref){0};
}

/* ---- a model inside this process ------------------------------------------------------------- */
static void host_log(void *ctx, int level, const char *agent, const char *text)
{
    (void)ctx;
    terminal_log(level, "%s: %s", agent, text);
}

static int host_tick(void *ctx, double done, const char *what)
{
    (void)ctx;
    progress_update(done, what);
    return signals_count() > 0;
}

int in_process_tick(void *ctx, double done, const char *what)
{
    return host_tick(ctx, done, what);
}

sqz_status in_process_open(const cli *c, const char *word, int resident, in_process *out,
                           sqz_error *err)
{
    *out = (in_process){0};
    sqz_status s = model_ref_open(c, word, &out->ref, err);
    if (!s) s = cli_catalogue(c, &out->catalogue, err);
    if (!s) {
        host_hooks hooks = {.log = host_log, .tick = host_tick};
        out->host = host_new(&hooks);
        s = backend_open(out->catalogue, out->host, &out->backend, err);
    }
    if (!s) {
        subject_options o = {.catalogue = out->catalogue,
                             .host = out->host,
                             .backend = &out->backend,
                             .registry = out->ref.registry,
                             .model = out->ref.folder,
                             .artifact = out->ref.digest[0] ? out->ref.digest : NULL,
                             .compute = cli_text(c, "compute"),
                             .resident = resident,
                             .memory_limit =
                                 cli_given(c, "max-memory") ? cli_int(c, "max-memory") : 0};
        s = subject_open(&o, &out->subject, err);
    }
    if (!s) s = subject_model(out->subject, &out->model, err);
    if (!s) model_set_tick(out->model, in_process_tick, NULL);
    if (s) in_process_close(out);
    return s;
}

void in_process_close(in_process *p)
{
    if (p->subject) subject_close(p->subject);
    backend_close(&p->backend);
    if (p->host) host_free(p->host);
    if (p->catalogue) catalogue_close(p->catalogue);
    model_ref_free(&p->ref);
    *p = (in_process){0};
}

const char *compute_word(int32_t compute)
{
    return compute == SQZ_BF16 ? "bf16" : "fp32";
}
