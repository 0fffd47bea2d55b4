/* checkpoint_digest.c - the content address of a model folder.
 *
 * The digest covers the files that decide what the model computes, each by name and SHA-256, so it
 * is the same for a copy of the folder.  Digests of large files are remembered by identity (path,
 * size, times, inode) in a cache folder; a file changed in the last seconds is not remembered,
 * because a second change could carry the same time. */
#include "checkpoint/checkpoint.h"
#include "hash/sha256.h"
#include "json/json.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { WORTH_REMEMBERING = 1 << 20, SETTLED_S = 2 };

static const char *const small_files[] = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "vocab.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer.model",
    "chat_template.jinja",
    "model.safetensors.index.json",
};

/* File of the cache that remembers this file's digest; NULL when it should not be remembered. */
static char *remembered_at(const char *path, const struct stat *info, const char *cache_dir)
{
    char real[PATH_MAX], key[DIGEST_TEXT];
    if (!cache_dir || info->st_size < WORTH_REMEMBERING || !realpath(path, real)) return NULL;
    if (time(NULL) - info->st_mtim.tv_sec < SETTLED_S) return NULL;
    char *identity = path_format(
        "%s\n%lld %lld.%09ld %lld.%09ld %llu %llu", real, (long long)info->st_size,
        (long long)info->st_mtim.tv_sec, info->st_mtim.tv_nsec, (long long)info->st_ctim.tv_sec,
        info->st_ctim.tv_nsec, (unsigned long long)info->st_ino, (unsigned long long)info->st_dev);
    sha256_buffer(identity, strlen(identity), key);
    free(identity);
    return path_format("%s/%s.digest", cache_dir, key + 7);
}

static sqz_status file_digest(const char *path, const char *cache_dir, char digest[DIGEST_TEXT],
                              sqz_error *err)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return err_set(err, ERR_MODEL, "%s: cannot be read: %s", path, strerror(errno));
    char *memory = remembered_at(path, &info, cache_dir), *text = NULL;
    int64_t bytes;
    if (memory && file_read(memory, DIGEST_TEXT, &text, &bytes, NULL) == SQZ_OK) {
        int good = digest_valid(text);
        if (good) memcpy(digest, text, DIGEST_TEXT);
        free(text);
        if (good) {
            free(memory);
            return SQZ_OK;
        }
    }
    sqz_status st = sha256_file(path, digest, err);
    /* not being able to remember is no reason to fail */
    if (st == SQZ_OK && memory && dir_make(cache_dir, NULL) == SQZ_OK)
        (void)file_write(memory, digest, DIGEST_TEXT - 1, NULL);
    free(memory);
    return st;
}

static sqz_status add_file(cJSON *list, const char *dir, const char *name, const char *cache_dir,
                           sqz_error *err)
{
    char digest[DIGEST_TEXT], *path = path_format("%s/%s", dir, name);
    sqz_status st = file_digest(path, cache_dir, digest, err);
    free(path);
    if (st == SQZ_OK) cJSON_AddStringToObject(list, name, digest);
    return st;
}

/* A GGUF file is a model whole; its name is no part of it. */
static sqz_status add_gguf(cJSON *list, const char *path, const char *cache_dir, sqz_error *err)
{
    char digest[DIGEST_TEXT];
    sqz_status st = file_digest(path, cache_dir, digest, err);
    if (st == SQZ_OK) cJSON_AddStringToObject(list, "gguf", digest);
    return st;
}

/* Opens the checkpoint, so that only files which passed its checks are named and hashed. */
sqz_status checkpoint_digest(const char *dir, const char *cache_dir, char digest[72],
                             sqz_error *err)
{
    checkpoint *c;
    sqz_status st = checkpoint_open(dir, &c, err);
    if (st != SQZ_OK) return st;
    cJSON *list = cJSON_CreateObject();
    if (c->gguf) st = add_gguf(list, dir, cache_dir, err);
    for (size_t i = 0; i < sizeof small_files / sizeof *small_files && st == SQZ_OK && !c->gguf;
         i++) {
        char *path = path_format("%s/%s", dir, small_files[i]);
        if (path_exists(path)) st = add_file(list, dir, small_files[i], cache_dir, err);
        free(path);
    }
    for (int64_t i = 0; i < c->n_files && st == SQZ_OK; i++)
        st = add_file(list, dir, strrchr(c->files[i]->path, '/') + 1, cache_dir, err);
    checkpoint_close(c);
    if (st == SQZ_OK) {
        char *text = json_canonical(list);
        sha256_buffer(text, strlen(text), digest);
        free(text);
    }
    cJSON_Delete(list);
    return st;
}
