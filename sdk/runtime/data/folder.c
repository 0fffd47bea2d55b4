/* folder.c - see folder.h. */
#include "data/folder.h"
#include "io/file.h"
#include <ctype.h>
#include <dirent.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 5, MAX_FILES = 1 << 16 };

/* ---- names --------------------------------------------------------------------------------------
 */

static int ends_with(const char *text, size_t n, const char *ending)
{
    size_t k = strlen(ending);
    return n > k && !strncasecmp(text + n - k, ending, k);
}

/* Length of the path without .gz or .zst. */
static size_t unpacked_length(const char *path)
{
    size_t n = strlen(path);
    if (ends_with(path, n, ".gz")) return n - 3;
    return ends_with(path, n, ".zst") ? n - 4 : n;
}

data_format format_of(const char *path)
{
    static const struct {
        const char *ending;
        data_format format;
    } known[] = {{".parquet", FORMAT_PARQUET}, {".jsonl", FORMAT_JSONL}, {".ndjson", FORMAT_JSONL},
                 {".json", FORMAT_JSON},       {".csv", FORMAT_CSV},     {".tsv", FORMAT_TSV},
                 {".txt", FORMAT_TEXT}};
    size_t n = unpacked_length(path);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ends_with(path, n, known[i].ending)) return known[i].format;
    return FORMAT_NONE;
}

const char *split_meaning(const char *name)
{
    static const char *const words[][2] = {
        {"train", "train"},      {"training", "train"},    {"validation", "validation"},
        {"valid", "validation"}, {"dev", "validation"},    {"val", "validation"},
        {"test", "test"},        {"testing", "test"},      {"eval", "test"},
        {"evaluation", "test"},  {"calib", "calibration"}, {"calibration", "calibration"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(words[i][0], name)) return words[i][1];
    return name;
}

/* The last word between separators that means a split, or NULL. */
static const char *split_word(const char *name, size_t n)
{
    const char *found = NULL;
    for (size_t i = 0; i < n;) {
        char word[32];
        size_t k = 0;
        while (i + k < n && isalpha((unsigned char)name[i + k])) k++;
        if (k > 0 && k < sizeof word) {
            memcpy(word, name + i, k);
            word[k] = 0;
            const char *meaning = split_meaning(word);
            if (meaning != word) found = meaning;
        }
        i += k + 1;
    }
    return found;
}

/* SPLIT of SPLIT-00000-of-00001: how the hub names shards. */
static char *shard_split(const char *name)
{
    const char *dash = strstr(name, "-of-");
    const char *p = dash;
    if (!dash || dash - name < 7) return NULL;
    for (int k = 0; k < 5; k++)
        if (!isdigit((unsigned char)*--p)) return NULL;
    return p > name + 1 && p[-1] == '-' ? strndup(name, (size_t)(p - 1 - name)) : NULL;
}

/* Files that describe a data set and hold no rows of it. */
static int is_about(const char *name)
{
    static const char *const names[] = {"dataset_info.json", "dataset_infos.json", "state.json",
                                        "dataset_dict.json", "config.json",        "LICENSE.txt",
                                        "requirements.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcasecmp(name, names[i])) return 1;
    return !strncasecmp(name, "readme", 6) || !strncasecmp(name, "croissant", 9);
}

/* relative: path inside the folder.  Both results are malloc'd. */
static void classify(const char *relative, char **config, char **split)
{
    const char *slash = strrchr(relative, '/'), *name = slash ? slash + 1 : relative;
    const char *word = split_word(name, unpacked_length(name));
    *config = NULL;
    *split = shard_split(name);
    if (!*split && word) *split = strdup(word);
    for (const char *p = relative; (slash = strchr(p, '/')); p = slash + 1) {
        char *part = strndup(p, (size_t)(slash - p));
        word = part ? split_word(part, strlen(part)) : NULL;
        int whole = word && (!strcmp(split_meaning(part), word));
        if (!*split && word) *split = strdup(word);
        if (!*config && part && !whole && strcmp(part, "data") != 0)
            *config = part;
        else
            free(part);
    }
    if (!*config) *config = strdup("default");
    if (!*split) *split = strdup("train");
}

/* ---- scanning -----------------------------------------------------------------------------------
 */

typedef struct scan {
    char **files; /* inside the folder, sorted at the end */
    int64_t n, room;
    const char *root;
    int arrow; /* files of save_to_disk were seen */
} scan;

static sqz_status add_found(scan *s, char *relative, sqz_error *err)
{
    if (s->n == MAX_FILES) {
        free(relative);
        return err_set(err, ERR_MODEL, "%s: more than %d data files", s->root, MAX_FILES);
    }
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        char **more = realloc(s->files, (size_t)s->room * sizeof *more);
        if (!more) {
            free(relative);
            return err_set(err, SQZ_E_NOMEM, "%s: no memory for its files", s->root);
        }
        s->files = more;
    }
    s->files[s->n++] = relative;
    return SQZ_OK;
}

static sqz_status scan_folder(scan *s, const char *inside, int depth, sqz_error *err)
{
    char *path = path_format("%s%s%s", s->root, *inside ? "/" : "", inside);
    DIR *d = opendir(path);
    sqz_status st = d ? SQZ_OK : err_set(err, ERR_MODEL, "%s: cannot be read as a folder", path);
    free(path);
    for (struct dirent *e; st == SQZ_OK && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *relative = path_format("%s%s%s", inside, *inside ? "/" : "", e->d_name);
        char *full = path_format("%s/%s", s->root, relative);
        struct stat info;
        int known = stat(full, &info) == 0;
        free(full);
        s->arrow |= ends_with(e->d_name, strlen(e->d_name), ".arrow");
        if (known && S_ISDIR(info.st_mode) && depth < MAX_DEPTH) {
            st = scan_folder(s, relative, depth + 1, err);
        } else if (known && S_ISREG(info.st_mode) && format_of(e->d_name) != FORMAT_NONE &&
                   !is_about(e->d_name)) {
            st = add_found(s, relative, err);
            continue;
        }
        free(relative);
    }
    if (d) closedir(d);
    return st;
}

/* The snapshot that refs/main of a folder of the hub's cache names; NULL: it is no such folder. */
static char *snapshot_of(const char *path)
{
    char *ref = path_format("%s/refs/main", path), *commit = NULL, *snapshot = NULL;
    int64_t bytes;
    if (path_exists(ref) && file_read(ref, 256, &commit, &bytes, NULL) == SQZ_OK) {
        commit[strcspn(commit, " \t\r\n/")] = 0;
        snapshot = path_format("%s/snapshots/%s", path, commit);
        if (!*commit || *commit == '.' || !path_is_dir(snapshot)) {
            free(snapshot);
            snapshot = NULL;
        }
    }
    free(commit);
    free(ref);
    return snapshot;
}

static data_split *split_at(data_folder *f, const char *config, const char *name)
{
    for (int64_t i = 0; i < f->n_splits; i++)
        if (!strcmp(f->splits[i].config, config) && !strcmp(f->splits[i].name, name))
            return &f->splits[i];
    data_split *more = realloc(f->splits, (size_t)(f->n_splits + 1) * sizeof *more);
    if (!more) return NULL;
    f->splits = more;
    data_split *s = &more[f->n_splits];
    *s = (data_split){.config = strdup(config), .name = strdup(name), .format = FORMAT_NONE};
    if (s->config && s->name) {
        f->n_splits++;
        return s;
    }
    free(s->config);
    free(s->name);
    return NULL;
}

/* A file of a better format drops those before it; one of a worse format is left out. */
static int add_to_split(data_split *s, const char *root, const char *relative)
{
    data_format format = format_of(relative);
    if (format > s->format) return 1;
    if (format < s->format) {
        for (int64_t i = 0; i < s->n_files; i++) free(s->files[i]);
        s->n_files = 0;
        s->format = format;
    }
    char **more = realloc(s->files, (size_t)(s->n_files + 1) * sizeof *more);
    if (!more) return 0;
    s->files = more;
    s->files[s->n_files++] = path_format("%s/%s", root, relative);
    return 1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static sqz_status sort_into_splits(scan *s, data_folder *f, sqz_error *err)
{
    int ok = 1;
    if (s->n) qsort(s->files, (size_t)s->n, sizeof *s->files, by_name);
    for (int64_t i = 0; i < s->n && ok; i++) {
        char *config, *split;
        classify(s->files[i], &config, &split);
        data_split *to = config && split ? split_at(f, config, split) : NULL;
        ok = to && add_to_split(to, f->path, s->files[i]);
        free(config);
        free(split);
    }
    return ok ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory for its files", f->path);
}

sqz_status folder_scan(const char *path, data_folder *out, sqz_error *err)
{
    data_folder f = {.path = snapshot_of(path)};
    if (!f.path) f.path = path_format("%s", path);
    scan s = {.root = f.path};
    sqz_status st = scan_folder(&s, "", 0, err);
    if (st == SQZ_OK) st = sort_into_splits(&s, &f, err);
    if (st == SQZ_OK && !f.n_splits)
        st = err_set(err, s.arrow ? SQZ_E_UNSUPPORTED : ERR_MODEL,
                     s.arrow ? "%s: Arrow files of save_to_disk are not read; save it with "
                               "to_parquet or to_json"
                             : "%s: no data files in this folder (.parquet, .jsonl, .json, .csv, "
                               ".tsv, .txt)",
                     path);
    for (int64_t i = 0; i < s.n; i++) free(s.files[i]);
    free(s.files);
    if (st != SQZ_OK) {
        folder_free(&f);
        return st;
    }
    *out = f;
    return SQZ_OK;
}

void folder_free(data_folder *f)
{
    for (int64_t i = 0; i < f->n_splits; i++) {
        for (int64_t k = 0; k < f->splits[i].n_files; k++) free(f->splits[i].files[k]);
        free(f->splits[i].files);
        free(f->splits[i].config);
        free(f->splits[i].name);
    }
    free(f->splits);
    free(f->path);
    *f = (data_folder){0};
}

/* ---- finding ------------------------------------------------------------------------------------
 */

/* "a, b and c" style lists would need an end; a plain list of words is enough for a message. */
static char *words_of(const data_folder *f, const char *config)
{
    char *out = path_format("%s", "");
    for (int64_t i = 0; i < f->n_splits; i++) {
        if (config && strcmp(f->splits[i].config, config) != 0) continue;
        const char *word = config ? f->splits[i].name : f->splits[i].config;
        int seen = 0;
        for (int64_t k = 0; k < i && !config; k++) seen |= !strcmp(f->splits[k].config, word);
        if (seen || strlen(out) > 600) continue;
        char *longer = path_format("%s%s%s", out, *out ? ", " : "", word);
        free(out);
        out = longer;
    }
    return out;
}

static int has_config(const data_folder *f, const char *config)
{
    for (int64_t i = 0; i < f->n_splits; i++)
        if (!strcmp(f->splits[i].config, config)) return 1;
    return 0;
}

/* The config that is meant when none is named, or NULL. */
static const char *usual_config(const data_folder *f)
{
    int same = 1;
    for (int64_t i = 1; i < f->n_splits; i++)
        same &= !strcmp(f->splits[i].config, f->splits[0].config);
    if (same && f->n_splits) return f->splits[0].config;
    if (has_config(f, "default")) return "default";
    return has_config(f, "main") ? "main" : NULL;
}

static const data_split *find_split(const data_folder *f, const char *config, const char *name,
                                    int by_meaning)
{
    for (int64_t i = 0; i < f->n_splits; i++) {
        const data_split *s = &f->splits[i];
        if (strcmp(s->config, config) != 0) continue;
        if (!strcmp(s->name, name)) return s;
        if (by_meaning && !strcmp(split_meaning(s->name), split_meaning(name))) return s;
    }
    return NULL;
}

static const data_split *first_of(const data_folder *f, const char *config,
                                  const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        const data_split *s = find_split(f, config, names[i], 0);
        if (!s) s = find_split(f, config, names[i], 1);
        if (s) return s;
    }
    return NULL;
}

static sqz_status choose_config(const data_folder *f, const char **config, sqz_error *err)
{
    const char *given = *config;
    *config = given ? given : usual_config(f);
    if (*config && has_config(f, *config)) return SQZ_OK;
    char *words = words_of(f, NULL);
    sqz_status st = err_set(err, ERR_MODEL, "%s: %s%s%s; it has %s; write FOLDER:SUBSET:SPLIT",
                            f->path, given ? "no subset \"" : "several subsets and none named",
                            given ? given : "", given ? "\"" : "", words);
    free(words);
    return st;
}

sqz_status folder_find(const data_folder *f, const char *config, const char *split,
                       const data_split **out, sqz_error *err)
{
    static const char *const usual[] = {"test", "validation"};
    sqz_status st = choose_config(f, &config, err);
    if (st != SQZ_OK) return st;
    const data_split *s = split ? first_of(f, config, &split, 1) : first_of(f, config, usual, 2);
    int64_t in_config = 0, only = 0;
    for (int64_t i = 0; i < f->n_splits; i++)
        if (!strcmp(f->splits[i].config, config)) in_config++, only = i;
    if (!s && !split && in_config == 1) s = &f->splits[only];
    if (s) {
        *out = s;
        return SQZ_OK;
    }
    char *words = words_of(f, config);
    st = err_set(err, ERR_MODEL, "%s: no %s split; it has %s; write FOLDER:SPLIT", f->path,
                 split ? split : "test or validation", words);
    free(words);
    return st;
}

/* Adds a copy of every matching file of splits [0, n) to `to`. */
static int add_matching(const data_folder *f, int64_t n, const char *pattern, data_split *to)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < f->splits[i].n_files; k++) {
            const char *inside = f->splits[i].files[k] + strlen(f->path) + 1;
            if (fnmatch(pattern, inside, FNM_PATHNAME | FNM_PERIOD) != 0) continue;
            if (!add_to_split(to, f->path, inside)) return 0;
        }
    }
    return 1;
}

sqz_status folder_match(data_folder *f, const char *pattern, const char *split,
                        const data_split **out, sqz_error *err)
{
    int64_t n = f->n_splits;
    data_split *to = split_at(f, pattern, split ? split : "");
    *out = NULL;
    if (!to || !add_matching(f, n, pattern, to))
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for its files", f->path);
    if (to->n_files) qsort(to->files, (size_t)to->n_files, sizeof *to->files, by_name);
    if (to->n_files) {
        *out = to;
    } else { /* no split of the folder, in messages neither */
        free(to->files);
        free(to->config);
        free(to->name);
        f->n_splits--;
    }
    return SQZ_OK;
}

const data_split *folder_calibration(const data_folder *f, const char *config)
{
    static const char *const usual[] = {"calibration", "train", "validation"};
    if (choose_config(f, &config, NULL) != SQZ_OK) return NULL;
    return first_of(f, config, usual, 3);
}
