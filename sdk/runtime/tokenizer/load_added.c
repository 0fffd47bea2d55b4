/* load_added.c - tokens that are found in the text before the model sees it: reading and indexing.
 */
#include "json/json.h"
#include "tokenizer/load.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_ADDED_BYTES = 4096, MAX_ADDED = 1 << 20 };

/* ---- added tokens -------------------------------------------------------------------------------
 */

/* The vocabulary's id wins where the content is a piece already, as in the reference. */
sqz_status load_added(const loader *l, const char *content, int64_t id, const cJSON *flags,
                      int special)
{
    tokenizer *t = l->t;
    int64_t n = content ? (int64_t)strlen(content) : 0;
    if (!n) return SQZ_OK;
    if (n > MAX_ADDED_BYTES || t->n_added >= MAX_ADDED)
        return err_set(l->err, ERR_MODEL, "%s: added token \"%.60s\": at most %d of %d bytes",
                       l->file, content, MAX_ADDED, MAX_ADDED_BYTES);
    int32_t known = vocab_find(t->model.vocab, content, n);
    if (known < 0) {
        sqz_status st = vocab_name_id(t->model.vocab, content, n, id, l->err);
        if (st != SQZ_OK) return st;
    }
    if ((t->n_added & (t->n_added - 1)) == 0) { /* room doubles at powers of two */
        size_t room = t->n_added ? 2 * (size_t)t->n_added : 1;
        added_token *more = realloc(t->added, room * sizeof *more);
        if (!more) return load_no_memory(l);
        t->added = more;
    }
    if (!t->added_names && !(t->added_names = trie_new())) return load_no_memory(l);
    if (!trie_add(t->added_names, content, n, (int32_t)t->n_added)) return load_no_memory(l);
    char *copy = strdup(content);
    if (!copy) return load_no_memory(l);
    special = json_bool(flags, "special", special);
    t->added[t->n_added++] = (added_token){
        .content = copy,
        .n = n,
        .id = known >= 0 ? known : (int32_t)id,
        .single_word = json_bool(flags, "single_word", 0),
        .lstrip = json_bool(flags, "lstrip", 0),
        .rstrip = json_bool(flags, "rstrip", 0),
        .normalized = json_bool(flags, "normalized", !special),
        .special = special,
    };
    return SQZ_OK;
}

int load_has_added(const tokenizer *t, const char *content)
{
    return t->added_names && tokenizer_added(t, content, (int64_t)strlen(content)) != NULL;
}

sqz_status load_added_list(const loader *l, const cJSON *list)
{
    const cJSON *item;
    sqz_status st = SQZ_OK;
    cJSON_ArrayForEach(item, list)
    {
        const char *content = json_str(item, "content", NULL);
        if (!content)
            return err_set(l->err, ERR_MODEL, "%s: an added token has no \"content\"", l->file);
        if (!load_has_added(l->t, content))
            st = load_added(l, content, json_int(item, "id", -1), item, 0);
        if (st != SQZ_OK) return st;
    }
    return SQZ_OK;
}

/* Tokens that say so are searched for, and decoded, in the form the normalizer gives them. */
static sqz_status search_token(const loader *l, added_token *a)
{
    tokenizer *t = l->t;
    sqz_status st = SQZ_OK;
    t->segment.n = 0;
    text_add(&t->segment, a->content, a->n);
    if (t->segment.failed) return load_no_memory(l);
    if (a->normalized) st = normalizer_run(t->normalizer, &t->segment, l->err);
    if (st != SQZ_OK) return st;
    a->n_shown = t->segment.n;
    a->shown = malloc((size_t)a->n_shown + 1);
    if (!a->shown) return load_no_memory(l);
    if (a->n_shown) memcpy(a->shown, t->segment.at, (size_t)a->n_shown);
    added_set *set = a->normalized ? t->normalized : t->raw;
    return added_set_add(set, a->shown, a->n_shown, a) ? SQZ_OK : load_no_memory(l);
}

sqz_status load_index_added(const loader *l)
{
    tokenizer *t = l->t;
    int64_t size = vocab_size(t->model.vocab);
    t->raw = added_set_new();
    t->normalized = added_set_new();
    t->added_of = malloc((size_t)size * sizeof *t->added_of);
    if (!t->raw || !t->normalized || !t->added_of) return load_no_memory(l);
    for (int64_t i = 0; i < size; i++) t->added_of[i] = -1;
    for (int special = 1; special >= 0; special--) /* of equal texts the special token wins */
        for (int64_t i = 0; i < t->n_added; i++) {
            if (t->added[i].special != special) continue;
            sqz_status st = search_token(l, &t->added[i]);
            if (st != SQZ_OK) return st;
            t->added_of[t->added[i].id] = (int32_t)i;
        }
    return SQZ_OK;
}
