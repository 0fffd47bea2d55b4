/* actions.c - work done once: results by the hash of everything they depend on.
 *
 * An entry carries its key and the digest of its result, so that a damaged or misplaced file is a
 * miss, never a wrong answer.  A hit refreshes the file's time; gc removes what nobody asked for.
 * Whether the objects that a result names are still there is the caller's question. */
#include "store.h"
#include "io/file.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ACTION = 256 << 20 };

void action_key(const cJSON *inputs, char key[SHA256_HEX])
{
    char digest[DIGEST_TEXT], *text = json_canonical(inputs);
    sha256_buffer(text, strlen(text), digest);
    free(text);
    memcpy(key, digest + 7, SHA256_HEX);
}

static int key_valid(const char *key)
{
    return strspn(key, "0123456789abcdef") == 64 && key[64] == 0;
}

static char *location(const registry *r, const char *key)
{
    return path_format("%s/actions/%.2s/%s.json", r->dir, key, key);
}

sqz_status action_load(const char *path, const char *key, cJSON **out, sqz_error *err)
{
    json_doc *doc;
    *out = NULL;
    sqz_status st = json_read(path, MAX_ACTION, 0, &doc, err);
    if (st != SQZ_OK) return st == SQZ_E_INVALID ? SQZ_OK : st; /* a damaged one does not count */
    const cJSON *root = json_root(doc);
    cJSON *result = json_get(root, "result");
    char digest[DIGEST_TEXT] = "";
    if (result) {
        char *text = json_canonical(result);
        sha256_buffer(text, strlen(text), digest);
        free(text);
    }
    int intact = *digest && !strcmp(json_str(root, "key", ""), key) &&
                 !strcmp(json_str(root, "digest", ""), digest);
    *out = intact ? cJSON_DetachItemViaPointer(json_root(doc), result) : NULL;
    json_free(doc);
    return SQZ_OK;
}

cJSON *action_get(const registry *r, const char *key)
{
    if (!key_valid(key)) return NULL;
    char *path = location(r, key);
    cJSON *result;
    (void)action_load(path, key, &result, NULL); /* what cannot be read is done again */
    if (result) (void)utimensat(AT_FDCWD, path, NULL, 0);
    free(path);
    return result;
}

sqz_status action_put(registry *r, const char *key, const cJSON *result, sqz_error *err)
{
    if (!key_valid(key))
        return err_set(err, SQZ_E_INVALID, "'%.80s' is not an action key (64 hex digits)", key);
    char digest[DIGEST_TEXT], *canonical = json_canonical(result);
    sha256_buffer(canonical, strlen(canonical), digest);
    char *text = path_format(
        "{\"schema\":\"sqz.action/1\",\"key\":\"%s\",\"digest\":\"%s\",\"result\":%s}\n", key,
        digest, canonical);
    char *path = location(r, key), *folder = path_format("%s/actions/%.2s", r->dir, key);
    sqz_status st = dir_make(folder, err);
    if (st == SQZ_OK) st = file_write(path, text, (int64_t)strlen(text), err);
    free(folder);
    free(path);
    free(text);
    free(canonical);
    return st;
}
