/* parquet_parts.h - what the stages of the Parquet reader hand to each other: the footer's facts,
 * and the decoded values of one column in one row group.  Private to data/parquet*.c. */
#ifndef SQZ_RUNTIME_PARQUET_PARTS_H
#define SQZ_RUNTIME_PARQUET_PARTS_H
#include "data/parquet.h"

enum {
    PQ_MAX_NODES = 8192,
    PQ_MAX_DEPTH = 32,
    PQ_MAX_GROUPS = 1 << 20,
    PQ_MAX_PAGE = 1 << 28 /* bytes of an unpacked page */
};

typedef enum pq_physical {
    PQ_BOOLEAN = 0,
    PQ_INT32 = 1,
    PQ_INT64 = 2,
    PQ_INT96 = 3,
    PQ_FLOAT = 4,
    PQ_DOUBLE = 5,
    PQ_BYTE_ARRAY = 6,
    PQ_FIXED = 7
} pq_physical;

typedef enum pq_repetition { PQ_REQUIRED = 0, PQ_OPTIONAL = 1, PQ_REPEATED = 2 } pq_repetition;

/* What a column's values mean, from its logical type or else its converted type. */
typedef enum pq_meaning {
    PQ_PLAIN, /* of a group: a struct */
    PQ_TEXT,
    PQ_LIST,
    PQ_MAP,
    PQ_DATE,
    PQ_TIME,
    PQ_TIMESTAMP,
    PQ_DECIMAL,
    PQ_UNSIGNED,
    PQ_FLOAT16,
    PQ_UUID
} pq_meaning;

typedef struct pq_node {
    char *name;
    pq_physical type;
    pq_repetition repetition;
    pq_meaning meaning;
    int32_t scale;        /* of a decimal: digits after the point; of times: units per second */
    int32_t length;       /* bytes of a FIXED value */
    int32_t parent, next; /* nodes are in depth-first order; next = first node after this subtree */
    int32_t n_children;
    int32_t max_def, max_rep;
    int32_t leaf; /* number of the column, or -1 of a group */
    int wanted;
} pq_node;

typedef struct pq_chunk { /* one column in one row group */
    pq_physical type;
    int32_t codec;
    int64_t n_values, start, bytes;
} pq_chunk;

typedef struct pq_group {
    int64_t n_rows;
    pq_chunk *chunks; /* [n_leaves] */
} pq_group;

typedef struct pq_file {
    const char *path;
    const uint8_t *data;
    int64_t bytes;
    pq_node *nodes; /* 0 is the root */
    int32_t n_nodes, n_leaves;
    int32_t *leaves; /* [n_leaves] node of each column */
    pq_group *groups;
    int64_t n_groups;
    int64_t budget; /* bytes that decoding one row group may still take */
} pq_file;

__attribute__((format(printf, 3, 4))) sqz_status pq_corrupt(const pq_file *, sqz_error *err,
                                                            const char *fmt, ...);
sqz_status pq_footer(pq_file *, sqz_error *err);
void pq_free(pq_file *);

typedef union pq_value {
    int64_t whole;
    double real;
    struct {
        const uint8_t *at;
        int64_t n;
    } bytes;
} pq_value;

typedef struct pq_column {
    const pq_node *node;
    uint8_t *def, *rep; /* [n]; NULL where the maximum is 0 */
    int64_t n, room;
    pq_value *values; /* [n_values], the ones that are not null */
    int64_t n_values, value_room;
    uint8_t **buffers; /* unpacked pages, which values point into */
    int64_t n_buffers, buffer_room;
    int64_t level, value; /* where the assembly of rows stands */
} pq_column;

/* Decodes one chunk whole. */
sqz_status pq_read_column(pq_file *, const pq_chunk *, pq_column *, sqz_error *err);
void pq_column_free(pq_column *);
/* Room for n more bytes within the budget of the row group; 0: too much. */
int pq_spend(pq_file *, int64_t n);

/* ---- encodings: 0 when the bytes do not hold what they must ---- */
/* n numbers of `width` bits in the RLE / bit-packed hybrid; *used may be NULL. */
int pq_hybrid(const uint8_t *src, int64_t n_src, int width, int64_t n, uint32_t *out);
/* DELTA_BINARY_PACKED: exactly n numbers; *used = bytes read. */
int pq_delta(const uint8_t *src, int64_t n_src, int64_t n, int64_t *out, int64_t *used);
#endif
