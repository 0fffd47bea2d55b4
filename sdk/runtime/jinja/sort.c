/* sort.c - stable sorting by Python's order, and members named by a path ("function.name"). */
#include "jinja/builtin.h"
#include "jinja/chars.h"
#include <string.h>

static value member(run *r, value object, value key, value fallback)
{
    value v = item_get(r, object, key);
    return v.type == V_UNDEFINED && fallback.type != V_NONE ? fallback : v;
}

value attribute_path(run *r, value object, value path, value fallback)
{
    if (path.type == V_INT) return member(r, object, path, fallback);
    path = argument_str(r, "an attribute", path);
    for (int64_t at = 0; !r->failed && at <= path.n;) {
        const char *dot = memchr(path.at + at, '.', (size_t)(path.n - at));
        int64_t end = dot ? dot - path.at : path.n, index = 0, i = at;
        for (; i < end && i < at + 9 && path.at[i] >= '0' && path.at[i] <= '9'; i++)
            index = index * 10 + (path.at[i] - '0');
        value key = i == end && end > at ? value_int(index) : value_str(path.at + at, end - at);
        object = member(r, object, key, fallback);
        at = end + 1;
    }
    return object;
}

typedef struct keyed {
    value key, value;
} keyed;

/* Merges two sorted halves; equal keys keep their order. */
static void merge(run *r, keyed *at, keyed *space, int64_t n, int reverse)
{
    if (n < 2 || r->failed) return;
    int64_t half = n / 2, i = 0, k = half, out = 0;
    merge(r, at, space, half, reverse);
    merge(r, at + half, space, n - half, reverse);
    while (i < half && k < n && !r->failed) {
        int second = reverse ? value_less(r, at[i].key, at[k].key, 0)
                             : value_less(r, at[k].key, at[i].key, 0);
        space[out++] = second ? at[k++] : at[i++];
    }
    while (i < half) space[out++] = at[i++];
    memcpy(at, space, (size_t)out * sizeof *at);
}

void sort_values(run *r, list *l, value path, int reverse, int case_sensitive)
{
    keyed *all = arena_take(&r->memory, 2 * l->n * (int64_t)sizeof *all);
    if (!all) {
        render_fail(r, SQZ_E_NOMEM, "no memory to sort");
        return;
    }
    for (int64_t i = 0; i < l->n && !r->failed; i++) {
        value key = l->at[i];
        if (path.type != V_NONE) key = attribute_path(r, key, path, value_none());
        if (key.type == V_STR && !case_sensitive && !r->failed) key = str_case(r, key, CASE_LOWER);
        all[i] = (keyed){key, l->at[i]};
    }
    merge(r, all, all + l->n, l->n, reverse);
    for (int64_t i = 0; i < l->n && !r->failed; i++) l->at[i] = all[i].value;
}
