/* thrift.c - see thrift.h. */
#include "data/thrift.h"
#include <stddef.h>

enum { MAX_DEPTH = 32 };

static uint8_t next_byte(thrift *t)
{
    if (t->failed || t->at >= t->end) {
        t->failed = 1;
        return 0;
    }
    return *t->at++;
}

static uint64_t varint(thrift *t)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b = next_byte(t);
        v |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return v;
    }
    t->failed = 1;
    return 0;
}

static int64_t zigzag(thrift *t)
{
    uint64_t v = varint(t);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

int thrift_next(thrift *t, thrift_field *f)
{
    uint8_t head = next_byte(t);
    if (t->failed || !head) return 0;
    f->type = head & 15;
    int64_t id = head >> 4 ? f->id + (head >> 4) : zigzag(t);
    if (id < 0 || id > INT16_MAX) t->failed = 1;
    f->id = (int32_t)id;
    return !t->failed;
}

int64_t thrift_int(thrift *t, int32_t type)
{
    if (type == THRIFT_I8) return (int8_t)next_byte(t);
    if (type >= THRIFT_I16 && type <= THRIFT_I64) return zigzag(t);
    t->failed = 1;
    return 0;
}

int thrift_bool(thrift *t, int32_t type)
{
    if (type != THRIFT_TRUE && type != THRIFT_FALSE) t->failed = 1;
    return type == THRIFT_TRUE;
}

const uint8_t *thrift_binary(thrift *t, int32_t type, int64_t *n)
{
    uint64_t length = type == THRIFT_BINARY ? varint(t) : 0;
    *n = 0;
    if (type != THRIFT_BINARY || t->failed || length > (uint64_t)(t->end - t->at)) {
        t->failed = 1;
        return NULL;
    }
    const uint8_t *at = t->at;
    t->at += length;
    *n = (int64_t)length;
    return at;
}

int64_t thrift_list(thrift *t, int32_t type, int32_t *element)
{
    uint8_t head = next_byte(t);
    uint64_t n = head >> 4;
    if (n == 15) n = varint(t);
    *element = head & 15;
    if (type != THRIFT_LIST || t->failed || n > (uint64_t)(t->end - t->at)) {
        t->failed = 1;
        return 0;
    }
    return (int64_t)n;
}

static void skip(thrift *t, int32_t type, int in_list, int depth)
{
    int64_t n;
    int32_t element;
    if (depth > MAX_DEPTH) {
        t->failed = 1;
        return;
    }
    switch (type) {
    case THRIFT_TRUE:
    case THRIFT_FALSE:
        if (in_list) next_byte(t);
        return;
    case THRIFT_I8:
    case THRIFT_I16:
    case THRIFT_I32:
    case THRIFT_I64: thrift_int(t, type); return;
    case THRIFT_DOUBLE:
        for (int k = 0; k < 8; k++) next_byte(t);
        return;
    case THRIFT_BINARY: thrift_binary(t, type, &n); return;
    case THRIFT_LIST:
    case THRIFT_SET:
        n = thrift_list(t, THRIFT_LIST, &element);
        for (int64_t i = 0; i < n && !t->failed; i++) skip(t, element, 1, depth + 1);
        return;
    case THRIFT_MAP: {
        uint64_t pairs = varint(t);
        uint8_t types = pairs ? next_byte(t) : 0;
        if (pairs > (uint64_t)(t->end - t->at)) t->failed = 1;
        for (uint64_t i = 0; i < pairs && !t->failed; i++) {
            skip(t, types >> 4, 1, depth + 1);
            skip(t, types & 15, 1, depth + 1);
        }
        return;
    }
    case THRIFT_STRUCT:
        for (thrift_field f = {0}; thrift_next(t, &f);) skip(t, f.type, 0, depth + 1);
        return;
    default: t->failed = 1;
    }
}

void thrift_skip(thrift *t, int32_t type)
{
    skip(t, type, 0, 0);
}
