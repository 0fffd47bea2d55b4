/* digests.c - a hash set of digests, for marking what is alive. */
#include "store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The digest is its own hash: 15 of its digits. */
static size_t slot_of(const digest_set *s, const char *digest)
{
    char digits[16];
    memcpy(digits, digest + 7, 15);
    digits[15] = 0;
    size_t i = strtoull(digits, NULL, 16) & (s->room - 1);
    while (s->slots[i][0] && strcmp(s->slots[i], digest) != 0) i = (i + 1) & (s->room - 1);
    return i;
}

static void grow(digest_set *s)
{
    digest_set bigger = {.room = s->room ? s->room * 2 : 256};
    bigger.slots = calloc(bigger.room, sizeof *bigger.slots);
    if (!bigger.slots) memory_failed("a set of digests");
    for (size_t i = 0; i < s->room; i++)
        if (s->slots[i][0])
            memcpy(bigger.slots[slot_of(&bigger, s->slots[i])], s->slots[i], DIGEST_TEXT);
    bigger.n = s->n;
    free(s->slots);
    *s = bigger;
}

int digest_set_add(digest_set *s, const char *digest)
{
    if (!digest_valid(digest)) return 0;
    if (s->n * 2 >= s->room) grow(s);
    size_t i = slot_of(s, digest);
    if (s->slots[i][0]) return 0;
    memcpy(s->slots[i], digest, DIGEST_TEXT);
    s->n++;
    return 1;
}

int digest_set_has(const digest_set *s, const char *digest)
{
    return s->room && digest_valid(digest) && s->slots[slot_of(s, digest)][0];
}

void digest_set_free(digest_set *s)
{
    free(s->slots);
    memset(s, 0, sizeof *s);
}

void digest_set_collect(digest_set *s, const cJSON *v)
{
    if (cJSON_IsString(v)) digest_set_add(s, v->valuestring);
    for (const cJSON *c = v ? v->child : NULL; c; c = c->next) digest_set_collect(s, c);
}
