/* thrift.h - reading Thrift's compact protocol from bytes that nobody vouches for.
 *
 * A reader is a cursor; the first wrong byte sets `failed`, after which every read gives zero and
 * every loop ends.  Nothing is allocated.  Left out: writing, and the types that Parquet does not
 * use (maps and sets are skipped like the rest). */
#ifndef SQZ_RUNTIME_THRIFT_H
#define SQZ_RUNTIME_THRIFT_H
#include <stdint.h>

typedef struct thrift {
    const uint8_t *at, *end;
    int failed;
} thrift;

enum {
    THRIFT_TRUE = 1,
    THRIFT_FALSE = 2,
    THRIFT_I8 = 3,
    THRIFT_I16 = 4,
    THRIFT_I32 = 5,
    THRIFT_I64 = 6,
    THRIFT_DOUBLE = 7,
    THRIFT_BINARY = 8,
    THRIFT_LIST = 9,
    THRIFT_SET = 10,
    THRIFT_MAP = 11,
    THRIFT_STRUCT = 12
};

/* The fields of one struct: `for (thrift_field f = {0}; thrift_next(t, &f);)`.  A field whose value
 * is not read must be skipped. */
typedef struct thrift_field {
    int32_t id, type;
} thrift_field;
int thrift_next(thrift *, thrift_field *);
void thrift_skip(thrift *, int32_t type);

int64_t thrift_int(thrift *, int32_t type); /* I8 to I64; anything else fails */
int thrift_bool(thrift *, int32_t type);    /* of a struct's field: the type is the value */
const uint8_t *thrift_binary(thrift *, int32_t type, int64_t *n);
/* Number of elements and their type; each element takes at least one byte, so that the number is
 * bounded by what is left. */
int64_t thrift_list(thrift *, int32_t type, int32_t *element);
#endif
