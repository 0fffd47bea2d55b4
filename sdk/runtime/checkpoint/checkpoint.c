/* checkpoint.c - a model's config.json and tensors: of a folder with safetensors, single or
 * sharded, or of a GGUF file.
 *
 * Everything named by the index is checked: a shard is a file of this folder, a listed tensor is in
 * its shard.  Tensor pages are not touched.  Digests are in checkpoint_digest.c. */
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_model.h"
#include "json/json.h"
#include "tokenizer/gguf_tokenizer.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 16 << 20, MAX_INDEX = 256 << 20 };

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

/* ---- what is there --------------------------------------------------------------------------- */

static int has(const char *dir, const char *file)
{
    char *path = path_format("%s/%s", dir, file);
    int yes = path_exists(path);
    free(path);
    return yes;
}

static int ends_with(const char *text, const char *tail)
{
    size_t n = strlen(text), m = strlen(tail);
    return n >= m && !strcmp(text + n - m, tail);
}

static int is_pickle(const char *name)
{
    static const char *const endings[] = {".bin", ".bin.index.json", ".pt",
                                          ".pth", ".ckpt",           ".pkl"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_with(name, endings[i])) return 1;
    return 0;
}

/* There are no safetensors.  A pickle is a program: it is named and never opened. */
static sqz_status refuse_folder(const char *dir, sqz_error *err)
{
    char found[256] = "";
    const struct dirent *e;
    DIR *d = opendir(dir);
    while (d && (e = readdir(d)))
        if (is_pickle(e->d_name) && (!*found || strcmp(e->d_name, found) < 0))
            snprintf(found, sizeof found, "%s", e->d_name);
    if (d) closedir(d);
    if (!*found) return err_set(err, ERR_MODEL, "%s: neither " SINGLE " nor " INDEX " in it", dir);
    return err_set(
        err, ERR_MODEL,
        "%s: only %s, a pickle, which can execute code and is never read; if you trust "
        "it, convert it: python3 -c 'from transformers import AutoModelForCausalLM as M; "
        "M.from_pretrained(\"%.300s\").save_pretrained(\"NEW\", "
        "safe_serialization=True)', and copy the tokenizer's files to NEW",
        dir, found, dir);
}

/* weights_only: torch's reader that builds tensors and nothing else. */
static sqz_status refuse_pickle_file(const char *path, sqz_error *err)
{
    return err_set(
        err, ERR_MODEL,
        "%s: a pickle, which can execute code and is never read; convert it, and give the folder "
        "that then holds config.json, the tokenizer's files and model.safetensors: python3 -c "
        "'import torch, safetensors.torch as s; d = torch.load(\"%.300s\", map_location=\"cpu\", "
        "weights_only=True); s.save_file({k: v.clone().contiguous() for k, v in "
        "d.get(\"state_dict\", d).items()}, \"model.safetensors\", {\"format\": \"pt\"})'",
        path, path);
}

sqz_status checkpoint_check_path(const char *dir, sqz_error *err)
{
    if (!path_exists(dir))
        return err_set(err, ERR_MODEL,
                       "%s: no such folder; give the path of a folder with config.json and "
                       "model.safetensors, or of a .gguf file",
                       dir);
    if (path_is_dir(dir) || gguf_is_path(dir)) return SQZ_OK;
    if (is_pickle(dir)) return refuse_pickle_file(dir, err);
    return err_set(
        err, ERR_MODEL,
        "%s: is not a folder and not a .gguf file; give the folder that holds config.json", dir);
}

static sqz_status check_folder(const char *dir, sqz_error *err)
{
    if (!has(dir, "config.json"))
        return err_set(err, ERR_MODEL, "%s: no config.json in it; is this a model folder?", dir);
    if (has(dir, SINGLE) || has(dir, INDEX)) return SQZ_OK;
    return refuse_folder(dir, err);
}

/* ---- shards ---------------------------------------------------------------------------------- */

/* Resolved, the file must lie in the folder, or in the blobs/ that a Hugging Face cache snapshot
 * (<repo>/snapshots/<revision>) points to. */
static int stays_inside(const char *dir, const char *path)
{
    char folder[PATH_MAX], file[PATH_MAX];
    if (!realpath(dir, folder) || !realpath(path, file)) return 0;
    char *slash = strrchr(file, '/');
    *slash = 0;
    if (!strcmp(folder, *file ? file : "/")) return 1;
    char *snapshots = strrchr(folder, '/');
    *snapshots = 0;
    if (!ends_with(folder, "/snapshots")) return 0;
    strcpy(folder + strlen(folder) - strlen("snapshots"), "blobs");
    return !strcmp(folder, file);
}

static sqz_status add_file(checkpoint *c, const char *name, st_file **out, sqz_error *err)
{
    if (!*name || strchr(name, '/') || !strcmp(name, "..") || !strcmp(name, "."))
        return err_set(err, ERR_MODEL, "%s/" INDEX ": shard '%.200s' is not a plain file name",
                       c->dir, name);
    char *path = path_format("%s/%s", c->dir, name);
    st_file *file = NULL;
    sqz_status st = SQZ_OK;
    if (!path_exists(path))
        st =
            err_set(err, ERR_MODEL, "%s: missing, but the index names it; download it again", path);
    else if (!stays_inside(c->dir, path))
        st = err_set(err, ERR_MODEL, "%s: a link out of the model's folder", path);
    else
        st = st_open(path, &file, err);
    free(path);
    if (st != SQZ_OK) return st;
    st_file **more = realloc(c->files, (size_t)(c->n_files + 1) * sizeof *more);
    if (!more) {
        st_close(file);
        return err_set(err, SQZ_E_NOMEM, "%s: no memory for its shards", c->dir);
    }
    c->files = more;
    c->files[c->n_files++] = file;
    *out = file;
    return SQZ_OK;
}

static sqz_status find_file(checkpoint *c, const char *name, st_file **out, sqz_error *err)
{
    for (int64_t i = c->n_files - 1; i >= 0; i--)
        if (!strcmp(strrchr(c->files[i]->path, '/') + 1, name)) {
            *out = c->files[i];
            return SQZ_OK;
        }
    return add_file(c, name, out, err);
}

static sqz_status add_tensors(checkpoint *c, int64_t n, sqz_error *err)
{
    c->tensors = malloc(((size_t)n + 1) * sizeof *c->tensors);
    return c->tensors ? SQZ_OK : err_set(err, SQZ_E_NOMEM, "%s: no memory for its tensors", c->dir);
}

static sqz_status open_single(checkpoint *c, sqz_error *err)
{
    st_file *f = NULL;
    sqz_status st = add_file(c, SINGLE, &f, err);
    if (st == SQZ_OK) st = add_tensors(c, f->n, err);
    for (int64_t i = 0; st == SQZ_OK && i < f->n; i++) c->tensors[c->n_tensors++] = f->by_name[i];
    return st;
}

static sqz_status open_listed(checkpoint *c, const cJSON *weight_map, sqz_error *err)
{
    sqz_status st = add_tensors(c, cJSON_GetArraySize(weight_map), err);
    for (const cJSON *e = weight_map->child; e && st == SQZ_OK; e = e->next) {
        st_file *f = NULL;
        if (!cJSON_IsString(e))
            return err_set(err, ERR_MODEL, "%s/" INDEX ": the shard of '%.200s' is not a string",
                           c->dir, e->string);
        st = find_file(c, e->valuestring, &f, err);
        if (st != SQZ_OK) return st;
        const st_tensor *t = st_find(f, e->string);
        if (!t)
            return err_set(err, ERR_MODEL,
                           "%s: tensor '%.200s' is missing, but the index says it is "
                           "here",
                           f->path, e->string);
        c->tensors[c->n_tensors++] = t;
    }
    return st;
}

static sqz_status open_sharded(checkpoint *c, sqz_error *err)
{
    char *path = path_format("%s/" INDEX, c->dir);
    json_doc *doc;
    sqz_status st = json_read(path, MAX_INDEX, 0, &doc, err);
    if (st == SQZ_OK) {
        const cJSON *weight_map = json_get(json_root(doc), "weight_map");
        if (cJSON_IsObject(weight_map))
            st = open_listed(c, weight_map, err);
        else
            st = err_set(err, ERR_MODEL, "%s: no object 'weight_map'", path);
        json_free(doc);
    }
    free(path);
    return st;
}

/* ---- the folder ------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const st_tensor *const *)a)->name, (*(const st_tensor *const *)b)->name);
}

static sqz_status open_folder(checkpoint *c, sqz_error *err)
{
    sqz_status st = check_folder(c->dir, err);
    if (st != SQZ_OK) return st;
    char *path = path_format("%s/config.json", c->dir);
    int64_t bytes;
    st = file_read(path, MAX_CONFIG, &c->config_text, &bytes, err);
    if (st == SQZ_OK && (int64_t)strlen(c->config_text) != bytes)
        st = err_set(err, ERR_MODEL, "%s: contains zero bytes; it is not a text file", path);
    free(path);
    if (st != SQZ_OK) return st;
    return has(c->dir, INDEX) ? open_sharded(c, err) : open_single(c, err);
}

static sqz_status open_gguf(checkpoint *c, sqz_error *err)
{
    int64_t n = 0;
    sqz_status st = gguf_open(c->dir, &c->gguf, err);
    if (st == SQZ_OK) st = gguf_config(c->gguf, &c->config_text, err);
    if (st == SQZ_OK) st = gguf_tensors(c->gguf, &c->made, &c->sources, &n, err);
    if (st == SQZ_OK) st = add_tensors(c, n, err);
    if (st != SQZ_OK) return st;
    for (int64_t i = 0; i < n; i++) c->tensors[c->n_tensors++] = &c->made[i];
    return SQZ_OK;
}

static sqz_status open_parts(checkpoint *c, sqz_error *err)
{
    sqz_status st = checkpoint_check_path(c->dir, err);
    if (st == SQZ_OK) st = gguf_is_path(c->dir) ? open_gguf(c, err) : open_folder(c, err);
    if (st != SQZ_OK) return st;
    if (!c->n_tensors) return err_set(err, ERR_MODEL, "%s: the checkpoint has no tensors", c->dir);
    qsort(c->tensors, (size_t)c->n_tensors, sizeof *c->tensors, by_name);
    for (int64_t i = 0; i < c->n_tensors; i++) c->bytes += tensor_file_bytes(c->tensors[i]);
    return SQZ_OK;
}

sqz_status checkpoint_open(const char *dir, checkpoint **out, sqz_error *err)
{
    checkpoint *c = calloc(1, sizeof *c);
    if (!c) return err_set(err, SQZ_E_NOMEM, "%s: no memory to open it", dir);
    c->dir = path_format("%s", dir);
    sqz_status st = open_parts(c, err);
    if (st != SQZ_OK) {
        checkpoint_close(c);
        /* whatever cannot be read or parsed here makes the model unusable */
        if (st == SQZ_E_IO || st == SQZ_E_INVALID) st = ERR_MODEL;
        if (err) err->code = st;
        return st;
    }
    *out = c;
    return SQZ_OK;
}

static int name_against(const void *key, const void *item)
{
    return strcmp(key, (*(const st_tensor *const *)item)->name);
}

const st_tensor *checkpoint_find(const checkpoint *c, const char *name)
{
    const st_tensor **t =
        bsearch(name, c->tensors, (size_t)c->n_tensors, sizeof *c->tensors, name_against);
    return t ? *t : NULL;
}

void checkpoint_close(checkpoint *c)
{
    if (!c) return;
    for (int64_t i = 0; i < c->n_files; i++) st_close(c->files[i]);
    free(c->files);
    gguf_tensors_free(c->made, c->sources, c->n_tensors);
    gguf_close(c->gguf);
    free((void *)c->tensors);
    free(c->config_text);
    free(c->dir);
    free(c);
}

void checkpoint_drop(const checkpoint *c)
{
    for (int64_t i = 0; i < c->n_files; i++)
        file_map_drop(c->files[i]->map.data, c->files[i]->map.bytes);
    if (c->gguf) file_map_drop(c->gguf->map.data, c->gguf->map.bytes);
}

/* ---- small files ----------------------------------------------------------------------------- */
static sqz_status gguf_text(const char *path, const char *name, char **text, sqz_error *err)
{
    gguf_file *f;
    sqz_status st = gguf_open(path, &f, err);
    if (st != SQZ_OK) return st;
    if (!strcmp(name, "config.json"))
        st = gguf_config(f, text, err);
    else if (!strcmp(name, "tokenizer.json"))
        st = gguf_tokenizer(f, text, err);
    else if (!strcmp(name, "tokenizer_config.json"))
        st = gguf_tokenizer_config(f, text, err);
    gguf_close(f);
    return st;
}

sqz_status checkpoint_text(const char *dir, const char *name, int64_t max_bytes, char **text,
                           int64_t *bytes, sqz_error *err)
{
    *text = NULL;
    *bytes = 0;
    if (gguf_is_path(dir)) {
        sqz_status st = gguf_text(dir, name, text, err);
        if (st == SQZ_OK && *text) *bytes = (int64_t)strlen(*text);
        return st;
    }
    char *path = path_format("%s/%s", dir, name);
    sqz_status st = path_exists(path) ? file_read(path, max_bytes, text, bytes, err) : SQZ_OK;
    free(path);
    return st;
}
