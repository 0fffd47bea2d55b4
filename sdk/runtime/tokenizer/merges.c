/* merges.c - see merges.h. */
#include "tokenizer/merges.h"
#include <stdlib.h>

enum { MAX_PIECE = 512 }; /* bytes; keeps hostile files from hours of cutting */

static int add(merge_list *m, piece_merge one)
{
    if (m->n == m->room) {
        int64_t room = m->room ? 2 * m->room : 1024;
        piece_merge *more = realloc(m->at, (size_t)room * sizeof *more);
        if (!more) return 0;
        m->at = more;
        m->room = room;
    }
    m->at[m->n++] = one;
    return 1;
}

/* Every cut of the piece into two pieces. */
static sqz_status cut_piece(const vocab *v, const piece_entry *p, int32_t id, merge_list *out,
                            sqz_error *err)
{
    if (p->n > MAX_PIECE)
        return err_set(err, ERR_MODEL, "%s: piece %d has %lld bytes; at most %d", vocab_file(v),
                       (int)id, (long long)p->n, MAX_PIECE);
    for (int32_t i = 1; i < p->n; i++) {
        if (((uint8_t)p->text[i] & 0xC0) == 0x80) continue; /* inside a character */
        int32_t left = vocab_find(v, p->text, i);
        int32_t right = left < 0 ? -1 : vocab_find(v, p->text + i, p->n - i);
        if (right >= 0 && !add(out, (piece_merge){id, left, right, i, p->score}))
            return err_set(err, SQZ_E_NOMEM, "%s: no memory for its merges", vocab_file(v));
    }
    return SQZ_OK;
}

static int by_id(const void *a, const void *b)
{
    const piece_merge *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->cut < y->cut ? -1 : x->cut > y->cut;
}

static int by_score(const void *a, const void *b)
{
    const piece_merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->cut > y->cut ? -1 : x->cut < y->cut;
}

sqz_status merges_find(const vocab *v, const piece_entry *pieces, int64_t n, merge_order order,
                       merge_list *out, sqz_error *err)
{
    *out = (merge_list){0};
    for (int64_t id = 0; id < n; id++) {
        if (order == MERGES_BY_SCORE && pieces[id].kind != PIECE_NORMAL) continue;
        sqz_status st = cut_piece(v, &pieces[id], (int32_t)id, out, err);
        if (st) return st;
    }
    if (out->n)
        qsort(out->at, (size_t)out->n, sizeof *out->at, order == MERGES_BY_ID ? by_id : by_score);
    return SQZ_OK;
}
