/* hub.c - which files of a repository are needed, and getting them; see hub.h. */
#include "data/data.h"
#include "data/folder.h"
#include "hub/parts.h"
#include "io/disk.h"
#include "io/file.h"
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LISTING = 64 << 20, MAX_FILES = 10000 };

typedef struct listing {
    char commit[41];
    hub_file *files; /* those that are wanted */
    int64_t n;
} listing;

static void listing_free(listing *l)
{
    for (int64_t i = 0; i < l->n; i++) free(l->files[i].path);
    free(l->files);
    *l = (listing){0};
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

/* ---- which files of a model ------------------------------------------------------------------ */

static int is_model_file(const char *path, hub_want want)
{
    static const char *const tokenizers[] = {"tokenizer.json",
                                             "tokenizer_config.json",
                                             "special_tokens_map.json",
                                             "added_tokens.json",
                                             "vocab.json",
                                             "merges.txt",
                                             "vocab.txt",
                                             "tokenizer.model",
                                             "spiece.model",
                                             "chat_template.jinja",
                                             "chat_template.json"};
    if (!strcmp(path, "config.json") || !strcmp(path, "generation_config.json") ||
        !strcmp(path, "quantize_config.json"))
        return 1;
    if (want == HUB_CONFIG) return 0;
    for (size_t i = 0; i < sizeof tokenizers / sizeof *tokenizers; i++)
        if (!strcmp(path, tokenizers[i])) return 1;
    if (!strncmp(path, "additional_chat_templates/", 26)) return ends_with(path, ".jinja");
    if (want == HUB_TOKENIZER || strchr(path, '/')) return 0;
    return ends_with(path, ".safetensors") || ends_with(path, ".safetensors.index.json");
}

/* Some repositories hold the weights twice, once in another program's layout. */
static int is_second_copy(const char *path)
{
    return !strncmp(path, "consolidated", 12) || !strncmp(path, "adapter_", 8);
}

static sqz_status check_weights(const cJSON *siblings, const hub_repo *repo, sqz_error *err)
{
    const cJSON *s;
    int pickle = 0, gguf = 0;
    cJSON_ArrayForEach(s, siblings)
    {
        const char *path = json_str(s, "rfilename", "");
        if (!strchr(path, '/') && ends_with(path, ".safetensors") && !is_second_copy(path))
            return SQZ_OK;
        pickle |= ends_with(path, ".bin") || ends_with(path, ".pth") || ends_with(path, ".pt");
        gguf |= ends_with(path, ".gguf");
    }
    if (gguf)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "model \"%s\": holds GGUF files only; download one of them and give its "
                       "path",
                       repo->id);
    if (pickle)
        return err_set(err, SQZ_E_UNSUPPORTED,
                       "model \"%s\": holds pickled weights only, which execute code when they "
                       "are read; convert them with transformers (save_pretrained) to safetensors",
                       repo->id);
    return err_set(err, ERR_MODEL, "model \"%s\": holds no safetensors", repo->id);
}

/* ---- which files of a data set --------------------------------------------------------------- */

/* One part and how its files are told: by the pattern where any file matches it, else by the
 * split's name where that picks any. */
typedef struct choice {
    hub_part part;
    data_format format; /* the one that is taken */
    int by_pattern, by_split;
} choice;

typedef struct selection {
    hub_want want;   /* of a model */
    choice *choices; /* of a data set */
    int n_choices;
    int none; /* out: the data set holds no files that can be read */
} selection;

/* The subset that a path says: its first folder that is neither "data" nor a split. */
static int names_config(const char *path, const char *config)
{
    size_t n = strlen(config);
    const char *base = strrchr(path, '/');
    for (const char *at = path, *slash; (slash = strchr(at, '/')); at = slash + 1)
        if ((size_t)(slash - at) == n && !strncmp(at, config, n)) return 1;
    base = base ? base + 1 : path;
    return !strncmp(base, config, n) && strchr("-_.", base[n]);
}

static int names_split(const char *path, const char *split)
{
    char word[64];
    for (const char *at = path; *at;) {
        size_t n = strcspn(at, "/-_.");
        snprintf(word, sizeof word, "%.*s", (int)(n < 63 ? n : 63), at);
        if (n && (!strcmp(word, split) || !strcmp(split_meaning(word), split_meaning(split))))
            return 1;
        at += n + (at[n] != 0);
    }
    return 0;
}

static int is_data_file(const char *path, const choice *s)
{
    const char *config = s->part.config;
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    data_format f = format_of(path);
    if (f == FORMAT_NONE || base[0] == '.' || !strcmp(base, "dataset_infos.json") ||
        !strcmp(base, "dataset_dict.json") || !strncmp(base, "LICENSE", 7) ||
        !strncmp(base, "README", 6))
        return 0;
    if (s->by_pattern) return fnmatch(s->part.pattern, path, FNM_PATHNAME | FNM_PERIOD) == 0;
    if (config && strcmp(config, "default") != 0 && !names_config(path, config)) return 0;
    return !s->by_split || names_split(path, s->part.split);
}

/* One format is enough. */
static int find_format(const cJSON *siblings, choice *s)
{
    const cJSON *f;
    s->format = FORMAT_NONE;
    cJSON_ArrayForEach(f, siblings)
    {
        const char *path = json_str(f, "rfilename", "");
        if (is_data_file(path, s) && format_of(path) < s->format) s->format = format_of(path);
    }
    return s->format != FORMAT_NONE;
}

static int settle(const cJSON *siblings, choice *s)
{
    s->by_pattern = s->part.pattern != NULL;
    if (s->by_pattern && find_format(siblings, s)) return 1;
    s->by_pattern = 0;
    for (s->by_split = s->part.split != NULL; s->by_split >= 0; s->by_split--)
        if (find_format(siblings, s)) return 1;
    return 0;
}

static sqz_status settle_all(const cJSON *siblings, const hub_repo *repo, selection *s,
                             sqz_error *err)
{
    for (int i = 0; i < s->n_choices; i++) {
        const char *config = s->choices[i].part.config;
        if (settle(siblings, &s->choices[i])) continue;
        s->none = 1;
        return err_set(err, ERR_MODEL, "data set \"%s\": holds no data files%s%s that sqz reads",
                       repo->id, config ? " of subset " : "", config ? config : "");
    }
    return SQZ_OK;
}

static int is_wanted_data(const char *path, const selection *s)
{
    for (int i = 0; i < s->n_choices; i++)
        if (is_data_file(path, &s->choices[i]) && format_of(path) == s->choices[i].format) return 1;
    return 0;
}

/* ---- the list -------------------------------------------------------------------------------- */

static sqz_status add_file(listing *l, const cJSON *s, const hub_repo *repo, sqz_error *err)
{
    const char *path = json_str(s, "rfilename", "");
    if (!hub_path_safe(path))
        return err_set(err, ERR_MODEL, "\"%s\": lists a file whose name leads elsewhere", repo->id);
    hub_file *files = realloc(l->files, (size_t)(l->n + 1) * sizeof *files);
    if (!files) return err_set(err, SQZ_E_NOMEM, "\"%s\": no memory", repo->id);
    l->files = files;
    l->files[l->n++] = (hub_file){path_format("%s", path), json_int(s, "size", -1)};
    if (l->n > MAX_FILES)
        return err_set(err, ERR_MODEL, "\"%s\": more than %d files; name a subset and a split",
                       repo->id, MAX_FILES);
    return SQZ_OK;
}

static sqz_status choose(const cJSON *root, const hub_repo *repo, selection *s, listing *l,
                         sqz_error *err)
{
    const cJSON *siblings = json_get(root, "siblings"), *f;
    const char *commit = json_str(root, "sha", "");
    if (!hub_is_hex(commit, 40) || !cJSON_IsArray(siblings))
        return err_set(err, ERR_REMOTE,
                       "\"%s\": the server's list of files is unusable; is "
                       "HF_ENDPOINT a hub?",
                       repo->id);
    memcpy(l->commit, commit, 41);
    sqz_status st = SQZ_OK;
    if (repo->dataset)
        st = settle_all(siblings, repo, s, err);
    else if (s->want == HUB_MODEL)
        st = check_weights(siblings, repo, err);
    cJSON_ArrayForEach(f, siblings)
    {
        const char *path = json_str(f, "rfilename", "");
        int wanted = repo->dataset ? is_wanted_data(path, s)
                                   : is_model_file(path, s->want) && !is_second_copy(path);
        if (st) break;
        if (wanted) st = add_file(l, f, repo, err);
    }
    return st;
}

static sqz_status list_files(const hub_place *p, const hub_repo *repo, selection *s,
                             const hub_hooks *hooks, listing *l, sqz_error *err)
{
    hub_answer a = {.size = -1};
    json_doc *doc = NULL;
    char revision[3 * HUB_NAME] = "";
    size_t at = 0;
    for (const char *c = repo->revision; *c; c++)
        at += (size_t)snprintf(revision + at, sizeof revision - at, *c == '/' ? "%%2F" : "%c", *c);
    char *url = path_format("%s/api/%s/%s/revision/%s?blobs=true", p->endpoint,
                            repo->dataset ? "datasets" : "models", repo->id, revision);
    hub_request r = {.place = p,
                     .hooks = hooks,
                     .url = url,
                     .max_bytes = MAX_LISTING,
                     .fd = -1,
                     .what = "list of files"};
    sqz_status st = hub_exchange(&r, &a, err);
    if (!st && a.status != 200) st = hub_refused(repo, &a, "list of files", err);
    if (!st && json_parse(a.body ? a.body : "", a.bytes, 0, "list of files", &doc, err))
        st = err_set(err, ERR_REMOTE, "\"%s\": the server's list of files is unusable: %.300s",
                     repo->id, err ? err->text : "");
    if (!st) st = choose(json_root(doc), repo, s, l, err);
    if (doc) json_free(doc);
    hub_answer_free(&a);
    free(url);
    return st;
}

/* ---- getting them ---------------------------------------------------------------------------- */

static int is_here(const hub_place *p, const char *commit, const hub_file *f)
{
    char *path = path_format("%s/snapshots/%s/%s", p->folder, commit, f->path);
    int here = path_exists(path);
    free(path);
    return here;
}

static sqz_status get_files(const hub_place *p, const hub_repo *repo, const listing *l,
                            const hub_hooks *hooks, sqz_error *err)
{
    double total = 0, done = 0;
    int64_t missing = 0;
    sqz_status s = SQZ_OK;
    for (int64_t i = 0; i < l->n; i++)
        if (!is_here(p, l->commit, &l->files[i])) {
            missing++;
            total += l->files[i].size > 0 ? (double)l->files[i].size : 0;
        }
    if (missing)
        s = disk_check("the download", total, p->cache,
                       "free some space, or set HF_HOME to a larger disk", err);
    if (missing && !s && hooks && hooks->log) {
        char size[32];
        if (total < 1e6)
            snprintf(size, sizeof size, "%.0f kB", ceil(total / 1e3));
        else
            disk_amount(total, size);
        char *text = path_format("%s: downloading %lld files, %s, to %s", repo->id,
                                 (long long)missing, size, p->cache);
        hooks->log(hooks->ctx, text);
        free(text);
    }
    for (int64_t i = 0; i < l->n && !s; i++) {
        if (is_here(p, l->commit, &l->files[i])) continue;
        s = hub_file_get(p, repo, l->commit, &l->files[i], hooks, done, total, err);
        done += l->files[i].size > 0 ? (double)l->files[i].size : 0;
    }
    return s ? s : hub_write_ref(p, repo, l->commit, err);
}

static int snapshot_has_part(const char *folder, const hub_part *part)
{
    data_folder all;
    const data_split *found = NULL;
    if (!part->config && !part->split && !part->pattern) return 1; /* any files will do */
    if (folder_scan(folder, &all, NULL)) return 0;
    if (part->pattern) folder_match(&all, part->pattern, part->split, &found, NULL);
    int ok = found || !folder_find(&all, part->config, part->split, &found, NULL);
    folder_free(&all);
    return ok;
}

/* Has a snapshot of the cache what is wanted? */
static int snapshot_serves(const char *folder, const hub_repo *repo, const selection *s)
{
    static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json"};
    char *config = path_format("%s/config.json", folder);
    int ok = path_is_dir(folder) && (repo->dataset || path_exists(config));
    free(config);
    for (int i = 0; ok && i < s->n_choices; i++)
        ok = snapshot_has_part(folder, &s->choices[i].part);
    if (!ok || repo->dataset || s->want < HUB_MODEL) return ok;
    ok = 0;
    for (int i = 0; i < 2; i++) {
        char *path = path_format("%s/%s", folder, weights[i]);
        ok |= path_exists(path);
        free(path);
    }
    return ok;
}

/* The branch to which the hub converts data sets that are scripts or other formats. */
static int is_converted(const hub_repo *repo, hub_repo *converted)
{
    *converted = *repo;
    snprintf(converted->revision, sizeof converted->revision, "refs/convert/parquet");
    return repo->dataset && !strcmp(repo->revision, "main");
}

static sqz_status from_cache(const hub_place *p, const hub_repo *repo, const selection *s,
                             char **folder, sqz_error *err)
{
    char commit[41];
    hub_repo converted;
    char *path = hub_cached_commit(p, repo, commit) ? hub_snapshot(p, commit) : NULL;
    if (path && snapshot_serves(path, repo, s)) {
        *folder = path;
        return SQZ_OK;
    }
    free(path);
    if (is_converted(repo, &converted) && !from_cache(p, &converted, s, folder, NULL))
        return SQZ_OK;
    return err_set(err, ERR_MODEL,
                   "%s \"%s\": is not (whole) in the cache %s, and the network is not used "
                   "(HF_HUB_OFFLINE or SQZ_OFFLINE is set)",
                   repo->dataset ? "data set" : "model", repo->id, p->cache);
}

/* From the server; the converted branch where the main one has nothing to read. */
static sqz_status from_hub(const hub_place *p, const hub_repo *repo, selection *s,
                           const hub_hooks *hooks, char **folder, sqz_error *err)
{
    listing l = {0};
    hub_repo converted;
    sqz_status st = list_files(p, repo, s, hooks, &l, err);
    if (!st) st = get_files(p, repo, &l, hooks, err);
    if (!st) *folder = hub_snapshot(p, l.commit);
    listing_free(&l);
    if (st && s->none && is_converted(repo, &converted)) {
        sqz_error why = {0};
        sqz_status second = from_hub(p, &converted, s, hooks, folder, &why);
        if (!second || second == SQZ_E_CANCELLED || second == ERR_STORAGE) {
            if (second) *err = why;
            st = second;
        }
    }
    return st;
}

static sqz_status obtain(const hub_repo *repo, selection *s, const hub_hooks *hooks, char **folder,
                         sqz_error *err)
{
    hub_place p;
    sqz_error own = {0};
    if (!err) err = &own;
    sqz_status st = hub_place_open(repo, &p, err);
    if (st) return st;
    st = p.offline ? from_cache(&p, repo, s, folder, err)
                   : from_hub(&p, repo, s, hooks, folder, err);
    if (st == ERR_REMOTE) { /* no network: what the cache has is as good as offline */
        sqz_error why = *err;
        if (from_cache(&p, repo, s, folder, NULL) == SQZ_OK) {
            char *text =
                path_format("%s: the hub cannot be reached, the cached files are used", repo->id);
            if (hooks && hooks->log) hooks->log(hooks->ctx, text);
            free(text);
            st = SQZ_OK;
        } else {
            *err = why;
        }
    }
    hub_place_free(&p);
    return st;
}

sqz_status hub_model(const char *name, hub_want want, const hub_hooks *hooks, char **folder,
                     sqz_error *err)
{
    hub_repo repo;
    selection s = {.want = want};
    if (!hub_parse(name, 0, &repo))
        return err_set(err, ERR_USAGE, "\"%s\": no name of the form owner/name[@revision]", name);
    return obtain(&repo, &s, hooks, folder, err);
}

/* ---- data sets ------------------------------------------------------------------------------- */

sqz_status hub_data_files(const hub_repo *repo, const hub_part *parts, int n,
                          const hub_hooks *hooks, char **folder, sqz_error *err)
{
    selection s = {.choices = calloc((size_t)n, sizeof *s.choices), .n_choices = n};
    if (!s.choices) return err_set(err, SQZ_E_NOMEM, "data set \"%s\": no memory", repo->id);
    for (int i = 0; i < n; i++) s.choices[i].part = parts[i];
    sqz_status st = obtain(repo, &s, hooks, folder, err);
    free(s.choices);
    return st;
}

/* Splits [NAME=]owner/name[@rev][:config[:split]]; the parts point into `copy`. */
static int parse_dataset(const char *spec, char *copy, size_t room, const char **name,
                         hub_repo *repo, const char **config, const char **split)
{
    snprintf(copy, room, "%s", spec);
    if (strlen(spec) >= room) return 0;
    char *equals = strchr(copy, '='), *at = equals ? equals + 1 : copy;
    *name = equals ? copy : NULL;
    if (equals) *equals = 0;
    char *colon = strchr(at, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
    if (colon) *colon = 0;
    if (second) *second = 0;
    *config = second ? colon + 1 : NULL;
    *split = second ? second + 1 : NULL;
    if (colon && !second) *config = colon + 1; /* contract: name:config[:split] */
    if (*config && (!**config || !hub_path_safe(*config))) return 0;
    if (*split && (!**split || !hub_path_safe(*split))) return 0;
    return hub_parse(at, 1, repo);
}

int hub_is_dataset(const char *spec)
{
    char copy[1024];
    const char *name, *config, *split;
    hub_repo repo;
    char *local = dataset_path(spec);
    int is_local = local != NULL;
    free(local);
    return !is_local && parse_dataset(spec, copy, sizeof copy, &name, &repo, &config, &split);
}

/* The spec of the local folder; a subset without a split gets the usual one. */
static sqz_status local_spec(const char *name, const char *folder, const hub_part *s,
                             int for_calibration, char **out, sqz_error *err)
{
    data_folder all = {0};
    const data_split *usual = NULL;
    const char *split = s->split;
    sqz_status st = SQZ_OK;
    if (s->config && !split) {
        st = folder_scan(folder, &all, err);
        if (!st && for_calibration) usual = folder_calibration(&all, s->config);
        if (!st && !usual) st = folder_find(&all, s->config, NULL, &usual, err);
        if (!st) split = usual->name;
    }
    if (!st)
        *out = s->config ? path_format("%s=%s:%s:%s", name, folder, s->config, split)
               : split   ? path_format("%s=%s:%s", name, folder, split)
                         : path_format("%s=%s", name, folder);
    folder_free(&all);
    return st;
}

sqz_status hub_dataset(const char *spec, int for_calibration, const hub_hooks *hooks, char **local,
                       sqz_error *err)
{
    char copy[1024];
    const char *name, *config, *split;
    char *folder = NULL;
    hub_repo repo;
    if (!parse_dataset(spec, copy, sizeof copy, &name, &repo, &config, &split))
        return err_set(err, ERR_USAGE, "\"%s\": no name of the form owner/name[:subset[:split]]",
                       spec);
    hub_part s = {.config = config, .split = split};
    const char *meaning = config && !split ? split_meaning(config) : NULL;
    if (meaning && (!strcmp(meaning, "train") || !strcmp(meaning, "validation") ||
                    !strcmp(meaning, "test") || !strcmp(meaning, "calibration"))) {
        s.split = config; /* owner/name:test */
        s.config = NULL;
    }
    sqz_status st = hub_data_files(&repo, &s, 1, hooks, &folder, err);
    if (!st)
        st = local_spec(name ? name : strrchr(repo.id, '/') + 1, folder, &s, for_calibration, local,
                        err);
    free(folder);
    return st;
}
