/* place.c - names, the environment's settings and the cache's layout, as huggingface_hub has them.
 */
#include "hub/parts.h"
#include "io/file.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- names ----------------------------------------------------------------------------------- */

int hub_is_hex(const char *text, size_t n)
{
    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

/* One part of owner/name: letters, digits, "-", "_", "."; as the hub allows them. */
static int part_ok(const char *p, size_t n)
{
    if (n < 1 || n > 96 || !isalnum((unsigned char)p[0])) {
        if (n < 1 || p[0] != '_') return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)p[i]) && !strchr("-_.", p[i])) return 0;
        if (i && p[i] == p[i - 1] && (p[i] == '-' || p[i] == '.')) return 0; /* -- and .. */
    }
    return p[n - 1] != '-' && p[n - 1] != '.';
}

int hub_path_safe(const char *path)
{
    size_t n = strlen(path), depth = 0;
    if (!n || n > 1000 || path[0] == '/' || path[n - 1] == '/') return 0;
    for (const char *at = path; at; depth++) {
        const char *slash = strchr(at, '/');
        size_t length = slash ? (size_t)(slash - at) : strlen(at);
        if (length < 1 || length > 200 || depth > 8) return 0;
        if (at[0] == '.' && (length == 1 || (length == 2 && at[1] == '.'))) return 0;
        for (size_t i = 0; i < length; i++)
            if ((unsigned char)at[i] < 0x20 || at[i] == 0x7F || at[i] == '\\') return 0;
        at = slash ? slash + 1 : NULL;
    }
    return 1;
}

static int revision_ok(const char *r)
{
    for (const char *p = r; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_./", *p)) return 0;
    return strlen(r) < 128 && r[0] != '-' && hub_path_safe(r) && !strstr(r, "..");
}

int hub_parse(const char *text, int dataset, hub_repo *out)
{
    const char *slash = strchr(text, '/'), *at = strchr(text, '@');
    size_t n = at ? (size_t)(at - text) : strlen(text);
    if (!slash || (at && slash > at) || n >= HUB_NAME) return 0;
    size_t owner = (size_t)(slash - text);
    if (!part_ok(text, owner) || !part_ok(slash + 1, n - owner - 1)) return 0;
    if (at && !revision_ok(at + 1)) return 0;
    *out = (hub_repo){.dataset = dataset};
    memcpy(out->id, text, n);
    snprintf(out->revision, sizeof out->revision, "%s", at ? at + 1 : "main");
    return 1;
}

int hub_is_name(const char *text)
{
    hub_repo r;
    return hub_parse(text, 0, &r);
}

/* ---- the environment ------------------------------------------------------------------------- */

static const char *setting(const char *name, const char *old)
{
    const char *v = getenv(name);
    if ((!v || !*v) && old) v = getenv(old);
    return v && *v ? v : NULL;
}

static int flag(const char *name)
{
    const char *v = setting(name, NULL);
    return v && (!strcasecmp(v, "1") || !strcasecmp(v, "true") || !strcasecmp(v, "yes") ||
                 !strcasecmp(v, "on"));
}

static char *home_folder(void)
{
    const char *home = setting("HF_HOME", NULL), *cache = setting("XDG_CACHE_HOME", NULL);
    if (home) return path_format("%s", home);
    if (cache) return path_format("%s/huggingface", cache);
    home = setting("HOME", NULL);
    return path_format("%s/.cache/huggingface", home ? home : "/root");
}

/* The token without white space around it; one with anything odd inside is none. */
static char *clean_token(const char *text)
{
    while (isspace((unsigned char)*text)) text++;
    size_t n = strlen(text);
    while (n && isspace((unsigned char)text[n - 1])) n--;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= 0x20 || (unsigned char)text[i] >= 0x7F) return NULL;
    return n && n < 4096 ? path_format("%.*s", (int)n, text) : NULL;
}

static char *find_token(const char *home)
{
    const char *given = setting("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN");
    const char *file = setting("HF_TOKEN_PATH", NULL);
    char *text = NULL, *token = NULL;
    if (given) return clean_token(given);
    if (flag("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return NULL;
    char *path = file ? path_format("%s", file) : path_format("%s/token", home);
    if (file_read(path, 8192, &text, NULL, NULL) == SQZ_OK) token = clean_token(text);
    free(text);
    free(path);
    return token;
}

sqz_status hub_place_open(const hub_repo *repo, hub_place *p, sqz_error *err)
{
    const char *endpoint = setting("HF_ENDPOINT", NULL), *timeout;
    const char *cache = setting("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE");
    char *home = home_folder(), *name = path_format("%s", repo->id), *slash = strchr(name, '/');
    *p = (hub_place){.endpoint = path_format("%s", endpoint ? endpoint : "https://huggingface.co")};
    for (size_t n = strlen(p->endpoint); n && p->endpoint[n - 1] == '/';) p->endpoint[--n] = 0;
    p->cache = cache ? path_format("%s", cache) : path_format("%s/hub", home);
    *slash = 0;
    const char *kind = repo->dataset ? "datasets" : "models";
    p->folder = path_format("%s/%s--%s--%s", p->cache, kind, name, slash + 1);
    p->locks = path_format("%s/.locks/%s--%s--%s", p->cache, kind, name, slash + 1);
    p->token = find_token(home);
    const char *sqz = getenv("SQZ_OFFLINE");
    p->offline = flag("HF_HUB_OFFLINE") || flag("TRANSFORMERS_OFFLINE") ||
                 (sqz && *sqz && strcmp(sqz, "0") != 0);
    timeout = setting("HF_HUB_DOWNLOAD_TIMEOUT", NULL);
    p->timeout_s = timeout ? strtod(timeout, NULL) : 20;
    if (!(p->timeout_s >= 1 && p->timeout_s <= 3600)) p->timeout_s = 20;
    free(home);
    free(name);
    if (strncasecmp(p->endpoint, "http://", 7) == 0 || strncasecmp(p->endpoint, "https://", 8) == 0)
        return SQZ_OK;
    sqz_status s = err_set(err, ERR_USAGE, "HF_ENDPOINT \"%s\" must begin with https:// or http://",
                           p->endpoint);
    hub_place_free(p);
    return s;
}

void hub_place_free(hub_place *p)
{
    free(p->endpoint);
    free(p->token);
    free(p->cache);
    free(p->folder);
    free(p->locks);
    *p = (hub_place){0};
}

/* ---- the cache ------------------------------------------------------------------------------- */

int hub_cached_commit(const hub_place *p, const hub_repo *repo, char commit[41])
{
    char *path = NULL, *text = NULL;
    int ok = 0;
    if (hub_is_hex(repo->revision, 40)) {
        memcpy(commit, repo->revision, 41);
        ok = 1;
    } else {
        path = path_format("%s/refs/%s", p->folder, repo->revision);
        if (file_read(path, 256, &text, NULL, NULL) == SQZ_OK) {
            text[strcspn(text, " \t\r\n")] = 0;
            ok = hub_is_hex(text, 40);
            if (ok) memcpy(commit, text, 41);
        }
    }
    free(text);
    free(path);
    return ok;
}

char *hub_snapshot(const hub_place *p, const char *commit)
{
    return path_format("%s/snapshots/%s", p->folder, commit);
}

static sqz_status make_parent(const char *path, sqz_error *err)
{
    char *dir = path_format("%.*s", (int)(strrchr(path, '/') - path), path);
    sqz_status s = dir_make(dir, err);
    free(dir);
    return s;
}

sqz_status hub_write_ref(const hub_place *p, const hub_repo *repo, const char *commit,
                         sqz_error *err)
{
    char known[41];
    if (hub_cached_commit(p, repo, known) && !strcmp(known, commit)) return SQZ_OK;
    char *path = path_format("%s/refs/%s", p->folder, repo->revision);
    sqz_status s = make_parent(path, err);
    if (!s) s = file_write(path, commit, 40, err);
    free(path);
    return s;
}

sqz_status hub_link(const hub_place *p, const char *commit, const char *file, const char *etag,
                    sqz_error *err)
{
    char *path = path_format("%s/snapshots/%s/%s", p->folder, commit, file);
    char *up = path_format("%s", ""), *target, *temp = NULL;
    for (const char *c = file; (c = strchr(c, '/')); c++) {
        char *more = path_format("../%s", up);
        free(up);
        up = more;
    }
    target = path_format("%s../../blobs/%s", up, etag);
    sqz_status s = make_parent(path, err);
    if (!s) {
        temp = file_temp_name(path);
        if (symlink(target, temp) || rename(temp, path)) {
            s = err_set(err, ERR_STORAGE, "%s: cannot be linked: %s", path, strerror(errno));
            unlink(temp);
        }
    }
    free(temp);
    free(target);
    free(up);
    free(path);
    return s;
}
