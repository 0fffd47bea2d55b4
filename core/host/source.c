/* source.c - see source.h. */
#include "host/source.h"
#include "data/unpack.h"
#include "host/row_line.h"
#include "io/clock.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const int64_t MAX_UNPACKED = (int64_t)16 << 30, MAX_ROWS = (int64_t)1 << 32;
static const double LOOK_S = 0.02; /* between looks for a stop */

/* ---- opening --------------------------------------------------------------------------------- */
static int ends_with(const char *text, size_t n, const char *ending)
{
    size_t k = strlen(ending);
    return n > k && !strncasecmp(text + n - k, ending, k);
}

static int32_t codec_of(const char *text)
{
    size_t n = strlen(text);
    return ends_with(text, n, ".gz")    ? CODEC_GZIP
           : ends_with(text, n, ".zst") ? CODEC_ZSTD
                                        : CODEC_NONE;
}

char *source_name(const char *text)
{
    const char *slash = strrchr(text, '/'), *name = slash && slash[1] ? slash + 1 : text;
    size_t n = strlen(name);
    int32_t codec = codec_of(name);
    return path_format("%.*s",
                       (int)(n - (codec == CODEC_GZIP   ? 3
                                  : codec == CODEC_ZSTD ? 4
                                                        : 0)),
                       name);
}

static sqz_status open_file(source *s, sqz_error *err)
{
    sqz_error own = {0};
    sqz_status st = file_map_open(s->path, &s->map, &own);
    if (st) return err_set(err, st == SQZ_E_NOMEM ? st : ERR_MODEL, "%s", own.text);
    sha256_buffer(s->map.data, (size_t)s->map.bytes, s->digest);
    s->table.data = s->map.bytes ? (const void *)s->map.data : "";
    s->table.bytes = s->map.bytes;
    int32_t codec = codec_of(s->path);
    if (codec == CODEC_NONE) return SQZ_OK;
    st = unpack_file(s->path, codec, s->map.data, s->map.bytes, MAX_UNPACKED, &s->unpacked,
                     &s->table.bytes, err);
    if (!st) s->table.data = s->unpacked ? s->unpacked : "";
    return st;
}

sqz_status source_open(const char *text, source *out, sqz_error *err)
{
    struct stat st;
    source s = {.table = {.struct_size = sizeof(sqz_source)}};
    int there = stat(text, &st) == 0, is_file = there && !S_ISDIR(st.st_mode);
    s.path = there ? realpath(text, NULL) : NULL;
    s.name = is_file ? source_name(text) : path_format("%s", text);
    sqz_status status = SQZ_OK;
    if (there && !s.path)
        status = err_set(err, ERR_MODEL, "%s: its path cannot be resolved", text);
    else if (is_file)
        status = open_file(&s, err);
    s.table.name = s.name;
    s.table.path = s.path;
    if (status)
        source_close(&s);
    else
        *out = s;
    return status;
}

void source_close(source *s)
{
    file_map_close(&s->map);
    free(s->unpacked);
    free(s->name);
    free(s->path);
    *s = (source){0};
}

/* ---- reading --------------------------------------------------------------------------------- */
/* One row by the plugin's next(); *more: there was one. */
static sqz_status next_row(agent *a, const sqz_data *t, row_line *line, int32_t *more,
                           sqz_error *err)
{
    *more = 0;
    sqz_status s = t->next(agent_host(a), agent_self(a), &line->table, more);
    if (!s && line->failure.code) s = line->failure.code; /* which the plugin kept to itself */
    if (!s) return SQZ_OK;
    if (line->failure.code && s != SQZ_E_CANCELLED)
        return err_set(err, line->failure.code, "%s: %s", agent_describe(a)->id,
                       line->failure.text);
    return agent_error(a, s, err);
}

static sqz_status read_rows(agent *a, const sqz_data *t, const char *name, source_row row,
                            void *ctx, int64_t *n, sqz_error *err)
{
    row_line line;
    const sqz_host *h = agent_host(a);
    double looked = -1;
    int32_t more = 1;
    sqz_status s = SQZ_OK;
    row_line_init(&line, h);
    for (*n = 0; !s && more;) {
        if (clock_s() - looked > LOOK_S) {
            looked = clock_s();
            if (h->tick(h, 0, name)) {
                s = err_set(err, SQZ_E_CANCELLED, "%s: stopped as asked", agent_describe(a)->id);
                break;
            }
        }
        if (!row_line_begin(&line, *n + 1))
            s = err_set(err, SQZ_E_NOMEM, "%s: no memory for a row", name);
        if (!s) s = next_row(a, t, &line, &more, err);
        if (s || !more) continue;
        if (++*n > MAX_ROWS)
            s = err_set(err, SQZ_E_INVALID, "%s: gives more than %lld rows of one source",
                        agent_describe(a)->id, (long long)MAX_ROWS);
        if (!s) s = row(ctx, line.row, err);
    }
    row_line_free(&line);
    return s;
}

sqz_status source_read(agent *a, const sqz_source *source, const cJSON *with, source_row row,
                       void *ctx, int64_t *n, sqz_error *err)
{
    const sqz_data *t = agent_extension(a, SQZ_DATA_1);
    sqz_error own = {0};
    if (!err) err = &own;
    if (!t || !t->next)
        return err_set(err, ERR_PLUGIN, "%s: offers no %s", agent_describe(a)->id, SQZ_DATA_1);
    *n = 0;
    sqz_status s = agent_call(a, (void *)source, with, err);
    if (s) return s;
    agent_enter(a);
    s = read_rows(a, t, source->name, row, ctx, n, err);
    agent_leave(a);
    return s;
}

/* ---- who reads it ---------------------------------------------------------------------------- */
static int claims(const agent_info *a, const char *name)
{
    const cJSON *facts = json_get(a->extensions, SQZ_DATA_1), *ending;
    if (!name) return json_bool(facts, "probes", 0);
    cJSON_ArrayForEach(ending,
                       json_get(facts, "endings")) if (cJSON_IsString(ending) &&
                                                       ends_with(name, strlen(name),
                                                                 ending->valuestring)) return 1;
    return 0;
}

static int better(const agent_info *a, const agent_info *b)
{
    return a->rank > b->rank || (a->rank == b->rank && strcmp(a->id, b->id) < 0);
}

int source_readers(const catalogue *c, const char *name, const agent_info **out, int room)
{
    int n = 0;
    for (int i = 0; i < catalogue_count(c); i++) {
        const agent_info *a = catalogue_at(c, i);
        if (a->shadowed || strcmp(a->kind, "data/1") != 0 || !claims(a, name)) continue;
        if (n == room && !better(a, out[n - 1])) continue;
        int at = n < room ? n++ : n - 1;
        for (; at > 0 && better(a, out[at - 1]); at--) out[at] = out[at - 1];
        out[at] = a;
    }
    return n;
}
